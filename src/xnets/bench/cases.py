"""What is measured: shapes of layers, and one setup of tensors shared by all competitors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from xnets._errors import UserError
from xnets.graphs import BipartiteGraph, make_graph

STEPS = ("forward", "training")

_SHAPE = re.compile(
    r"(?P<kind>linear|(?P<k>\d+)x(?P=k)):(?P<num_in>\d+)(-(?P<num_out>\d+))?"
    r"(@(?P<side>\d+)(/(?P<stride>\d+))?)?"
)


@dataclass(frozen=True)
class Shape:
    """A linear layer (`kernel` = 0), or a convolution of square images that keeps their size.

    Args:
        num_in: Inputs, or input channels.
        num_out: Outputs.
        kernel: Side of the kernel, odd; 0 for a linear layer.
        side: Side of the images.
        stride: Of the convolution.
    """

    num_in: int
    num_out: int
    kernel: int = 0
    side: int = 0
    stride: int = 1

    @property
    def kind(self) -> str:
        """What the tables call it: "linear", "1x1", "3x3"."""
        return f"{self.kernel}x{self.kernel}" if self.kernel else "linear"

    def __str__(self) -> str:
        """The size without the kind, as 64@56, 64-128@56/2 or 1024."""
        text = f"{self.num_in}" if self.num_in == self.num_out else f"{self.num_in}-{self.num_out}"
        if self.kernel:
            text += f"@{self.side}" + (f"/{self.stride}" if self.stride > 1 else "")
        return text

    @property
    def label(self) -> str:
        """What `read_shapes` reads: kind and size."""
        return f"{self.kind}:{self}"

    def macs(self, batch: int) -> int:
        """Multiply-accumulates of the dense layer."""
        outputs = math.prod(self.output_shape(batch))
        return outputs * self.num_in * max(1, self.kernel) ** 2

    def input_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the input."""
        return (batch, self.num_in, *[self.side] * 2) if self.kernel else (batch, self.num_in)

    def output_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the output."""
        sides = [(self.side - 1) // self.stride + 1] * 2 if self.kernel else []
        return (batch, self.num_out, *sides)


STANDARD = {
    "1x1": "1x1:64@56,1x1:128@28,1x1:256@14,1x1:512@14,1x1:512@7",
    "3x3": "3x3:64@56,3x3:128@28,3x3:256@14,3x3:512@7",
    "linear": "linear:1024,linear:4096",
}
BATCHES = {"conv": (1, 16), "linear": (1, 128)}


def read_shapes(text: str) -> list[Shape]:
    """Read shapes, with commas between.

    Args:
        text: KIND:IN[-OUT][@SIDE[/STRIDE]], where KIND is linear, 1x1, 3x3 or another odd kernel;
            or KIND alone, for the standard shapes of that kind.

    Returns:
        The shapes.

    Raises:
        UserError: If one cannot be read.

    Examples:
        >>> [str(shape) for shape in read_shapes("linear,3x3:64-128@56/2")]
        ['1024', '4096', '64-128@56/2']
    """
    shapes: list[Shape] = []
    for part in text.split(","):
        if part in STANDARD:
            shapes += read_shapes(STANDARD[part])
            continue
        found = _SHAPE.fullmatch(part.strip())
        size = (
            {k: int(v or 0) for k, v in found.groupdict().items() if k != "kind"} if found else {}
        )
        conv = bool(size.get("k"))
        fits = (
            size and size["num_in"] and bool(size["side"]) == conv and (not conv or size["k"] % 2)
        )
        if not fits:
            raise UserError(
                f"`shapes` (={part}) must be {', '.join(STANDARD)}, or such as 3x3:64@56, "
                "1x1:64-128@28/2 or linear:1024"
            )
        num_in = size["num_in"]
        shapes.append(
            Shape(num_in, size["num_out"] or num_in, size["k"], size["side"], size["stride"] or 1)
        )
    return list(dict.fromkeys(shapes))


def read_blocks(text: str, name: str = "`blocks`") -> list[tuple[int, int]]:
    """Read blocks, as 1x1,4x1.

    Args:
        text: OUTxIN, with commas between.
        name: What the user calls it.

    Returns:
        (b_out, b_in) of each.

    Raises:
        UserError: If one cannot be read.

    Examples:
        >>> read_blocks("1x1,4x1")
        [(1, 1), (4, 1)]
    """
    found = [re.fullmatch(r"\s*([1-9]\d*)x([1-9]\d*)\s*", part) for part in text.split(",")]
    if not all(found):
        raise UserError(f"{name} (={text}) must be sides OUTxIN, as 1x1,4x1")
    return list(dict.fromkeys((int(m[1]), int(m[2])) for m in found if m))


@dataclass(frozen=True)
class GraphChoice:
    """Which graphs to draw for a layer.

    Args:
        compression: How many times fewer edges than dense.
        family: The family.
        block: (b_out, b_in).
    """

    compression: float
    family: str
    block: tuple[int, int]

    def draw(self, shape: Shape, seed: int = 0) -> BipartiteGraph:
        """The graph for a layer of that shape, or a ValueError that says why there is none."""
        return make_graph(
            self.family,
            shape.num_in,
            shape.num_out,
            compression=self.compression,
            block=self.block,
            seed=seed,
        )


class Setup:
    """The tensors of one shape and batch, the same for all competitors.

    Args:
        shape: The layer's shape.
        batch: Images, or rows of features.
        training: Whether gradients are wanted.
        device: Where the tensors are.
        dtype: Of the tensors.
    """

    def __init__(
        self,
        shape: Shape,
        batch: int,
        *,
        training: bool,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape, self.batch, self.training = shape, batch, training
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator().manual_seed(0)
        self.input = self.normal(shape.input_shape(batch))

    def normal(self, size: Sequence[int], scale: float = 1.0) -> Tensor:
        """Normal numbers, the same in every run."""
        drawn = torch.randn(*size, generator=self.generator) * scale
        return drawn.to(self.device, self.dtype)

    @cached_property
    def grad_output(self) -> Tensor:
        """The gradient to the output."""
        return self.normal(self.shape.output_shape(self.batch))

    @property
    def kernel(self) -> tuple[int, ...]:
        """Kernel size as a weight has it: (k, k), or (1,) for linear."""
        return (self.shape.kernel,) * 2 if self.shape.kernel else (1,)

    def dense(self, x: Tensor, weight: Tensor) -> Tensor:
        """What every layer computes, given its dense weight."""
        if not self.shape.kernel:
            return F.linear(x, weight.squeeze(-1))
        return F.conv2d(x, weight, stride=self.shape.stride, padding=self.shape.kernel // 2)

    def expected(self, weight: Tensor, mask: Tensor) -> list[Tensor]:
        """The definition: scatter the edges into a dense weight, call torch.

        Args:
            weight: (num_edges, *kernel), by output, then by input.
            mask: (num_out, num_in), true at the edges.

        Returns:
            The output; in training also the gradients to the input and to the edges.
        """
        wide = torch.float64 if self.device != "cpu" else torch.float32
        dense = torch.zeros(*mask.shape, *self.kernel, dtype=wide, device=self.device)
        dense[mask] = weight.detach().to(wide)
        x = self.input.to(wide)
        if not self.training:
            with torch.no_grad():
                return [self.dense(x, dense)]
        x, dense = x.clone().requires_grad_(), dense.requires_grad_()
        y = self.dense(x, dense)
        grad_x, grad_dense = torch.autograd.grad(y, (x, dense), self.grad_output.to(wide))
        return [y.detach(), grad_x, grad_dense[mask]]


# Largest difference from the definition, relative to its largest value. On CUDA torch multiplies
# float32 convolutions in TF32 unless told otherwise.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
_TOLERANCE_TF32 = 5e-3
_NAMES = ("the output", "the gradient to the input", "the gradient to the weight")


def compare(
    results: Sequence[Tensor], expected: Sequence[Tensor], device: str
) -> tuple[float, str]:
    """How far results are from the definition.

    Args:
        results: Output, and gradients in training.
        expected: What they should be, in the same order.
        device: Where they were computed.

    Returns:
        The largest error, relative to the largest value expected, and what is wrong, "" if nothing.

    Examples:
        >>> compare([torch.ones(2)], [torch.tensor([1.0, 2.0])], "cpu")
        (0.5, 'the output is off by 0.5')
    """
    worst, wrong = 0.0, ""
    for name, result, wanted in zip(_NAMES, results, expected, strict=False):
        tolerance = _TOLERANCE[result.dtype]
        if device.startswith("cuda"):
            tolerance = max(tolerance, _TOLERANCE_TF32)
        if result.shape != wanted.shape:
            return float("inf"), f"{name} has shape {tuple(result.shape)}"
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        error = float((result.to(wanted.dtype) - wanted).abs().max()) / (scale or 1.0)
        if not error <= tolerance and not wrong:  # NaN is no small error
            wrong = f"{name} is off by {error:.2g}"
        worst = error if math.isnan(error) else max(worst, error)
    return worst, wrong
