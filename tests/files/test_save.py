"""xnets.save and xnets.load: what goes in comes out, whatever the model."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import xnets
from tests.files.conftest import Trained, same_state
from xnets.nn import ExpanderLayer, ExpanderLinear


@pytest.mark.parametrize("patterns", ["indices", "seed"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"compression": 4}),
        ("convnet", {"compression": 8, "block": (4, 1), "seed": 3}),
        ("convnet", {"compression": 4, "family": "random_fan_out", "width": 16}),
        ("convnet", {}),
        ("X-MobileNet-0.5-4", {"num_classes": 7}),
        ("G-MobileNet-0.5-4", {"as_coded": True}),
        ("X-DenseNet-BC-2-40-24", {"thin_transitions": False}),
        ("vgg16", {"released": True}),
    ],
)
def test_models_by_name_are_rebuilt_from_the_file(name, options, patterns, tmp_path):
    model = xnets.create_model(name, **options)
    random = torch.random.get_rng_state()
    xnets.save(model, tmp_path / "m.safetensors", patterns=patterns)
    again = xnets.load(tmp_path / "m.safetensors")
    assert torch.equal(torch.random.get_rng_state(), random)
    assert same_state(model, again)
    assert not again.training
    kinds = [[type(m) for m in net.modules()] for net in (model, again)]
    assert kinds[0] == kinds[1]
    assert all(p.requires_grad and not p.is_meta for p in again.parameters())
    x = torch.rand(2, 3 if "in_channels" in options or "-" in name or "vgg" in name else 1, 32, 32)
    x = x[..., :8, :8] if name == "mlp" else x
    torch.testing.assert_close(again(x), model.eval()(x), rtol=0, atol=0)


def test_any_model_goes_into_a_new_one(sparse, image, tmp_path):
    xnets.save(sparse, tmp_path / "m.safetensors")
    for skeleton in (Trained(), xnets.convert(Trained(), compression=2, seed=9)[0]):
        again = xnets.load(tmp_path / "m.safetensors", into=skeleton)
        assert again is skeleton
        assert again.training
        assert same_state(sparse, again)
        assert torch.equal(again.eval()(image), sparse(image))


def test_a_layer_alone(tmp_path):
    layer = ExpanderLinear(300, 70, compression=7)
    xnets.save(layer, tmp_path / "l.safetensors")
    assert same_state(xnets.load(tmp_path / "l.safetensors", into=nn.Linear(300, 70)), layer)
    into = ExpanderLinear(300, 70, degree=1)
    assert xnets.load(tmp_path / "l.safetensors", into=into) is into
    assert same_state(into, layer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype, tmp_path):
    model = xnets.create_model("mlp", compression=4).to(dtype)
    xnets.save(model, tmp_path / "m.safetensors")
    assert same_state(xnets.load(tmp_path / "m.safetensors"), model)


def test_shared_layers_and_tied_weights(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(64, 32)
            self.once = nn.Linear(32, 32)
            self.twice = self.once
            self.out = nn.Linear(32, 64)
            self.out.weight = self.embed.weight

    model, _ = xnets.convert(Tied(), compression=4, keep_ends=False)
    assert model.twice is model.once
    xnets.save(model, tmp_path / "m.safetensors")
    again = xnets.load(tmp_path / "m.safetensors", into=Tied())
    assert again.twice is again.once
    assert isinstance(again.once, ExpanderLinear)
    assert again.out.weight is again.embed.weight
    assert same_state(model, again)
    size = (tmp_path / "m.safetensors").stat().st_size
    assert size < 4 * (64 * 32 + 32 * 8 + 32 + 64) + 32 * 8 + 2500


@pytest.mark.parametrize("patterns", ["indices", "seed"])
def test_irregular_and_empty_graphs(patterns, tmp_path):
    mask = np.zeros((6, 5), dtype=bool)
    for graph in (
        xnets.graphs.make_graph("random_fan_out", 70, 300, compression=9),
        xnets.graphs.BipartiteGraph.from_mask(np.eye(6, 5, dtype=bool)),
        xnets.graphs.BipartiteGraph.from_mask(mask),
    ):
        layer = ExpanderLinear(graph.num_in, graph.num_out, graph=graph)
        xnets.save(layer, tmp_path / "l.safetensors", patterns=patterns)
        dense = nn.Linear(graph.num_in, graph.num_out)
        assert xnets.load(tmp_path / "l.safetensors", into=dense).graph == graph


@pytest.mark.parametrize(
    ("num_in", "block", "bytes_each"),
    [(256, (1, 1), 1), (257, (1, 1), 2), (512, (1, 2), 1), (1 << 16, (1, 1), 2)],
)
def test_indices_take_the_smallest_integers(num_in, block, bytes_each, tmp_path):
    layer = ExpanderLinear(num_in, 64, degree=32, block=block, bias=False)
    xnets.save(layer, tmp_path / "l.safetensors")
    size = (tmp_path / "l.safetensors").stat().st_size
    indices = 64 * 32 // (block[0] * block[1]) * bytes_each
    assert 0 <= size - 4 * 64 * 32 - indices < 700


def bytes_of(model):
    """4 bytes a number that the model keeps, plus its indices as a file stores them."""
    numbers = sum(
        value.numel() * value.element_size()
        for key, value in model.state_dict().items()
        if not key.endswith(("indptr", "indices"))
    )
    layers = [m for m in model.modules() if isinstance(m, ExpanderLayer)]
    return numbers + sum(
        m.indices.numel() * (1 if m.num_in // m.block[1] <= 256 else 2) for m in layers
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("X-DenseNet-BC-2-40-24", {}),
        ("resnet", {"compression": 4, "block": (4, 1)}),
        ("X-VGG16-1", {}),
        ("X-MobileNet-0.5-8", {}),
    ],
)
def test_files_hold_kept_weights_and_indices_and_little_more(name, options, tmp_path):
    model = xnets.create_model(name, **options)
    xnets.save(model, tmp_path / "m.safetensors")
    size = (tmp_path / "m.safetensors").stat().st_size
    assert bytes_of(model) < size < 1.05 * bytes_of(model)
    by_seed = tmp_path / "s.safetensors"
    xnets.save(model, by_seed, patterns="seed")
    weights = sum(4 * p.numel() for p in model.parameters())
    assert by_seed.stat().st_size < size
    assert by_seed.stat().st_size < 1.06 * weights


def test_a_pattern_that_was_exchanged_is_not_stored_by_its_old_seed(tmp_path):
    model = ExpanderLinear(64, 64, compression=4, seed=1)
    model.load_state_dict(ExpanderLinear(64, 64, compression=4, seed=2).state_dict())
    xnets.save(model, tmp_path / "l.safetensors", patterns="seed")
    assert same_state(xnets.load(tmp_path / "l.safetensors", into=nn.Linear(64, 64)), model)


def test_a_changed_model_says_that_it_needs_a_skeleton(tmp_path):
    model = xnets.create_model("mlp", compression=4)
    model.extra = nn.Linear(3, 3)
    with pytest.warns(UserWarning, match=r"no longer what create_model made: .*extra.*into="):
        xnets.save(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"does not say how to build its network; give it: xnets"):
        xnets.load(tmp_path / "m.safetensors")
    skeleton = xnets.create_model("mlp")
    skeleton.extra = nn.Linear(3, 3)
    assert same_state(xnets.load(tmp_path / "m.safetensors", into=skeleton), model)


def test_convert_of_a_model_by_name_is_rebuilt(tmp_path):
    model, _ = xnets.convert(xnets.create_model("resnet", depth=18, num_classes=5), compression=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xnets.save(model, tmp_path / "m.safetensors")
    assert same_state(xnets.load(tmp_path / "m.safetensors"), model)


def test_metadata_and_replacement_of_an_older_file(tmp_path):
    path = tmp_path / "m.safetensors"
    model = xnets.create_model("mlp", compression=4)
    path.write_text("older")
    xnets.save(model, path, metadata={"accuracy": "0.9"})
    assert xnets.read_metadata(path) == {"accuracy": "0.9"}
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    model = xnets.create_model("mlp", compression=4)
    xnets.save(model, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        xnets.save(copy.deepcopy(model), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (3, {}, TypeError, r"`model` must be a torch.nn.Module, got int"),
        (nn.DataParallel(nn.Linear(2, 2)), {}, TypeError, r"save what it wraps, model.module"),
        (nn.LazyLinear(3), {}, ValueError, r"weight has no values yet"),
        (nn.Linear(2, 2, device="meta"), {}, ValueError, r"weight has no values yet"),
        (nn.Linear(2, 2), {"patterns": "seeds"}, ValueError, r"did you mean 'seed'"),
        (nn.Linear(2, 2), {"metadata": {"a": 1}}, TypeError, r"must map texts to texts"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_cannot_be_saved(model, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        xnets.save(model, tmp_path / "m.safetensors", **options)
    assert not list(tmp_path.iterdir())
