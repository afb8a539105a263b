"""The paper's names."""

import pytest
import torch
from torch import nn

from xnets.models import create_model, list_models, model_arguments, parse_name
from xnets.models._names import PAPER_NAMES
from xnets.nn import ExpanderLayer


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("X-DenseNet-BC-2-40-24", ("densenet_cifar", {"depth": 40, "growth": 24}, 2, "random")),
        ("X-DenseNet-BC-40-24-2", ("densenet_cifar", {"depth": 40, "growth": 24}, 2, "random")),
        ("DenseNet-BC-100-12", ("densenet_cifar", {"depth": 100, "growth": 12}, None, "random")),
        (
            "G-DenseNet-BC-2.5-70-60",
            ("densenet_cifar", {"depth": 70, "growth": 60}, 2.5, "grouped"),
        ),
        ("X-DenseNet-BC-2-161", ("densenet", {"depth": 161}, 2, "random")),
        ("DenseNet-BC-161-48", ("densenet", {"depth": 161}, None, "random")),
        ("x-resnet-4-50", ("resnet", {"depth": 50}, 4, "random")),
        ("X-Mobilenet0.5-16", ("mobilenet", {"width": 0.5}, 16, "random")),
        ("Group-MobileNet-1.0-8", ("mobilenet", {"width": 1.0}, 8, "grouped")),
        ("VGG16", ("vgg16", {}, None, "random")),
        ("X-VGG16-2", ("vgg16", {}, 13, "random")),
        (
            "X-AlexNet-1",
            ("alexnet", {"batch_norm": True}, {"classifier.1": 72, "classifier.4": 32}, "random"),
        ),
    ],
)
def test_a_name_says_model_arguments_compression_and_family(name, said):
    assert parse_name(name) == said


@pytest.mark.parametrize(
    "name",
    [
        "X-ResNet-34",
        "ResNet-2-34",
        "X-VGG16",
        "X-VGG16-3",
        "Y-ResNet-2-34",
        "DenseNet-BC",
        "resnet",
    ],
)
def test_what_is_no_name_of_the_paper(name):
    assert parse_name(name) is None


def test_every_listed_name_can_be_looked_up():
    assert set(PAPER_NAMES) <= set(list_models())
    assert len(set(PAPER_NAMES)) == len(PAPER_NAMES)
    for name in PAPER_NAMES:
        spec = parse_name(name)
        assert not set(spec.args) & set(model_arguments(name))
        assert set(spec.args) <= set(model_arguments(spec.model))
    assert list_models("X-ResNet*") == [
        f"X-ResNet-2-{depth}" for depth in ("101", "152", "18", "34", "50")
    ]


def test_typos_get_suggestions():
    with pytest.raises(
        ValueError, match=r"unknown model 'X-ResNet-34'; did you mean 'X-ResNet-2-34'"
    ):
        create_model("X-ResNet-34")
    with pytest.raises(ValueError, match=r"`depth` \(=35\) must be one of 18, 34, 50, 101, 152"):
        create_model("X-ResNet-2-35")
    with pytest.raises(ValueError, match=r"`depth` \(=41\) must be 6 n \+ 4; .* 40 and 46"):
        create_model("DenseNet-BC-41-12")
    with pytest.raises(ValueError, match=r"`depth` \(=40\) must be one of 121, 161, 169, 201"):
        create_model("DenseNet-BC-40")
    with pytest.raises(TypeError, match=r"unknown argument of model 'ResNet-18': 'depth'"):
        create_model("ResNet-18", depth=34)
    with pytest.raises(TypeError, match=r"`thin_transitions` \(='no'\) must be True or False"):
        create_model("X-DenseNet-BC-2-40-24", thin_transitions="no")


def patterns(model):
    return [m.graph.mask() for m in model.modules() if isinstance(m, ExpanderLayer)]


