"""The networks: shapes, sizes, gradients."""

import pytest
import torch
from torch import nn

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


def test_mlp_has_the_depth_and_width_asked_for():
    model = create_model("mlp", in_channels=2, image_size=5, width=7, depth=3, num_classes=4)
    linear = [m for m in model if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(50, 7), *[(7, 7)] * 3, (7, 4)]
    assert model(torch.randn(6, 2, 5, 5)).shape == (6, 4)
