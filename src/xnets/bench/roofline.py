"""The roofline: the least time that the device allows, by two ceilings measured in the same run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xnets.bench.cases import Shape
from xnets.bench.timer import Run, time_interleaved
from xnets.count import count


@dataclass(frozen=True)
class Ceilings:
    """What the device can do at most, measured in this run.

    Args:
        flops: Floating-point operations a second of a large matrix product.
        bandwidth: Bytes read plus bytes written a second of a large copy.
    """

    flops: float
    bandwidth: float

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for so many operations and bytes.

        Examples:
            >>> Ceilings(flops=1e12, bandwidth=1e9).seconds(2e12, 1e9)
            2.0
        """
        return max(flops / self.flops, moved / self.bandwidth)

    def __str__(self) -> str:
        return f"{self.flops / 1e12:.3g} TFLOP/s, {self.bandwidth / 1e9:,.4g} GB/s"


def measure_ceilings(
    device: str, dtype: torch.dtype, *, size: int | None = None, seconds: float = 0.1
) -> Ceilings:
    """Time a matrix product of `size` cubed and a copy of as many elements as 16 of its operands.

    Float32 is multiplied in TF32 on CUDA, as torch's convolutions are by default.

    Args:
        device: "cuda" or "cpu".
        dtype: Of the operands.
        size: Side of the matrices; 8192 on CUDA and 1024 on the CPU by default.
        seconds: How long to time each.

    Returns:
        The ceilings. Random numbers: zeros would run faster than real data.
    """
    size = size or (8192 if device.startswith("cuda") else 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = a.repeat(16, 1)
    target = torch.empty_like(source)
    runs: dict[str, list[Run]] = {
        "product": [lambda: a @ b],
        "copy": [lambda: target.copy_(source)],
    }
    with _tf32():
        a @ b
        times = time_interleaved(runs, seconds=seconds, device=device)
    moved = 2 * source.numel() * source.element_size()
    return Ceilings(
        2 * size**3 / (times["product"].median / 1e3), moved / (times["copy"].median / 1e3)
    )


@contextmanager
def _tf32() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def work(shape: Shape, batch: int, edges: int, itemsize: int, *, training: bool) -> tuple[int, int]:
    """Operations and bytes that a layer cannot do without.

    Args:
        shape: The layer.
        batch: Images, or rows.
        edges: Edges of its graph.
        itemsize: Bytes an element.
        training: Whether both gradients are computed too.

    Returns:
        Floating-point operations; bytes, each tensor read or written once a pass.

    Examples:
        >>> work(Shape(64, 64), 10, 1024, 2, training=False)
        (20480, 4608)
    """
    weights = edges * max(1, shape.kernel) ** 2
    inputs, outputs = math.prod(shape.input_shape(batch)), math.prod(shape.output_shape(batch))
    flops = 2 * weights * outputs // shape.num_out
    passes = 3 if training else 1
    return passes * flops, passes * itemsize * (inputs + outputs + weights)


@dataclass(frozen=True)
class NetworkWork:
    """What the layers of a network cannot do without, each by itself, for one input.

    The least time of a network is the sum over its layers, whose activations pass through memory;
    norms, activations and additions are taken to be free, as if they were fused.

    Args:
        layers: (multiply-accumulates, elements of inputs and outputs, elements of weights).
    """

    layers: tuple[tuple[int, int, int], ...] = ()

    def seconds(self, ceilings: Ceilings, batch: int, itemsize: int, *, training: bool) -> float:
        """The least time of a step on a batch.

        Examples:
            >>> work = NetworkWork(((500, 100, 1000), (2000, 10, 10)))
            >>> work.seconds(Ceilings(1000.0, 100.0), batch=1, itemsize=1, training=False)
            15.0
        """
        passes = 3 if training else 1
        return passes * sum(
            ceilings.seconds(2 * batch * macs, itemsize * (batch * moved + weights))
            for macs, moved, weights in self.layers
        )


def network_work(model: nn.Module, example: Tensor) -> NetworkWork:
    """Read off what a network's layers need by running it once on one input.

    Args:
        model: The network; left as it was.
        example: A batch of one.

    Returns:
        An entry for every module that multiplies, as `xnets.count` counts.

    Examples:
        >>> network_work(nn.Linear(8, 4), torch.zeros(1, 8)).layers
        ((32, 12, 36),)
    """
    moved: dict[str, int] = {}

    def note(name: str, inputs: Any, outputs: Any) -> None:
        tensors = [t for t in tree_leaves((inputs, outputs)) if isinstance(t, Tensor)]
        moved[name] = moved.get(name, 0) + sum(t.numel() for t in tensors)

    hooks = [
        module.register_forward_hook(lambda _, x, y, name=name: note(name, x, y))
        for name, module in model.named_modules()
    ]
    try:
        layers = count(model, example).layers
    finally:
        for hook in hooks:
            hook.remove()
    return NetworkWork(
        tuple((each.macs, moved[each.name], each.params) for each in layers if each.macs)
    )