def test_arguments_come_before_what_the_name_says():
    with torch.device("meta"):
        for dense in (create_model("X-AlexNet-1", compression=1), create_model("ResNet-18")):
            assert not patterns(dense)
        grouped = create_model("G-MobileNet-0.5-8")
        as_well = create_model("X-MobileNet-0.5-8", family="grouped")
        other = create_model("X-MobileNet-0.5-16", family="grouped", compression=8)
    for ours, same, too in zip(*map(patterns, (grouped, as_well, other)), strict=True):
        assert (ours == same).all()
        assert (ours == too).all()
        assert ours[0].sum() == ours.shape[1] // 8


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("X-DenseNet-BC-4-22-8", {"num_classes": 7}),
        ("X-MobileNet-0.25-4", {"num_classes": 7, "as_coded": True}),
        ("X-ResNet-2-18", {"num_classes": 7, "in_channels": 1, "thin_downsample": True}),
        ("X-VGG16-2", {"num_classes": 7}),
    ],
)
def test_networks_learn(name, options):
    model = create_model(name, **options)
    images = torch.randn(2, options.get("in_channels", 3), 32, 32)
    logits = model(images)
    assert logits.shape == (2, 7)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["AlexNet", "X-AlexNet-2", "X-DenseNet-BC-2-121", "VGG16"])
def test_shapes(name):
    with torch.device("meta"):
        model = create_model(name, in_channels=1, num_classes=7)
        assert model(torch.empty(2, 1, 64, 64)).shape == (2, 7)


def dense_layers(name, **options):
    with torch.device("meta"):
        model = create_model(name, **options)
    return [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def test_which_layers_stay_dense_is_an_argument():
    ends = ["features.conv0", "classifier"]
    transitions = [f"features.transition{i}.conv" for i in (1, 2, 3)]
    assert dense_layers("X-DenseNet-BC-2-22-8") == ends
    assert dense_layers("X-DenseNet-BC-2-22-8", thin_transitions=False) == [
        ends[0], *transitions[:2], ends[1],
    ]  # fmt: skip
    assert dense_layers("X-DenseNet-BC-2-121") == [ends[0], *transitions, ends[1]]
    assert dense_layers("X-DenseNet-BC-2-121", thin_transitions=True) == ends
    assert dense_layers("X-ResNet-2-18") == [
        "conv1", *(f"layer{i}.0.downsample.0" for i in (2, 3, 4)), "fc",
    ]  # fmt: skip
    assert dense_layers("X-ResNet-2-18", thin_downsample=True) == ["conv1", "fc"]
    assert dense_layers("X-VGG16-1") == ["features.0", "classifier.2"]
    assert dense_layers("X-VGG16-1", released=True) == [
        "features.0", "features.3", "features.7", "classifier.2",
    ]  # fmt: skip
    assert [n for n in dense_layers("X-AlexNet-1") if n[0] == "c"] == ["classifier.6"]
    assert [n for n in dense_layers("X-AlexNet-1", released=True) if n[0] == "c"] == []


def test_a_fixed_plan_and_a_compression_exclude_each_other():
    with pytest.raises(ValueError, match=r"`released` \(=True\) fixes .*; leave `compression` out"):
        create_model("vgg16", released=True, compression=4)
    with torch.device("meta"):
        assert not patterns(create_model("X-VGG16-2", released=True, compression=1))


@pytest.mark.parametrize("name", ["X-VGG16-1", "X-AlexNet-1"])
def test_thinned_layers_before_a_norm_have_no_bias(name):
    with torch.device("meta"):
        model = create_model(name)
    assert all(m.bias is None for m in model.modules() if isinstance(m, ExpanderLayer))
    names = [name for name, _ in model.named_parameters()]
    assert "features.0.bias" in names


@pytest.mark.parametrize(
    ("name", "torchvisions"),
    [("ResNet-50", "resnet50"), ("DenseNet-BC-169", "densenet169"), ("AlexNet", "alexnet")],
)
def test_torchvisions_weights_fit(name, torchvisions):
    from torchvision import models

    with torch.device("meta"):
        ours, theirs = create_model(name), getattr(models, torchvisions)()
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
