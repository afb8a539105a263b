"""What the report says, and errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import xnets
from tests.connectivity.networks import Net, conv, xconv
from xnets.connectivity import _rules
from xnets.graphs import BipartiteGraph
from xnets.nn import ExpanderConv2d, ExpanderLinear


def test_dead_and_unused_units() -> None:
    first = [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]  # input 2 unused, unit 2 dead
    second = [[0, 1, 1, 0], [0, 0, 0, 0]]  # units 0 and 3 unread, so input 1 is unused too
    layers = [
        ExpanderLinear(len(m[0]), len(m), graph=BipartiteGraph.from_mask(m))
        for m in (first, second)
    ]
    report = xnets.connectivity(nn.Sequential(*layers), torch.zeros(1, 3))
    assert [(layer.dead, layer.unused) for layer in report.layers] == [((2,), (0, 3)), ((1,), ())]
    assert report.unused_inputs == (1, 2)
    assert (report.num_dead, report.num_unused) == (2, 2)
    assert "dead units: 2; unused units: 2; unused inputs: 2 of 3" in str(report)
    assert report.layers[0].fan_in == (0, 1)


def test_zeros_cut_only_if_asked() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
    assert xnets.connectivity(layer, torch.zeros(1, 4)).layers[0].connected == 1
    report = xnets.connectivity(layer, torch.zeros(1, 4), ignore_zeros=True)
    assert report.layers[0].connected == 0.25
    pruned = nn.Sequential(conv(4, 4, groups=2), ExpanderConv2d(4, 4, 1, degree=4))
    prune.l1_unstructured(pruned[0], "weight", 6)
    with torch.no_grad():
        pruned[1].weight[:4] = 0  # all of the first output's
    report = xnets.connectivity(pruned, torch.zeros(1, 4, 2, 2), ignore_zeros=True)
    assert report.layers[0].fan_in[0] < 2
    assert report.layers[0].reach.sum() == 2
    assert report.layers[1].dead == (0,)


def test_norms_may_be_left_out() -> None:
    net = nn.Sequential(nn.LayerNorm(8), ExpanderLinear(8, 8, degree=2))
    x = torch.zeros(1, 3, 8)
    assert xnets.connectivity(net, x).layers[0].connected == 1
    assert xnets.connectivity(net, x, norms="pass").layers[0].connected == 0.25
    net = nn.Sequential(nn.GroupNorm(1, 8), xconv(8, 8))
    assert xnets.connectivity(net, torch.zeros(1, 8, 2, 2), norms="pass").layers[0].connected == (
        0.25
    )


def test_the_source_may_be_a_layer_or_the_first_sparse_one() -> None:
    net = nn.Sequential(
        conv(3, 16), conv(16, 16, 3, groups=16), conv(16, 16, groups=4), xconv(16, 8)
    )
    x = torch.zeros(1, 3, 5, 5)
    whole = xnets.connectivity(net, x)
    assert (whole.num_sources, whole.depth, whole.full_at.name) == (3, 1, "0")
    named = xnets.connectivity(net, x, source="0")
    auto = xnets.connectivity(net, x, source="auto")
    assert named.source == "units of '0'"
    assert auto.source == "inputs of '2', the first sparse layer"
    assert [layer.name for layer in named.layers] == ["1", "2", "3"]
    assert [layer.name for layer in auto.layers] == ["2", "3"]
    assert named.num_sources == auto.num_sources == 16
    assert [layer.connected for layer in auto.layers] == [0.25, named.layers[2].connected]
    assert [layer.depth for layer in named.layers] == [0, 1, 2]
    assert auto.full_at is None
    assert auto.depth is None
    assert auto.bottleneck.name == "2"
    assert auto.bottleneck.gain == pytest.approx((4 / 16 - 1 / 16) / (15 / 16))
    dense = xnets.connectivity(conv(3, 4), x, source="auto")
    assert dense.source == "channels of the input"


def test_what_lies_beside_the_source_is_left_out() -> None:
    net = Net(
        lambda n, x: n.c(n.a(x) + n.b(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4)
    )
    report = xnets.connectivity(net, torch.zeros(1, 4), source="a")
    assert [layer.name for layer in report.layers] == ["c"]


def test_groups_never_mix_and_expanders_do() -> None:
    def shares(family: str) -> list[float]:
        model = xnets.create_model("mobilenet", compression=8, family=family)
        report = xnets.connectivity(model, torch.zeros(1, 3, 32, 32), source="auto")
        return [layer.connected for layer in report.layers if layer.mixes]

    assert shares("grouped") == [1 / 8] * 12 + [1]
    expander = shares("random")
    assert expander[0] == 1 / 8
    assert expander[3:] == [1] * 10


def test_several_inputs_outputs_and_integers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.a = nn.Linear(3, 4)
            self.b = nn.Linear(4, 2)

        def forward(self, x: Tensor, tokens: Tensor) -> dict[str, list[Tensor]]:
            return {"out": [self.b(self.a(x)), self.embed(tokens)]}

    args = (torch.zeros(1, 3), torch.zeros(1, 5, dtype=torch.int64))
    report = xnets.connectivity(Two(), args)
    assert report.num_sources == report.num_inputs == 4
    shares = {layer.name: layer.connected for layer in report.layers}
    assert shares == {"a": 0.75, "b": 0.75, "embed": 0.25}
    assert report.num_unused == 0
    same = xnets.connectivity(Two(), dict(zip(("x", "tokens"), args, strict=True)))
    assert same == report


def test_complex_inputs_have_channels() -> None:
    net = Net(lambda n, x: n.a(torch.view_as_real(x).mean(-1)), a=ExpanderLinear(8, 8, degree=2))
    report = xnets.connectivity(net, torch.zeros(1, 8, dtype=torch.complex64))
    assert (report.num_sources, report.layers[0].connected) == (8, 0.25)


def test_long_running_sums_are_said_to_read_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(lambda n, x: n.a(x.cumsum(1)), a=ExpanderLinear(8, 8, degree=1))
    exact = xnets.connectivity(net, torch.zeros(1, 8))
    monkeypatch.setattr(_rules, "_MANY", 63)
    report = xnets.connectivity(net, torch.zeros(1, 8))
    assert exact.assumed_mixing == ()
    assert report.assumed_mixing[0].why == "reads all along its dimension"
    assert exact.layers[0].connected < report.layers[0].connected == 1


def test_an_unknown_operation_is_reported_and_mixes_everything() -> None:
    net = Net(
        lambda n, x: n.b(torch.linalg.matrix_exp(n.a(x))),
        a=ExpanderLinear(8, 8, degree=2, family="grouped"),
        b=ExpanderLinear(8, 8, degree=2),
    )
    report = xnets.connectivity(net, torch.zeros(1, 8, 8), dim=2)
    (assumed,) = report.assumed_mixing
    assert (assumed.op, assumed.where, assumed.why) == ("linalg_matrix_exp", "", "mixes everything")
    assert [layer.connected for layer in report.layers] == [0.25, 1]
    assert "assumed: linalg_matrix_exp in 'the model' mixes everything" in str(report)

    reader = Net(lambda n, x: n.a(x) if x.sum().item() > 9 else n.a(-x), a=nn.Linear(2, 2))
    (assumed,) = xnets.connectivity(reader, torch.zeros(1, 2)).assumed_mixing
    assert "read into Python" in assumed.why


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    xnets.connectivity(net, torch.rand(3, 4))
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError):
        xnets.connectivity(net, torch.rand(3, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_nothing_need_be_computed() -> None:
    with torch.device("meta"):
        net = nn.Sequential(
            nn.Conv2d(3, 512, 3), nn.ReLU(inplace=True), ExpanderConv2d(512, 512, 3, degree=32)
        )
        image = torch.zeros(1, 3, 32, 32)
        report = xnets.connectivity(net, image, source="auto")
    assert report.num_sources == 512
    assert report.layers[0].connected == 32 / 512
    assert report.assumed_mixing == ()


def test_report_as_text_and_json() -> None:
    net = nn.Sequential(*(ExpanderLinear(16, 16, degree=4, seed=s) for s in range(3)))
    report = xnets.connectivity(net, torch.zeros(1, 16))
    loaded = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert loaded["layers"][0]["connected"] == 0.25
    assert loaded["layers"][0]["log10_paths_min"] is None
    assert loaded["full_at"] == (report.full_at.name if report.full_at else None)
    lines = str(report).splitlines()
    assert lines[0].split()[:3] == ["layer", "kind", "depth"]
    assert lines[5] == "sources: channels of the input (16)"
    assert report == xnets.connectivity(net, torch.zeros(1, 16))


def test_almost_all_is_not_printed_as_all() -> None:
    mask = np.ones((40, 40))
    mask[0, 0] = 0
    layer = ExpanderLinear(40, 40, graph=BipartiteGraph.from_mask(mask))
    assert " 99.9% " in str(xnets.connectivity(layer, torch.zeros(1, 40)))


def test_pictures_are_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    net = nn.Sequential(*(ExpanderLinear(16, 16, degree=4, seed=s) for s in range(3)))
    report = xnets.connectivity(net, torch.zeros(1, 16))
    for path in (tmp_path / "reach.png", tmp_path / "reach.svg"):
        report.plot(path)
        assert path.stat().st_size > 1000
    no_layers = xnets.connectivity(nn.ReLU(), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"there is nothing to draw: no layer"):
        no_layers.plot(tmp_path / "none.png")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["reach.png", "reach.svg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "1a"}, r"unknown source '1a'; .*known: auto, 0, 1"),
        ({"norms": "mixed"}, r"unknown norms 'mixed'; did you mean 'mix'\? known: mix, pass"),
        ({"dim": 2}, r"`dim` \(=2\) must be a dimension of the example input of shape \(1, 4\)"),
    ],
)
def test_bad_values(options: dict[str, object], message: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(ValueError, match=message):
        xnets.connectivity(net, torch.zeros(1, 4), **options)


def test_bad_models_and_inputs() -> None:
    compiled = nn.Sequential(nn.Linear(2, 2), torch.compile(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"its module '1' is compiled or scripted: give the plain"):
        xnets.connectivity(compiled, torch.zeros(1, 2))
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got Tensor"):
        xnets.connectivity(torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match=r"`example_input` holds no tensor"):
        xnets.connectivity(nn.Linear(2, 2), {})


def test_it_loads_no_library_that_it_does_not_need() -> None:
    code = (
        "import sys, torch, xnets; xnets.connectivity(torch.nn.Linear(2, 2), torch.zeros(1, 2)); "
        "print([m for m in ('matplotlib', 'networkx', 'torchvision') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
