"""Old checkpoints: our networks compute what the original's formulas say, exactly."""

from __future__ import annotations

import os
import random
import tarfile
from collections import OrderedDict
from functools import partial
from importlib import import_module as import_by_name

import pytest
import torch
from torch.nn import functional as F

import xnets
from tests import reference_checkpoints as old
from xnets import _reference_file
from xnets._errors import UserError
from xnets.nn import ExpanderConv2d, ExpanderLayer

import_module = import_by_name("xnets.import_reference")  # the function has the module's name
SMALL = {"depth": 16, "growth": 12, "c": 2, "classes": 10}


def write(state, path, how="zip", **values):
    values = {**old.checkpoint(state), **values}
    if how == "0.3":
        old.save_as_torch_03(values, path)
    else:
        torch.save(values, path, _use_new_zipfile_serialization=how == "zip")
    return path


def densenet_forward(state, x):
    """The original's forward pass, from the paper and the tensors' names."""

    def weight(name):
        if f"{name}.mask" in state:
            return state[f"{name}.fpWeight"] * state[f"{name}.mask"]
        return state[f"{name}.weight"]

    def norm(name, x):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        x = F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])
        return x.relu()

    x = F.conv2d(x, weight("conv1"), padding=1)
    for block in (1, 2, 3):
        for i in range(2):
            name = f"block{block}.layer.{i}"
            y = F.conv2d(norm(f"{name}.bn1", x), weight(f"{name}.conv1"))
            y = F.conv2d(norm(f"{name}.bn2", y), weight(f"{name}.conv2"), padding=1)
            x = torch.cat([x, y], 1)
        if block < 3:
            x = F.conv2d(norm(f"trans{block}.bn1", x), weight(f"trans{block}.conv1"))
            x = F.avg_pool2d(x, 2)
    x = F.avg_pool2d(norm("bn1", x), 8).flatten(1)
    return F.linear(x, state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("how", ["zip", "legacy", "0.3"])
@pytest.mark.parametrize("rule", ["in", "released"])
@pytest.mark.parametrize("x_transitions", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_densenet_computes_the_same(how, rule, x_transitions, prefix, tmp_path):
    state = old.densenet_cifar(**SMALL, x_transitions=x_transitions, rule=rule)
    path = write(old.parallel(state) if prefix else state, tmp_path / "best.pth.tar", how)
    model, report = xnets.import_reference(path, "X-DenseNet-BC-2-16-12")
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(model(x), densenet_forward(state, x), rtol=1e-4, atol=1e-4)
    assert len(report.layers) == 12 + 2 * x_transitions
    assert report.dense_layers == 4 - 2 * x_transitions
    assert report.said == {"arch": "densenetexpander_cifar", "epoch": 300, "best_prec1": 94.83}
    first = report.layers[0]
    assert (first.original, first.num_in, first.num_out) == ("block1.layer.0.conv1", 24, 48)
    assert first.rule == ("fan-in 12" if rule == "in" else "fan-out 12")
    assert first.num_edges == 12 * (48 if rule == "in" else 24)
    assert first.off_mask == 24 * 48 - first.num_edges
    assert 0 < first.largest_off_mask < 10
    masks = [value for key, value in state.items() if key.endswith("mask")]
    layers = [m for m in model.modules() if isinstance(m, ExpanderLayer)]
    assert [m.weight.numel() for m in layers] == [int(mask.sum()) for mask in masks]
    assert "checkpoint says: arch densenetexpander_cifar, epoch 300" in str(report)


def test_mobilenet_is_the_network_that_was_trained(tmp_path):
    state = old.mobilenet(c=4, classes=5)
    path = write(old.parallel(state), tmp_path / "best.pth.tar")
    model, report = xnets.import_reference(path, "X-MobileNet-0.5-4")
    assert {layer.rule for layer in report.layers} <= {"both", *(f"fan-out {n}" for n in RANGE)}
    assert report.model["args"] == {"num_classes": 5, "in_channels": 3, "as_coded": True}
    assert sum(isinstance(m, torch.nn.ReLU6) for m in model.modules()) == 26
    conv = model.blocks[2].pointwise[0]
    expected = state["model.3.3.fpWeight"] * state["model.3.3.mask"]
    assert torch.equal(conv.dense_weight(), expected)


RANGE = (16, 32, 64, 128, 256)


def test_grouped_mobilenet(tmp_path):
    state = old.mobilenet(c=4, classes=5, kind="groups")
    model, report = xnets.import_reference(
        write(state, tmp_path / "g.pth.tar"), "G-MobileNet-0.5-4"
    )
    assert [layer.rule for layer in report.layers] == ["grouped"] * 12
    conv, x = model.blocks[4].pointwise[0], torch.randn(2, 128, 3, 3)
    assert isinstance(conv, ExpanderConv2d)
    expected = F.conv2d(x, state["model.5.3.weight"], groups=4)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)


def test_resnet(tmp_path):
    state = old.resnet(34, c=2, classes=7)
    model, report = xnets.import_reference(
        write(old.parallel(state), tmp_path / "r.pth.tar"), "X-ResNet-2-34"
    )
    assert len(report.layers) == 32
    for name, layer in model.named_modules():
        if isinstance(layer, ExpanderLayer):
            assert torch.equal(
                layer.dense_weight(), state[f"{name}.fpWeight"] * state[f"{name}.mask"]
            )
    assert torch.equal(model.layer2[0].downsample[0].weight, state["layer2.0.downsample.0.weight"])
    assert torch.equal(model.layer4[2].bn2.running_var, state["layer4.2.bn2.running_var"])


@pytest.mark.parametrize(
    ("make", "name", "expanders"),
    [
        (partial(old.densenet, 121), "X-DenseNet-BC-2-121", 2 * 58),
        pytest.param(partial(old.resnet, 50), "X-ResNet-2-50", 3 * 16, marks=pytest.mark.slow),
    ],
)
def test_networks_for_imagenet(make, name, expanders, tmp_path):
    state = make(c=2, classes=7)
    path = write(old.parallel(state), tmp_path / "i.pth.tar")
    model, report = xnets.import_reference(path, name)
    assert len(report.layers) == expanders
    layers = dict(model.named_modules())
    for layer in report.layers:
        weight, mask = state[f"{layer.original}.fpWeight"], state[f"{layer.original}.mask"]
        assert torch.equal(layers[layer.name].dense_weight(), weight * mask)
    # All else, in order: the same numbers.
    rest = [v for k, v in state.items() if not k.endswith(("fpWeight", "mask"))]
    own = [
        value
        for key, value in model.state_dict().items()
        if not isinstance(layers[key.rpartition(".")[0]], ExpanderLayer)
        and not key.endswith("num_batches_tracked")
    ]
    assert len(own) == len(rest)
    assert all(torch.equal(a, b) for a, b in zip(own, rest, strict=True))


SKETCHES = {
    **{f"X-ResNet-2-{depth}": partial(old.resnet, depth, 2) for depth in (18, 34, 50, 101, 152)},
    **{f"X-DenseNet-BC-2-{depth}": partial(old.densenet, depth, 2) for depth in (161, 169, 201)},
    **{
        name: partial(old.densenet_cifar, depth, growth, c, x_transitions=True)
        for name in xnets.list_models("X-DenseNet-BC-*-*-*")
        for c, depth, growth in [map(int, name.split("-")[3:])]
    },
    **{f"X-MobileNet-0.5-{c}": partial(old.mobilenet, c) for c in (2, 4, 8, 16)},
    **{f"G-MobileNet-0.5-{c}": partial(old.mobilenet, c, kind="groups") for c in (2, 4, 8, 16)},
}


def sketched(name):
    """The layers of a checkpoint by names and shapes alone, and the network of that name."""
    with torch.device("meta"):
        state = SKETCHES[name](classes=7)
        arguments = {"as_coded": True} if "MobileNet" in name else {}
        network = xnets.create_model(name, compression=1, num_classes=7, **arguments)
    layers = []
    for layer, tensors in _reference_file._groups(state).items():
        weight = tensors.get("fpWeight", tensors.get("weight"))
        kind = "norm" if "running_mean" in tensors else "expander" if "mask" in tensors else "dense"
        rest = {key: value for key, value in tensors.items() if key == "bias"}
        layers.append(_reference_file.OriginalLayer(layer, kind, weight, tensors.get("mask"), rest))
    return layers, network


@pytest.mark.parametrize("name", SKETCHES)
@pytest.mark.filterwarnings("ignore:.*layers of model .* stay dense")
def test_layers_of_all_networks_are_found(name):
    layers, network = sketched(name)
    assert import_module._why_not(layers, network) == ""
    expanders = [layer for layer in layers if layer.kind == "expander"]
    assert len(expanders) > 11 or name.startswith("G")
    assert "has" in import_module._why_not(layers[:-1], network)
    layers[len(layers) // 2] = layers[0]
    assert import_module._why_not(layers, network).startswith(f"layer {len(layers) // 2 + 1} is ")


def test_vgg_mixes_dense_and_expander_layers(tmp_path):
    state = old.vgg16([64, 64, 64, *[16] * 9])
    model, report = xnets.import_reference(
        write(state, tmp_path / "v.pth.tar", "legacy"), "X-VGG16-2"
    )
    assert len(report.layers) == 11
    assert report.dense_layers == 4
    params = sum(
        value.numel() if "mask" not in key else 0
        for key, value in state.items()
        if "running" not in key and f"{key.rpartition('.')[0]}.mask" not in state
    ) + sum(int(value.sum()) for key, value in state.items() if key.endswith("mask"))
    assert report.params == params
    xnets.save(model, tmp_path / "v.safetensors")
    again = xnets.load(tmp_path / "v.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(x), model(x))
    xnets.import_reference(write(state, tmp_path / "v.pth.tar"), "vgg16")  # the file decides


@pytest.mark.slow
def test_alexnet_with_a_sparse_last_layer(tmp_path):
    state = old.alexnet((256, 256, 512), classes=11)
    path = write(state, tmp_path / "a.pth.tar")
    for name in ("X-AlexNet-1", "alexnet"):
        model, report = xnets.import_reference(path, name)
        assert [layer.rule for layer in report.layers] == ["fan-in 256", "fan-in 256", "fan-in 512"]
        assert model.classifier[6].bias is None
        assert model(torch.randn(2, 3, 224, 224)).shape == (2, 11)


def test_counters_of_newer_torch_are_read(tmp_path):
    state = old.densenet_cifar(**SMALL, x_transitions=True)
    newer = OrderedDict()
    for key, value in state.items():
        newer[key] = value
        if key.endswith("running_var"):
            newer[key.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    model, _ = xnets.import_reference(write(newer, tmp_path / "n.pth.tar"), "X-DenseNet-BC-2-16-12")
    assert model.features.norm5.num_batches_tracked == 7


def changed(change):
    def make(folder):
        state = old.densenet_cifar(**SMALL, x_transitions=True)
        state = change(state) or state
        return write(state, folder / "c.pth.tar")

    return make


def set_entry(key, index, value):
    def change(state):
        state[key][index] = value

    return changed(change)


def flipped(mask):
    mask = mask.clone()
    mask[0, 0, 1, 1] = 1 - mask[0, 0, 1, 1]
    return mask


def shuffled(state):
    keys = list(state)
    random.Random(0).shuffle(keys)
    return OrderedDict((key, state[key]) for key in keys)


MASK, WEIGHT = "block1.layer.1.conv2.mask", "block1.layer.1.conv2.fpWeight"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (set_entry(MASK, (0, 0), 0.5), rf"{MASK} has values other than 0 and 1"),
        (set_entry(MASK, (0, 0, 0, 0), 2), rf"{MASK} has values other than 0 and 1"),
        (changed(lambda s: s.update({MASK: flipped(s[MASK])})), rf"{MASK} differs within a ker"),
        (set_entry(WEIGHT, (0, 0), float("nan")), r"weights that are not finite, and 0 times"),
        (changed(lambda s: s.update({MASK: torch.ones(3, 3)})), r"mask has shape \(3, 3\)"),
        (changed(shuffled), r"lists its tensors in another order|is none of|is no checkpoint of"),
        (changed(lambda s: OrderedDict(sorted(s.items()))), r"is no checkpoint of X-DenseNet"),
        (changed(lambda s: s.update({"more.gamma": torch.ones(2)})), r"more holds gamma, which is"),
        (changed(lambda s: OrderedDict(list(s.items())[:-2])), r"has 27 layers, the network 28|in"),
        (changed(lambda s: {"fc": 3}), r"its state_dict holds more than tensors"),
        (changed(lambda s: {"bn.running_mean": torch.ones(2)}), r"bn holds running_mean, which is"),
    ],
)
def test_checkpoints_that_are_refused(make, message, tmp_path):
    path = make(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        xnets.import_reference(path, "X-DenseNet-BC-2-16-12")
    assert "\n" not in str(caught.value)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"state_dict": {"a": torch.ones(2)}, "options": RunsCode()}
    torch.save(values, "e.pth.tar", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"holds posix\.mkdir, which is more than tensors"):
        xnets.import_reference("e.pth.tar", "mobilenet")
    assert not (tmp_path / "owned").exists()


def test_files_that_are_none(tmp_path):
    path = tmp_path / "x.pth.tar"
    with pytest.raises(FileNotFoundError, match=r"x\.pth\.tar"):
        xnets.import_reference(path, "mobilenet")
    path.write_bytes(b"hello" * 100)
    with pytest.raises(UserError, match=r"torch\.save did not write it, or it is damaged"):
        xnets.import_reference(path, "mobilenet")
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")
    with pytest.raises(UserError, match=r"is a tar archive, as torch wrote before 0\.1\.12"):
        xnets.import_reference(path, "mobilenet")
    torch.save([1, 2], path)
    with pytest.raises(UserError, match=r"it holds no state_dict"):
        xnets.import_reference(path, "mobilenet")
    whole = write(old.densenet_cifar(**SMALL, x_transitions=True), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"is damaged"):
        xnets.import_reference(path, "X-DenseNet-BC-2-16-12")


def test_wrong_names(tmp_path):
    path = write(old.densenet_cifar(**SMALL, x_transitions=True), tmp_path / "d.pth.tar")
    with pytest.raises(UserError, match=r"unknown model 'X-DenseNet'"):
        xnets.import_reference(path, "X-DenseNet")
    with pytest.raises(UserError, match=r"is no checkpoint of X-DenseNet-BC-2-22-12: layer 11 is"):
        xnets.import_reference(path, "X-DenseNet-BC-2-22-12")
    with pytest.raises(UserError, match=r"unknown argument of model .*'classes'"):
        xnets.import_reference(path, "X-DenseNet-BC-2-16-12", classes=10)
