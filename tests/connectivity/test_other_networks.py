"""Other people's networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xnets


def check_image_model(model: nn.Module, size: int) -> None:
    report = xnets.connectivity(model, torch.zeros(1, 3, size, size), source="auto")
    assert report.layers
    assert report.layers[-1].connected == 1
    assert report.assumed_mixing == ()
    assert report.num_dead == 0
    assert report.unused_inputs == ()


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    check_image_model(models.get_model(name), 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "maxvit_t", "mnasnet0_5"),
        *("regnet_y_400mf", "resnext50_32x4d", "squeezenet1_0", "swin_t", "vgg11_bn", "vit_b_16"),
    ],
)
def test_more_of_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    check_image_model(models.get_model(name), 224)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(
            "eca_resnet33ts",
            "mixer_s32_224",
            "poolformer_s12",
            "xcit_nano_12_p16_224",
            "levit_128s",
        ),
        *("edgenext_xx_small", "ghostnet_100", "skresnet18", "resnest14d", "volo_d1_224", "dpn68"),
        *("pvt_v2_b0", "res2net50_14w_8s", "hrnet_w18_small", "mobilevit_xxs", "cait_xxs24_224"),
    ],
)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name)
    check_image_model(model, model.default_cfg["input_size"][-1])


def test_shufflenets_shuffle_is_seen() -> None:
    """Half of the channels pass each block by, so that without shuffles they would stay apart."""
    models = pytest.importorskip("torchvision.models")
    model = models.shufflenet_v2_x0_5()
    report = xnets.connectivity(model, torch.zeros(1, 3, 64, 64), source="stage2.0.branch2.5")
    shares = {layer.name: layer.connected for layer in report.layers}
    assert shares["stage2.1.branch2.0"] == 0.5
    assert shares["stage2.2.branch2.0"] == 0.75
