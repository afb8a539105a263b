"""The networks: shapes, sizes, gradients."""

import pytest
import torch
from torch import nn

import xnets
from xnets.models import create_model


@pytest.mark.parametrize("compression", [None, 4])
@pytest.mark.parametrize(
    ("args", "shape"),
    [
        ({}, (2, 1, 8, 8)),
        ({"width": 8, "stages": 2, "depth": 1}, (2, 1, 8, 8)),
        ({"width": 8, "stages": 3, "stem_stride": 2}, (3, 1, 28, 28)),
        ({"width": 8, "in_channels": 3, "num_classes": 7}, (2, 3, 33, 17)),
    ],
)
def test_convnet_takes_images_of_any_size(compression, args, shape):
    model = create_model("convnet", compression=compression, **args)
    logits = model(torch.randn(shape))
    assert logits.shape == (shape[0], args.get("num_classes", 10))
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_convnet_halves_the_image_and_doubles_the_channels_between_stages():
    model = create_model("convnet", width=8, stages=3, depth=2, stem_stride=2)
    x = torch.zeros(1, 1, 32, 32)
    shapes = []
    for layer in model.features:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [
        (8, 16, 16),
        *[(8, 16, 16)] * 2,
        *[(16, 8, 8)] * 2,
        *[(32, 4, 4)] * 2,
    ]


def test_convnet_can_keep_the_channels_of_the_image_apart():
    net = xnets.create_model("convnet", in_channels=4, width=8, stem_groups=4)
    assert net.features[0][0].groups == 4
    with pytest.raises(ValueError, match=r"`stem_groups` \(=3\) must divide `in_channels` \(=4\)"):
        xnets.create_model("convnet", in_channels=4, width=6, stem_groups=3)


def test_mlp_has_the_depth_and_width_asked_for():
    model = create_model("mlp", in_channels=2, image_size=5, width=7, depth=3, num_classes=4)
    linear = [m for m in model if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(50, 7), *[(7, 7)] * 3, (7, 4)]
    assert model(torch.randn(6, 2, 5, 5)).shape == (6, 4)


@pytest.mark.parametrize(
    ("compression", "family", "params", "macs"),  # counted from the paper's text, at 224 x 224
    [
        (None, "random", 1_331_592, 149_497_088),
        (2, "random", 939_400, 85_271_808),
        (4, "grouped", 743_304, 53_159_168),
        (8, "random", 645_256, 37_102_848),
        (16, "grouped", 596_232, 29_074_688),
    ],
)
def test_mobilenet_has_the_papers_size(compression, family, params, macs):
    with torch.device("meta"):
        model = create_model("mobilenet", compression=compression, family=family)
        counted = xnets.count(model, torch.empty(1, 3, 224, 224))
    assert (counted.params, counted.macs) == (params, macs)


def test_mobilenet_keeps_the_first_pointwise_layer_and_all_depthwise_ones_dense():
    model = create_model("mobilenet", compression=4, width=0.25, num_classes=7)
    assert model(torch.randn(2, 3, 33, 40)).shape == (2, 7)
    dense = [name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert [name for name in dense if "depthwise" not in name] == [
        "stem.0",
        "blocks.0.pointwise.0",
        "classifier",
    ]
    assert sum("depthwise" in name for name in dense) == 13


@pytest.mark.parametrize("width", [0, -1, 0.03, float("nan"), True, "1"])
def test_mobilenet_of_no_width(width):
    with pytest.raises(ValueError, match=r"`width` \(=.*\) must be a number of at least 1/32"):
        create_model("mobilenet", width=width)
