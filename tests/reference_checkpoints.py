"""Checkpoints as the original repository saved them: its tensors' names, shapes and order.

Written from the published layer definitions: an expander convolution holds `fpWeight` and `mask` of
the dense shape, an expander linear layer `weight` and `mask`, none a bias. torch 0.3 kept no
`num_batches_tracked`.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = OrderedDict[str, Tensor]


def mask_of(num_in: int, num_out: int, degree: int, rule: str = "in") -> Tensor:
    """By the rule "in", each output draws its inputs; by "out", each input its outputs."""
    mask = torch.zeros(num_out, num_in)
    if mask.is_meta:
        return mask
    for vertex in range(num_out if rule == "in" else num_in):
        side = num_in if rule == "in" else num_out
        drawn = torch.randperm(side)[:degree]
        if rule == "in":
            mask[vertex, drawn] = 1
        else:
            mask[drawn, vertex] = 1
    return mask


class Writer:
    """Adds one layer after the other to a state_dict."""

    def __init__(self) -> None:
        self.state: State = OrderedDict()

    def norm(self, name: str, size: int) -> None:
        self.state[f"{name}.weight"] = torch.rand(size) + 0.5
        self.state[f"{name}.bias"] = torch.randn(size) / 4
        self.state[f"{name}.running_mean"] = torch.randn(size) / 4
        self.state[f"{name}.running_var"] = torch.rand(size) + 0.5

    def conv(self, name: str, num_in: int, num_out: int, kernel: int, bias: bool = False) -> None:
        self.state[f"{name}.weight"] = torch.randn(num_out, num_in, kernel, kernel) / num_in**0.5
        if bias:
            self.state[f"{name}.bias"] = torch.randn(num_out)

    def linear(self, name: str, num_in: int, num_out: int) -> None:
        self.state[f"{name}.weight"] = torch.randn(num_out, num_in) / num_in**0.5
        self.state[f"{name}.bias"] = torch.randn(num_out)

    def x_conv(
        self, name: str, num_in: int, num_out: int, kernel: int, degree: int, rule: str = "in"
    ) -> None:
        weight = torch.randn(num_out, num_in, kernel, kernel) / degree**0.5
        mask = mask_of(num_in, num_out, degree, rule)[:, :, None, None]
        self.state[f"{name}.fpWeight"] = weight
        self.state[f"{name}.mask"] = mask.repeat(1, 1, kernel, kernel)

    def x_linear(self, name: str, num_in: int, num_out: int, degree: int) -> None:
        self.state[f"{name}.weight"] = torch.randn(num_out, num_in) / degree**0.5
        self.state[f"{name}.mask"] = mask_of(num_in, num_out, degree)


def densenet_cifar(
    depth: int, growth: int, c: int, classes: int, *, x_transitions: bool, rule: str = "in"
) -> State:
    w, pairs, channels = Writer(), (depth - 4) // 6, 2 * growth
    w.conv("conv1", 3, channels, 3)
    for block in (1, 2, 3):
        for i in range(pairs):
            name, wide = f"block{block}.layer.{i}", 4 * growth
            w.norm(f"{name}.bn1", channels)
            w.x_conv(f"{name}.conv1", channels, wide, 1, channels // c, _side(rule, channels, wide))
            w.norm(f"{name}.bn2", wide)
            w.x_conv(f"{name}.conv2", wide, growth, 3, wide // c, _side(rule, wide, growth))
            channels += growth
        if block < 3:
            w.norm(f"trans{block}.bn1", channels)
            if x_transitions:
                w.x_conv(f"trans{block}.conv1", channels, channels // 2, 1, channels // c)
            else:
                w.conv(f"trans{block}.conv1", channels, channels // 2, 1)
            channels //= 2
    w.norm("bn1", channels)
    w.linear("fc", channels, classes)
    return w.state


def _side(rule: str, num_in: int, num_out: int) -> str:
    """The last release draws from the outputs' side only where there are fewer of them."""
    return rule if rule != "released" else "in" if num_in > num_out else "out"


