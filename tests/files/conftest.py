"""What the tests of files share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import xnets
from xnets.files import _container


class Trained(nn.Module):
    """Every kind of layer and tensor that a file must carry."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 32)
        self.out = nn.Linear(32, 10)
        self.register_buffer("scale", torch.tensor(3.0, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.norm(self.stem(x)).relu()).mean((2, 3))
        return self.out(self.head(x).relu()) * self.scale.float()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 9, 9)


def same_state(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left
    )


def rewrite(path: Path, change: Any) -> Path:
    """The same file with its description changed and a valid hash: what an attacker would write."""
    tensors, about = _container.read_container(path)
    changed = change(about, tensors)
    about = changed if changed is not None else about
    about["sha256"] = _container._digest(tensors, about)
    from safetensors.torch import save_file

    path = path.with_name("changed.safetensors")
    save_file(tensors, path, {"format": "pt", "xnets": json.dumps(about)})
    return path


@pytest.fixture
def sparse() -> nn.Module:
    return xnets.convert(Trained(), compression=4, block=(4, 1))[0].eval()
