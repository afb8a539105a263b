"""Counting: equal to torch's own counter on dense models, and true for sparse ones."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import xnets
from xnets.nn import ExpanderConv1d, ExpanderConv2d, ExpanderConv3d, ExpanderLinear


def torchs_macs(model: nn.Module, *inputs: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),  # torchvision's own metadata
    [
        ("resnet18", 11_689_512, 1.814),
        ("resnet50", 25_557_032, 4.089),
        ("densenet121", 7_978_856, 2.834),
        ("mobilenet_v3_small", 2_542_856, 0.057),
        ("alexnet", 61_100_840, 0.714),
    ],
)
def test_dense_models_equal_torchs_counter(name: str, params: int, gmacs: float) -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.get_model(name).eval()
    x = torch.randn(1, 3, 224, 224)
    counted = xnets.count(model, x)
    assert counted.params == params == sum(p.numel() for p in model.parameters())
    assert counted.macs == torchs_macs(model, x)
    assert counted.macs / 1e9 == pytest.approx(gmacs, abs=6e-4)
    assert counted.edges == 0
    tensors = [*model.parameters(), *model.buffers()]
    assert counted.bytes == sum(t.numel() * t.element_size() for t in tensors)


def test_attention_is_counted() -> None:
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).train()
    x = torch.randn(3, 5, 16)
    counted = xnets.count(encoder, x)
    # Projections and the two products of attention, and the feed-forward layers.
    assert counted.macs == 3 * (5 * 16 * 48 + 2 * 5 * 5 * 16 + 5 * 16 * 16 + 2 * 5 * 16 * 32)
    rows = {row.name: row.macs for row in counted.layers}
    assert rows["linear1"] == rows["linear2"] == 3 * 5 * 16 * 32
    assert encoder.training


@pytest.mark.parametrize("backend", ["reference", "masked", "gather"])
def test_expander_layers_count_their_edges(backend: str) -> None:
    options = {"compression": 4, "backend": backend}
    for layer, x, positions in (
        (ExpanderLinear(16, 8, **options), torch.zeros(3, 5, 16), 15),
        (ExpanderConv1d(16, 8, 3, **options), torch.zeros(2, 16, 7), 2 * 5),
        (ExpanderConv2d(16, 8, 3, stride=2, padding=1, **options), torch.zeros(2, 16, 5, 7), 24),
        (ExpanderConv2d(16, 8, 3, groups=2, **options), torch.zeros(16, 5, 7), 3 * 5),
        (ExpanderConv3d(16, 8, 1, **options), torch.zeros(1, 16, 2, 3, 4), 24),
    ):
        counted = xnets.count(layer, x)
        assert counted.macs == layer.weight.numel() * positions
        assert counted.edges == layer.num_edges
        assert counted.params == layer.weight.numel() + 8
        index_bytes = 4 * (layer.indptr.numel() + layer.indices.numel())
        assert counted.bytes == 4 * counted.params + index_bytes


def test_a_block_shares_its_index_table() -> None:
    plain, shared = (ExpanderLinear(64, 64, compression=4, block=b) for b in ((1, 1), (8, 1)))
    x = torch.zeros(1, 64)
    saved = xnets.count(plain, x).bytes - xnets.count(shared, x).bytes
    assert saved == 4 * (64 - 8) + 4 * (1024 - 128)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), ExpanderLinear(8, 8, degree=2))
        self.twin = self.body[0]
        self.scale = nn.Parameter(torch.ones(8, 8))
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor, times: int = 1) -> Tensor:
        for _ in range(times):
            x = self.dropout(self.twin(self.body(x)))
        return x @ self.scale


def test_each_operation_and_parameter_is_counted_once_and_where_it_belongs() -> None:
    counted = xnets.count(Net(), torch.zeros(1, 8))
    rows = {row.name: row for row in counted.layers}
    assert set(rows) == {"", "body.0", "body.1"}
    assert rows[""].macs == 64  # the product with `scale` is the model's own
    assert rows["body.0"].macs == 2 * 64  # shared, called twice
    assert rows["body.0"].params == 72  # shared, held once
    assert rows["body.1"].macs == 16
    assert counted.macs == 64 + 128 + 16
    twice = xnets.count(Net(), (torch.zeros(1, 8), 2))
    assert (
        twice.macs == 64 + 2 * 144 == xnets.count(Net(), {"x": torch.zeros(1, 8), "times": 2}).macs
    )


def test_the_model_is_left_as_it_was() -> None:
    net = Net().train()
    net.body.eval()
    xnets.count(net, torch.zeros(1, 8))
    assert net.training
    assert not net.body.training
    assert net.body[0].training is False
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with pytest.raises(RuntimeError):
        xnets.count(net, torch.zeros(1, 9))
    assert net.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_meta_models_cost_nothing_to_count() -> None:
    with torch.device("meta"):
        net = xnets.nn.ExpanderLinear(100_000, 100_000, degree=2)
        assert xnets.count(net, torch.empty(1, 100_000)).macs == 200_000


def test_table_and_json() -> None:
    counted = xnets.count(Net(), torch.zeros(1, 8))
    assert json.loads(json.dumps(counted.to_dict()))["macs"] == counted.macs
    lines = str(counted).splitlines()
    assert lines[0].split() == ["layer", "kind", "params", "MACs", "bytes", "edges"]
    assert lines[-1].split()[0] == "total"
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got Tensor"):
        xnets.count(torch.zeros(1), torch.zeros(1))  # type: ignore[arg-type]
