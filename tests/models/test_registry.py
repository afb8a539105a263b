"""The registry: names, arguments, thinning."""

import pytest
import torch
from torch import nn

from xnets.models import Plan, create_model, list_models, model_arguments, register_model
from xnets.models import _registry as registry
from xnets.nn import ExpanderConv2d, ExpanderLayer, ExpanderLinear


def test_list_models_takes_wildcards():
    assert list_models() == sorted(list_models())
    assert {"convnet", "mlp"} <= set(list_models())
    assert list_models("ml?") == ["mlp"]
    assert list_models("[cm]*t") == ["convnet", "mobilenet"]
    assert list_models("MLP") == []


@pytest.mark.parametrize("name", ["convnet", "mlp"])
@pytest.mark.parametrize("compression", [None, 1])
def test_without_compression_a_model_is_dense(name, compression):
    model = create_model(name, compression=compression)
    assert not any(isinstance(m, ExpanderLayer) for m in model.modules())


@pytest.mark.parametrize(("name", "kind"), [("convnet", ExpanderConv2d), ("mlp", ExpanderLinear)])
def test_compression_thins_all_but_the_first_and_last_layer(name, kind):
    model = create_model(name, compression=4, width=16)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d, ExpanderLayer))]
    assert len(layers) > 2
    assert all(type(layer) is kind for layer in layers[1:-1])
    assert not isinstance(layers[0], ExpanderLayer)
    assert not isinstance(layers[-1], ExpanderLayer)
    assert all(layer.compression == 4 for layer in layers[1:-1])
    assert model.training


def test_family_block_and_backend_reach_the_layers():
    model = create_model(
        "mlp", compression=4, family="grouped", block=(2, 2), backend="gather", width=16
    )
    layers = [m for m in model.modules() if isinstance(m, ExpanderLayer)]
    assert layers
    for layer in layers:
        assert layer.graph.block == (2, 2)
        assert layer.backend == "gather"
        assert layer.graph.mask()[:4, :4].all()  # the first of four groups


def test_the_seed_is_the_graphs_alone():
    def patterns(seed):
        model = create_model("mlp", compression=4, width=16, seed=seed)
        return [m.graph.mask() for m in model.modules() if isinstance(m, ExpanderLayer)]

    assert all((a == b).all() for a, b in zip(patterns(0), patterns(0), strict=True))
    assert any((a != b).any() for a, b in zip(patterns(0), patterns(1), strict=True))


def test_unknown_model_suggests_the_closest():
    with pytest.raises(
        ValueError, match=r"unknown model 'convnt'; did you mean 'convnet'\? known:"
    ):
        create_model("convnt")


def test_arguments_of_an_unknown_model():
    with pytest.raises(ValueError, match=r"unknown model 'convnt'; did you mean 'convnet'\?"):
        model_arguments("convnt")


def test_unknown_argument_is_named():
    with pytest.raises(
        TypeError, match=r"unknown argument of model 'convnet': 'widht'; did you mean 'width'\?"
    ):
        create_model("convnet", widht=8)


def test_a_model_that_cannot_be_thinned_says_why():
    with pytest.raises(
        ValueError, match=r"no layer of model 'mlp' can be thinned so: .*block.*\(=\(5, 5\)\)"
    ):
        create_model("mlp", compression=2, block=(5, 5), width=16)
    with pytest.raises(ValueError, match=r"can be thinned so: too small: 16 inputs"):
        create_model("mlp", compression=17, width=16)


def test_a_model_that_is_thinned_in_part_warns():
    with pytest.warns(
        UserWarning,
        match=r"^1 of 2 layers of model 'mlp' stay dense: 7: `compression` \(=4\) .*block",
    ):
        create_model("mlp", compression={"4": 2, "7": 4}, block=(1, 4), width=8, depth=3)


def test_compression_by_layer():
    model = create_model("mlp", compression={"4": 2, "[17]": 4}, width=16, depth=3)
    found = {name: m.compression for name, m in model.named_modules() if hasattr(m, "graph")}
    assert found == {"4": 2, "7": 4}


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("compression", 0.5, r"`compression` \(=0.5\) must be at least 1"),
        ("family", "randon", r"unknown family 'randon'; did you mean 'random'"),
        ("backend", "maskd", r"unknown backend 'maskd'; did you mean 'masked'"),
        ("width", 0, r"`width` \(=0\) must be an integer of at least 1"),
        ("num_classes", True, r"`num_classes` \(=True\) must be an integer of at least 1"),
    ],
)
@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_bad_values(name, argument, value, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **{"compression": 4, argument: value})


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))


@pytest.mark.usefixtures("own_registry")
def test_register_model():
    @register_model
    def tiny(num_classes: int = 2) -> nn.Module:
        return nn.Linear(3, num_classes)

    assert "tiny" in list_models()
    assert create_model("tiny", num_classes=5)(torch.zeros(1, 3)).shape == (1, 5)


@pytest.mark.usefixtures("own_registry")
def test_a_model_says_which_layers_stay_dense():
    @register_model(plan=lambda: Plan(dense=("1",)))
    def tiny(width: int = 8) -> nn.Module:
        return nn.Sequential(*(nn.Linear(width, width) for _ in range(4)))

    assert model_arguments("tiny") == {"width": 8}
    kinds = [type(layer) for layer in create_model("tiny", compression=2)]
    assert kinds == [nn.Linear, nn.Linear, ExpanderLinear, nn.Linear]


@pytest.mark.usefixtures("own_registry")
def test_register_model_refuses_what_could_hide_a_mistake():
    def mlp(num_classes: int = 2) -> nn.Module: ...

    def swallows(**kwargs: int) -> nn.Module: ...

    def demands(num_classes: int) -> nn.Module: ...

    with pytest.raises(ValueError, match=r"a model named 'mlp' is registered already"):
        register_model(mlp)
    with pytest.raises(
        TypeError, match=r"'swallows' must name its arguments, not take `\*\*kwargs"
    ):
        register_model(swallows)
    with pytest.raises(TypeError, match=r"`num_classes` of model 'demands' must have a default"):
        register_model(demands)
    assert not {"swallows", "demands"} & set(list_models())