def mobilenet(c: int, classes: int, kind: str = "expander") -> State:
    w = Writer()
    w.conv("model.0.0", 3, 32, 3)
    w.norm("model.0.1", 32)
    widths = [32, 32, 64, 64, 128, 128, *[256] * 6, 512, 1024]
    for i, (num_in, num_out) in enumerate(pairwise(widths), start=1):
        w.conv(f"model.{i}.0", 1, num_in, 3)
        w.norm(f"model.{i}.1", num_in)
        if i == 1:
            w.conv(f"model.{i}.3", num_in, num_out, 1)
        elif kind == "groups":
            w.conv(f"model.{i}.3", num_in // c, num_out, 1)
        else:
            w.x_conv(f"model.{i}.3", num_in, num_out, 1, num_out // c, "out")
        w.norm(f"model.{i}.4", num_out)
    w.linear("fc", 1024, classes)
    return w.state


_RESNETS = {  # blocks of each stage, and whether they are bottlenecks
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(depth: int, c: int, classes: int) -> State:
    """All convolutions of the blocks are expanders; shortcuts are dense."""
    w, channels = Writer(), 64
    w.conv("conv1", 3, 64, 7)
    w.norm("bn1", 64)
    stages, bottleneck = _RESNETS[depth]
    for stage, blocks in enumerate(stages, start=1):
        width = 32 << stage
        out = 4 * width if bottleneck else width
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            sizes = [(channels, width, 3), (width, width, 3)]
            if bottleneck:
                sizes = [(channels, width, 1), (width, width, 3), (width, out, 1)]
            for i, size in enumerate(sizes, start=1):
                w.x_conv(f"{name}.conv{i}", *size, size[0] // c)
                w.norm(f"{name}.bn{i}", size[1])
            if block == 0 and channels != out:
                w.conv(f"{name}.downsample.0", channels, out, 1)
                w.norm(f"{name}.downsample.1", out)
            channels = out
    w.linear("fc", channels, classes)
    return w.state


_DENSENETS = {  # layers of each block, growth, first channels
    121: ((6, 12, 24, 16), 32, 64),
    161: ((6, 12, 36, 24), 48, 96),
    169: ((6, 12, 32, 32), 32, 64),
    201: ((6, 12, 48, 32), 32, 64),
}


def densenet(depth: int, c: int, classes: int) -> State:
    """Of old torchvision's names: `norm.1`, not `norm1`. Transitions are dense."""
    blocks, growth, channels = _DENSENETS[depth]
    w = Writer()
    w.conv("features.conv0", 3, channels, 7)
    w.norm("features.norm0", channels)
    for block, layers in enumerate(blocks, start=1):
        for i in range(1, layers + 1):
            name, wide = f"features.denseblock{block}.denselayer{i}", 4 * growth
            w.norm(f"{name}.norm.1", channels)
            w.x_conv(f"{name}.conv.1", channels, wide, 1, channels // c)
            w.norm(f"{name}.norm.2", wide)
            w.x_conv(f"{name}.conv.2", wide, growth, 3, wide // c)
            channels += growth
        if block < 4:
            w.norm(f"features.transition{block}.norm", channels)
            w.conv(f"features.transition{block}.conv", channels, channels // 2, 1)
            channels //= 2
    w.norm("features.norm5", channels)
    w.linear("classifier", channels, classes)
    return w.state


def vgg16(degrees: list[int]) -> State:
    """DataParallel is around `features` alone."""
    w, place, channels = Writer(), 0, 3
    stages = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    left = iter([3, *degrees])
    for width, layers in stages:
        for _ in range(layers):
            name, degree = f"features.module.{place}", next(left)
            if degree < channels:
                w.x_conv(name, channels, width, 3, degree)
            else:
                w.conv(name, channels, width, 3, bias=True)
            w.norm(f"features.module.{place + 1}", width)
            place, channels = place + 3, width
        place += 1
    w.x_linear("classifier.0", 512, 512, 128)
    w.linear("classifier.2", 512, 10)
    return w.state


def alexnet(degrees: tuple[int, int, int], classes: int) -> State:
    w = Writer()
    shapes = [(0, 3, 64, 11), (4, 64, 192, 5), (8, 192, 384, 3), (11, 384, 256, 3)]
    for place, num_in, num_out, kernel in [*shapes, (14, 256, 256, 3)]:
        w.conv(f"features.module.{place}", num_in, num_out, kernel, bias=True)
        w.norm(f"features.module.{place + 1}", num_out)
    sizes = [(0, 9216, 4096), (3, 4096, 4096), (6, 4096, classes)]
    for (place, num_in, num_out), degree in zip(sizes, degrees, strict=True):
        w.x_linear(f"classifier.{place}", num_in, num_out, degree)
        if place < 6:
            w.norm(f"classifier.{place + 1}", num_out)
    return w.state


def parallel(state: State) -> State:
    return OrderedDict((f"module.{key}", value) for key, value in state.items())


def checkpoint(state: State, arch: str = "densenetexpander_cifar") -> dict[str, Any]:
    """All that `save_checkpoint` wrote, the optimiser's buffers among it."""
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    return {
        "epoch": 300,
        "arch": arch,
        "state_dict": state,
        "best_prec1": 94.83,
        "optimizer": optimizer,
    }


# --- the file format of torch 0.3 ----------------------------------------------------------------


class _Storage:
    def __init__(self, values: Tensor) -> None:
        self.values = values


class _Old:
    """A tensor on the first GPU, as torch 0.3 pickled it."""

    def __init__(self, tensor: Tensor) -> None:
        self.storage, self.tensor = _Storage(tensor.contiguous()), tensor

    def __reduce__(self) -> Any:
        shape = (tuple(self.tensor.shape), self.tensor.contiguous().stride())
        return torch._utils._rebuild_tensor, (self.storage, 0, *shape)


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=2)
        self.storages: dict[str, Tensor] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        key = str(len(self.storages))
        self.storages[key] = value.values
        return ("storage", torch.FloatStorage, key, "cuda:0", value.values.numel(), None)


def save_as_torch_03(values: dict[str, Any], path: Path) -> None:
    def old(value: Any) -> Any:
        if isinstance(value, Tensor):
            return _Old(value)
        if isinstance(value, dict):
            return type(value)((key, old(inner)) for key, inner in value.items())
        return value

    file = io.BytesIO()
    pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
    pickle.dump(1001, file, protocol=2)
    sizes = {"short": 2, "int": 4, "long": 8}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    pickle.dump(system, file, protocol=2)
    pickler = _Pickler(file)
    pickler.dump(old(values))
    pickle.dump(list(pickler.storages), file, protocol=2)
    for tensor in pickler.storages.values():
        file.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
    path.write_bytes(file.getvalue())
