"""xnets.optimize on whole networks: the paper's, torchvision's and timm's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xnets
from tests.inference.conftest import difference, randomized

# name -> arguments, size of an image
PAPER = {
    "resnet": ({"depth": 18}, 48),
    "vgg16": ({}, 32),
    "densenet_cifar": ({"depth": 22, "growth": 16}, 16),
    "mobilenet": ({"width": 0.25}, 64),
    "alexnet": ({}, 224),
}
KINDS = {
    "dense": {"compression": 1},
    "grouped": {"compression": 2, "family": "grouped"},
    "shuffled": {"compression": 2, "family": "shuffled"},
    "expander": {"compression": 4},
    "blocks": {"compression": 4, "block": (4, 1)},
}
QUICK = [("densenet_cifar", "blocks"), ("mobilenet", "expander")]


def check(model: nn.Module, x: torch.Tensor, engines: str = "measure") -> xnets.OptimizedModel:
    model = randomized(model)
    fast = xnets.optimize(model, x, engines=engines)
    with torch.no_grad():
        for batch in (x, torch.randn(1, *x.shape[1:])):
            assert difference(fast(batch), model(batch)) < 1e-4
    return fast


def build(name: str, kind: str) -> tuple[nn.Module, torch.Tensor]:
    arguments, size = PAPER[name]
    model = xnets.create_model(name, num_classes=10, **arguments, **KINDS[kind])
    channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    return model, torch.randn(2, channels, size, size)


@pytest.mark.parametrize(("name", "kind"), QUICK)
def test_networks_of_the_paper(name: str, kind: str) -> None:
    fast = check(*build(name, kind))
    assert not [step for step in fast.report.left if "no such step" in step.reason]
    assert fast.report.fused["BatchNorm"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PAPER)
@pytest.mark.filterwarnings("ignore:.*layers of model .* stay dense")
def test_all_networks_of_the_paper(name: str, kind: str) -> None:
    if (name, kind) in QUICK:
        pytest.skip("not slow: runs by default")
    fast = check(*build(name, kind))
    assert not [step for step in fast.report.left if "no such step" in step.reason]


@pytest.mark.slow
def test_resnet50() -> None:
    model = xnets.create_model("ResNet-50", compression=4, block=(4, 1))
    fast = check(model, torch.randn(2, 3, 64, 64))
    assert len(fast.report.steps) == 56
    assert fast.report.fused == {"BatchNorm": 53, "ReLU": 49, "add": 16}


# name -> how many steps of ours there are at least, of all
TORCHVISION = {
    "mobilenet_v2": 1.0, "mobilenet_v3_small": 1.0, "efficientnet_b0": 1.0, "densenet121": 1.0,
    "googlenet": 1.0, "shufflenet_v2_x0_5": 1.0, "squeezenet1_1": 1.0, "regnet_y_400mf": 1.0,
    "mnasnet0_5": 1.0, "resnext50_32x4d": 1.0, "convnext_tiny": 0.4, "vit_b_32": 0.1, "swin_t": 0.1,
    "inception_v3": 1.0,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_networks_of_torchvision(name: str) -> None:
    from torchvision import models

    size = {"vit_b_32": 224, "inception_v3": 96}.get(name, 64)
    model = models.get_model(name, weights=None)
    converted, _ = xnets.convert(model, compression=2)
    for network in (model, converted):
        report = check(network, torch.randn(2, 3, size, size), "ours").report
        share = sum(step.engine.startswith("ours") for step in report.steps) / len(report.steps)
        assert share >= TORCHVISION[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet10t", "mobilenetv4_conv_small", "efficientformerv2_s0", "mixer_s32_224",
     "deit_tiny_patch16_224", "ghostnet_050", "repvgg_a0", "convmixer_768_32", "levit_128s",
     "edgenext_xx_small"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_networks_of_timm(name: str) -> None:
    import timm

    check(timm.create_model(name), torch.randn(1, 3, 224, 224), "ours")
