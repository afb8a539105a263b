"""Conversion: what is replaced, what is left and why, and what survives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import xnets
from xnets.nn import ExpanderConv1d, ExpanderConv2d, ExpanderConv3d, ExpanderLayer, ExpanderLinear


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, dilation=1, bias=False, padding_mode="circular"),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 24, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 16),
        nn.Linear(16, 10),
    )


def reasons(report: xnets.ConversionReport) -> dict[str, str]:
    return {layer.name: layer.reason for layer in report.layers}


def test_replaces_all_but_the_ends_and_the_depthwise() -> None:
    net = small_net()
    sparse, report = xnets.convert(net, compression=4)
    kinds = [type(layer).__name__ for layer in sparse]
    assert kinds == [
        "Conv2d", "ReLU", "ExpanderConv2d", "BatchNorm2d", "DepthwiseConv2d",
        "ExpanderConv2d", "AdaptiveAvgPool2d", "Flatten", "ExpanderLinear", "Linear",
    ]  # fmt: skip
    assert reasons(report) == {
        "0": "first layer", "2": "", "4": "depthwise", "5": "", "8": "", "9": "last layer",
    }  # fmt: skip
    assert [layer.compression for layer in report.converted] == [4, 4, 4]
    assert (sparse[2].stride, sparse[2].padding_mode, sparse[2].bias) == ((2, 2), "circular", None)
    assert sparse(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    kept = sum(p.numel() for p in sparse.parameters())
    assert (report.params_before, report.params_after) == (
        sum(p.numel() for p in net.parameters()),
        kept,
    )


def test_depthwise_layers_stay_what_they_are_on_other_kernels() -> None:
    net = small_net()
    called = []
    net[4].register_forward_hook(lambda *_: called.append(1))
    sparse, _ = xnets.convert(net)
    assert type(net[4]) is nn.Conv2d
    assert isinstance(sparse[4], xnets.nn.DepthwiseConv2d)
    assert torch.equal(sparse[4].weight, net[4].weight)
    assert {k: v.shape for k, v in sparse[4].state_dict().items()} == {
        k: v.shape for k, v in net[4].state_dict().items()
    }
    sparse(torch.randn(2, 3, 8, 8))
    assert called == [1]
    with pytest.warns(UserWarning, match="no layer was converted"):
        _, again = xnets.convert(sparse)
    assert reasons(again)["4"] == "depthwise"
    thin, _ = xnets.convert(xnets.nn.DepthwiseConv2d(16, 16, 3), 4)
    assert isinstance(thin, ExpanderConv2d)  # in one group there is something to thin
    unnamed, _ = xnets.convert(net, {"2": 4})
    assert type(unnamed[4]) is nn.Conv2d
    with pytest.warns(UserWarning, match="no layer was converted"):
        unchanged, _ = xnets.convert(net, where=lambda name, layer: False)
    assert type(unchanged[4]) is nn.Conv2d


def test_the_users_model_is_not_touched() -> None:
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sparse, _ = xnets.convert(net)
    for parameter in sparse.parameters():
        nn.init.zeros_(parameter)
    assert [type(layer) for layer in net] == [type(layer) for layer in small_net()]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_replaced_root_is_returned() -> None:
    sparse, report = xnets.convert(nn.Linear(64, 32), compression=8)
    assert isinstance(sparse, ExpanderLinear)
    assert report.layers[0].name == ""
    assert "(model)" in str(report)


def test_all_dimensions() -> None:
    net = nn.Sequential(nn.Conv1d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv3d(8, 8, 3), nn.Linear(8, 8))
    sparse, _ = xnets.convert(net, 2, keep_ends=False)
    kinds = [ExpanderConv1d, ExpanderConv2d, ExpanderConv3d, ExpanderLinear]
    assert [type(layer) for layer in sparse] == kinds


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.body = nn.Linear(16, 16)
        self.again = self.body
        self.listed = [self.body]  # a reference that torch does not know
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.listed[0](self.again(self.body(self.stem(x)))))


def test_shared_modules_stay_shared() -> None:
    sparse, report = xnets.convert(Shared())
    assert isinstance(sparse.body, ExpanderLinear)
    assert sparse.body is sparse.again is sparse.listed[0]
    assert [layer.name for layer in report.layers] == ["stem", "body", "head"]


def test_tied_weights_are_left() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.proj = nn.Linear(16, 16)
            self.out = nn.Linear(16, 50, bias=False)
            self.out.weight = self.embed.weight
            self.extra = nn.Linear(50, 2)

    sparse, report = xnets.convert(Tied(), keep_ends=False)
    assert sparse.out.weight is sparse.embed.weight
    assert reasons(report) == {
        "embed": "its parameters are tied to 'out'",
        "proj": "",
        "out": "its parameters are tied to 'embed'",
        "extra": "",
    }


def test_each_layer_can_have_a_compression_of_its_own() -> None:
    _, report = xnets.convert(small_net(), {"2": 2, "[25]": 4})
    assert [(layer.name, layer.compression) for layer in report.converted] == [("2", 2), ("5", 4)]
    assert reasons(report)["0"] == "first layer"
    assert reasons(report)["8"] == "not named in `compression`"
    assert not report.refused
    _, report = xnets.convert(small_net(), {"0": 4, "2": 4}, keep_ends=False)
    assert [layer.name for layer in report.refused] == ["0"]  # it has three inputs
    with pytest.raises(ValueError, match=r"unknown layer in `compression`: '7'; .*known: 0, 2, 4"):
        xnets.convert(small_net(), {"7": 4})
    with pytest.raises(ValueError, match=r"`compression` \(=0.5\) must be at least 1"):
        xnets.convert(small_net(), {"2": 0.5})


def test_where_leaves_layers_and_no_others_graph_changes() -> None:
    net = small_net()
    asked = []

    def where(name: str, module: nn.Module) -> bool:
        asked.append(name)
        return not isinstance(module, nn.Linear)

    sparse, report = xnets.convert(net, where=where)
    assert asked == ["2", "5", "8"]  # only what could be converted
    assert reasons(report)["8"] == "excluded by `where`"
    everything, _ = xnets.convert(net)
    assert everything[2].graph == sparse[2].graph
    assert everything[5].graph == sparse[5].graph


def test_execution_order_finds_the_true_ends() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 4)
            self.body = nn.Linear(16, 16)
            self.stem = nn.Linear(8, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(self.stem(x)))

    model = HeadFirst().train()
    by_order, _ = xnets.convert(model)
    assert isinstance(by_order.body, ExpanderLinear)
    _, report = xnets.convert(model, example_input=torch.zeros(1, 8))
    assert reasons(report) == {"head": "last layer", "body": "", "stem": "first layer"}
    assert model.training
    assert not model.head._forward_pre_hooks


def test_leaves_what_it_does_not_understand() -> None:
    class Same(nn.Conv2d):
        pass

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    pruned = prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5)
    net = nn.ModuleDict(
        {
            "first": nn.Linear(8, 8),
            "subclass": Same(8, 8, 3),
            "normed": normed,
            "pruned": pruned,
            "lazy": nn.LazyLinear(8),
            "grouped": nn.Conv2d(8, 8, 3, groups=2),
            "small": nn.Linear(3, 8),
            "odd": nn.Linear(9, 7),
            "transposed": nn.ConvTranspose2d(8, 8, 3),
            "embedding": nn.Embedding(8, 8),
            "attention": nn.MultiheadAttention(8, 2),
            "done": ExpanderLinear(8, 8, degree=2),
            "fits": nn.Linear(8, 8),
            "last": nn.Linear(8, 8),
        }
    )
    converted, report = xnets.convert(net, compression=4, block=(4, 1))
    said = reasons(report)
    assert said["subclass"] == "Same is not torch's own Conv2d and may compute something else"
    assert "pruned or reparametrised" in said["normed"]
    assert "pruned or reparametrised" in said["pruned"]
    assert said["lazy"] == "it has no weight yet: run the model once first"
    assert said["grouped"] == "grouped (groups=2)"
    assert said["small"] == "too small: 3 inputs are fewer than the compression"
    assert "`num_out` (=7) must be a multiple of 4" in said["odd"]
    assert said["transposed"] == "ConvTranspose2d has no expander version"
    assert said["embedding"] == "Embedding has no expander version"
    assert said["attention.out_proj"] == "MultiheadAttention reads its weight directly"
    assert said["done"] == "already an expander layer"
    assert [layer.name for layer in report.converted] == ["fits"]
    assert converted["done"].graph == net["done"].graph


def test_layers_whose_weight_the_parent_reads_are_left() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(8, 8)
            self.qkv = nn.Linear(8, 24)
            self.free = nn.Linear(24, 8)
            self.head = nn.Linear(8, 2)
            self.init_weights()

        def init_weights(self) -> None:
            nn.init.zeros_(self.free.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.free(nn.functional.linear(self.stem(x), self.qkv.weight)))

    sparse, report = xnets.convert(Reader())
    assert reasons(report)["qkv"] == "Reader reads its weight directly"
    assert isinstance(sparse.free, ExpanderLinear)
    assert sparse(torch.zeros(1, 8)).shape == (1, 2)


def test_reading_a_weight_is_seen_through_decorators_but_its_dtype_is_harmless() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(8, 8)
            self.decorated = nn.Linear(8, 8)
            self.inner = nn.Linear(8, 8)
            self.property = nn.Linear(8, 8)
            self.harmless = nn.Linear(8, 8)
            self.head = nn.Linear(8, 2)

        @torch.no_grad()
        def norm(self) -> Tensor:
            return self.decorated.weight.norm()

        @property
        def matrix(self) -> Tensor:
            return self.property.weight

        def forward(self, x: Tensor) -> Tensor:
            reads = [f() for f in (lambda: self.inner.weight,)]
            x = x.to(self.harmless.weight.dtype) + self.norm() + reads[0].sum()
            return self.head(self.harmless(self.stem(x)))

    said = reasons(xnets.convert(Reader())[1])
    assert [name for name, reason in said.items() if "directly" in reason] == [
        "decorated",
        "inner",
        "property",
    ]


def test_what_users_set_on_layers_survives_or_is_a_reason() -> None:
    net = nn.Sequential(*[nn.Linear(16, 16) for _ in range(8)])
    net[1].tag = {"stage": 2}
    net[1].weight.no_decay = True
    net[2].register_buffer("scale", torch.ones(1))
    net[3].forward = lambda x: x  # type: ignore[method-assign]
    net[4].weight.register_hook(lambda g: g)
    prune.l1_unstructured(net[5], "bias", 0.5)
    nn.init.constant_(net[6].bias, -4.6)
    sparse, report = xnets.convert(net)
    assert sparse[1].tag == {"stage": 2}
    assert sparse[1].tag is not net[1].tag
    assert sparse[1].weight.no_decay
    said = reasons(report)
    assert "buffers" in said["2"]
    assert said["3"] == "its forward was replaced"
    assert "hooks, which expect the dense shape" in said["4"]
    assert "pruned" in said["5"]
    assert sparse[6].bias.eq(-4.6).all()
    assert sparse(torch.randn(2, 16)).shape == (2, 16)


def test_every_layer_with_weights_is_named() -> None:
    net = nn.Sequential(
        nn.Linear(8, 8), nn.LSTM(8, 8), nn.MultiheadAttention(8, 2), nn.Bilinear(4, 5, 6),
        nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8),
    )  # fmt: skip
    said = reasons(xnets.convert(net)[1])
    assert said["1"] == "LSTM has no expander version"
    assert said["2"] == "MultiheadAttention has no expander version"
    assert said["3"] == "Bilinear has no expander version"
    assert "4" not in said


def test_models_that_cannot_be_copied() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])

        def __deepcopy__(self, memo: object) -> Own:
            return Own()

    with pytest.raises(TypeError, match="Linear could not be replaced: a module above it defines"):
        xnets.convert(Own())
    net = small_net()
    net.lock = threading.Lock()
    with pytest.raises(
        TypeError, match=r"`model` cannot be copied by copy\.deepcopy: cannot pickle"
    ):
        xnets.convert(net)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_torchs_transformer_runs_in_eval_mode() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2)
    sparse, report = xnets.convert(model, 1, keep_ends=False, init="copy")  # the same function
    assert {type(layer.linear1) for layer in sparse.layers} == {ExpanderLinear}
    assert len(report.converted) == 4
    x = torch.randn(3, 5, 16)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1]])
    keep = ~padding
    for mask in (None, padding):
        expected = model.train()(x, src_key_padding_mask=mask)
        with torch.no_grad():  # where torch would take its fused path
            actual = sparse.eval()(x, src_key_padding_mask=mask)
        torch.testing.assert_close(actual[keep], expected[keep])


def test_init_copy_keeps_the_weights_of_kept_edges() -> None:
    net = small_net()
    sparse, _ = xnets.convert(net, init="copy")
    for index in (2, 5, 8):
        kept = torch.from_numpy(sparse[index].graph.mask())
        dense = sparse[index].dense_weight()
        assert torch.equal(dense[kept], net[index].weight[kept])
        assert not dense[~kept].any()
        if net[index].bias is not None:
            assert torch.equal(sparse[index].bias, net[index].bias)


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (2, 2)])
def test_init_magnitude_keeps_each_outputs_strongest_inputs(block: tuple[int, int]) -> None:
    net = small_net()
    sparse, report = xnets.convert(net, init="magnitude", block=block)
    for index in (2, 5, 8):
        weight = net[index].weight.detach()
        strength = weight.square().flatten(2).sum(-1) if weight.dim() > 2 else weight.square()
        rows, columns = strength.shape[0] // block[0], strength.shape[1] // block[1]
        blocks = strength.view(rows, block[0], columns, block[1]).sum((1, 3)).numpy()
        mask = sparse[index].graph.base.mask()
        assert (mask.sum(1) == columns // 4).all()
        for row, kept in zip(blocks, mask, strict=True):
            assert row[kept].min() >= row[~kept].max()
        kept_weights = torch.from_numpy(sparse[index].graph.mask())
        assert torch.equal(sparse[index].dense_weight()[kept_weights], weight[kept_weights])
    assert {layer.seed for layer in report.converted} == {None}


def test_init_fresh_keeps_the_scale_of_the_outputs() -> None:
    for make in (
        lambda: nn.Linear(512, 512),
        lambda: nn.Conv2d(128, 256, 3, padding=1, padding_mode="circular", bias=False),
    ):
        for scale in (0.3, 5.0):  # whatever the author's initialisation is
            dense = make()
            nn.init.normal_(dense.weight, std=scale)
            if dense.bias is not None:
                nn.init.zeros_(dense.bias)
            x = torch.randn(64, 512) if dense.weight.dim() == 2 else torch.randn(4, 128, 6, 6)
            for compression in (2, 16):
                sparse, _ = xnets.convert(dense, compression)
                ratio = float((sparse(x).var() / dense(x).var()).detach())
                assert ratio == pytest.approx(1, rel=0.15)
                if dense.bias is not None:
                    assert not sparse.bias.any()
    zero = nn.Linear(64, 64)
    nn.init.zeros_(zero.weight)
    assert not xnets.convert(zero)[0].weight.any()  # a branch that starts at zero still does


def test_seeds_and_report_name_every_graph() -> None:
    net = small_net()
    one, report = xnets.convert(net, seed=3)
    same, _ = xnets.convert(net, seed=3)
    other, _ = xnets.convert(net, seed=4)
    assert [one[i].graph for i in (2, 5, 8)] == [same[i].graph for i in (2, 5, 8)]
    assert all(one[i].graph != other[i].graph for i in (2, 5, 8))
    for change, index in zip(report.converted, (2, 5, 8), strict=True):
        again = xnets.graphs.make_graph("random", *change.size, compression=4, seed=change.seed)
        assert again == one[index].graph
    # Equal layers get different graphs.
    stack, _ = xnets.convert(nn.Sequential(*[nn.Linear(32, 32) for _ in range(4)]))
    assert stack[1].graph != stack[2].graph


def test_families_and_backends() -> None:
    net = nn.Sequential(*[nn.Linear(32, 32) for _ in range(3)])
    sparse, _ = xnets.convert(net, family="grouped", backend="gather")
    np.testing.assert_array_equal(sparse[1].graph.mask(), np.kron(np.eye(4), np.ones((8, 8))))
    assert sparse[1].backend == "gather"
    # What a family cannot do is left alone, with the reason.
    net[1] = nn.Linear(32, 30)
    net[2] = nn.Linear(30, 32)
    with pytest.warns(UserWarning, match="no layer was converted"):
        _, report = xnets.convert(net, family="grouped")
    assert "nearest compressions that fit" in reasons(report)["1"]


def test_modes_dtypes_hooks_and_gradients_survive() -> None:
    net = small_net().double().eval()
    net[5].train()
    net[2].weight.requires_grad_(False)
    net[8].bias.requires_grad_(False)
    calls: list[str] = []
    net[5].register_forward_hook(lambda m, a, o: calls.append(type(m).__name__))
    net[5].register_forward_pre_hook(lambda m, a: calls.append("before"))
    net[5].register_full_backward_hook(lambda m, gi, go: calls.append("backward"))
    sparse, _ = xnets.convert(net)
    assert [layer.training for layer in sparse] == [layer.training for layer in net]
    assert not sparse[2].weight.requires_grad
    assert sparse[8].weight.requires_grad
    assert not sparse[8].bias.requires_grad
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    y = sparse(x)
    assert y.dtype == torch.float64
    y.sum().backward()
    assert calls == ["before", "ExpanderConv2d", "backward"]


def test_meta_models() -> None:
    with torch.device("meta"):
        net = small_net()
    for init in ("fresh", "copy"):
        sparse, _ = xnets.convert(net, init=init)
        assert sparse[2].weight.is_meta
        assert sparse(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 10)
    with pytest.warns(UserWarning, match="no layer was converted"):
        _, report = xnets.convert(net, init="magnitude")
    assert "needs the weights' values" in reasons(report)["2"]


def test_report_is_json_and_table() -> None:
    import json

    _, report = xnets.convert(small_net())
    assert json.loads(json.dumps(report.to_dict()))["params_after"] == report.params_after
    assert "3 of 6 layers converted" in str(report)
    assert len(report.converted) == len(report.left) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"compression": 0.5}, ValueError, r"`compression` \(=0.5\) must be at least 1"),
        ({"compression": "4"}, TypeError, r"`compression` \(='4'\) must be a number"),
        ({"family": "randm"}, ValueError, "unknown family 'randm'; did you mean 'random'"),
        ({"init": "magnitud"}, ValueError, "unknown init 'magnitud'; did you mean 'magnitude'"),
        ({"backend": "maskd"}, ValueError, "unknown backend 'maskd'; did you mean 'masked'"),
        ({"seed": -1}, ValueError, r"`seed` \(=-1\) must be at least 0"),
        ({"seed": None}, TypeError, r"`seed` \(=None\) must be an int"),
        ({"block": (0, 1)}, ValueError, r"`block\[0\]` \(=0\) must be at least 1"),
        ({"block": 4}, TypeError, r"`block` \(=4\) must be a pair"),
        ({"where": "conv"}, TypeError, "`where` must be callable"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        xnets.convert(small_net(), **arguments)


def test_bad_models() -> None:
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module, got function"):
        xnets.convert(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is a DataParallel: convert the model first"):
        xnets.convert(nn.DataParallel(small_net()))
    with pytest.raises(TypeError, match="is a OptimizedModule: convert the model first"):
        xnets.convert(torch.compile(small_net()))


def test_a_converted_model_gives_its_features() -> None:
    extract = pytest.importorskip("torchvision.models.feature_extraction").create_feature_extractor
    resnet = pytest.importorskip("torchvision.models").resnet18()
    sparse, _ = xnets.convert(resnet, compression=4)
    features = extract(sparse.eval(), ["layer2"])(torch.randn(1, 3, 64, 64))["layer2"]
    assert features.shape == (1, 128, 8, 8)


TORCHVISION = {
    "resnet18": 19, "densenet121": 119, "vgg11_bn": 9, "mobilenet_v3_small": 41,
    "efficientnet_b0": 64, "convnext_tiny": 39, "vit_b_16": 24, "swin_t": 27,
    "regnet_y_400mf": 68, "shufflenet_v2_x0_5": 36, "squeezenet1_1": 24, "inception_v3": 96,
}  # fmt: skip
TIMM = {
    "resnet18": 19, "mixer_s32_224": 32, "vit_tiny_patch16_224": 48, "convnext_atto": 27,
    "swin_tiny_patch4_window7_224": 51, "efficientnet_b0": 64, "regnety_002": 56,
    "mobilenetv3_small_100": 41, "densenet121": 119, "vgg11": 9, "tf_efficientnet_b0": 64,
    "beit_base_patch16_224": 36,
}  # fmt: skip


def train_one_step(make: Callable[[], nn.Module], expected: int, size: int) -> None:
    dense = make()
    sparse, report = xnets.convert(dense, compression=4)
    del dense
    assert len(report.converted) == expected
    assert len(report.converted) == sum(isinstance(m, ExpanderLayer) for m in sparse.modules())
    for layer in report.converted:
        assert 4 <= layer.compression < 8  # D is rounded down: 6 inputs become 1
    y = sparse.train()(torch.randn(2, 3, size, size))
    y = y if isinstance(y, Tensor) else y.logits
    before = [p.detach().clone() for p in sparse.parameters()]
    optimizer = torch.optim.SGD(sparse.parameters(), 0.01)
    nn.functional.cross_entropy(y, torch.tensor([1, 2])).backward()
    unused = [n for n, p in sparse.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name in unused if "aux" not in name.lower()]
    optimizer.step()
    after = [p.detach() for p in sparse.parameters()]
    assert all(torch.isfinite(p).all() for p in after)
    assert not all(torch.equal(b, a) for b, a in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_models_train_one_step(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name == "inception_v3" else {}
    size = 299 if name == "inception_v3" else 224
    train_one_step(lambda: models.get_model(name, **options), TORCHVISION[name], size)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm_models_train_one_step(name: str) -> None:
    timm = pytest.importorskip("timm")
    train_one_step(lambda: timm.create_model(name), TIMM[name], 224)
