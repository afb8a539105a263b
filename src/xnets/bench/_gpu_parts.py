"""What measuring on a GPU needs besides the timer: ceilings, CUDA graphs, peers of its own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xnets.bench.cases import GraphChoice, Setup, Shape
from xnets.bench.peers import Competitor
from xnets.bench.timer import Run, time_interleaved

_L2 = 64 << 20  # bytes: above that of any GPU of today but one


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


def measure_ceilings(device: str, dtype: torch.dtype, size: int, seconds: float) -> Ceilings:
    """Time a matrix product of `size` cubed and a copy of as many elements as 16 of its operands.

    Args:
        device: "cuda" or "cpu".
        dtype: Of the operands.
        size: Side of the matrices.
        seconds: How long to time each.

    Returns:
        The ceilings. Random numbers: zeros would run faster than real data.
    """
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(16 * size, size, device=device, dtype=dtype)
    target = torch.empty_like(source)
    runs: dict[str, list[Run]] = {
        "product": [lambda: a @ b],
        "copy": [lambda: target.copy_(source)],
    }
    times = time_interleaved(runs, seconds=seconds, device=device)
    moved = 2 * source.numel() * source.element_size()
    return Ceilings(
        2 * size**3 / (times["product"].median / 1e3), moved / (times["copy"].median / 1e3)
    )


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


def copies_beyond_cache(setup: Setup) -> int:
    """How many sets of tensors, taken in turn, the L2 cache cannot hold."""
    used = setup.input.numel() * setup.input.element_size()
    return max(1, min(16, -(-_L2 // used)))


def captured(run: Run) -> Run:
    """A CUDA graph of one call: no time between its kernels is spent on launching them."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = run()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


def compiled(competitor: Competitor) -> Competitor:
    """The same through torch.compile."""
    module: nn.Module = torch.compile(competitor.module, dynamic=False)  # type: ignore[assignment]
    return replace(competitor, name=f"{competitor.name} compiled", module=module)


class _SparseLinear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


def sparse_linear_peers(
    setup: Setup, ours: Competitor, graph: GraphChoice
) -> Iterator[Competitor | tuple[str, str]]:
    """Torch's sparse layouts for linear layers, forward: BSR with our weights, and 2:4.

    Args:
        setup: The tensors.
        ours: The expander layer whose weights BSR takes.
        graph: Its graph; BSR needs blocks that are square.

    Yields:
        A competitor, or a name and why there is none.
    """
    if setup.shape.kernel or setup.training:
        return
    dense: Tensor = ours.module.dense_weight().detach().squeeze(-1)  # type: ignore[operator]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "in beta", "prototype"
        if graph.block[0] == graph.block[1] > 1:
            yield _peer("bsr", setup, ours, lambda: dense.to_sparse_bsr(graph.block))
        yield _peer("2:4", setup, ours, lambda: _two_of_four(dense), two_of_four=True)


def _two_of_four(dense: Tensor) -> Tensor:
    from torch.sparse import to_sparse_semi_structured

    mask = torch.tensor([0, 0, 1, 1], device=dense.device, dtype=torch.bool)
    full = torch.randn_like(dense) * mask.repeat(dense.shape[1] // 4)
    weight: Tensor = to_sparse_semi_structured(full)
    return weight


def _peer(
    name: str,
    setup: Setup,
    ours: Competitor,
    make: Callable[[], Tensor],
    *,
    two_of_four: bool = False,
) -> Competitor | tuple[str, str]:
    """A linear layer on a sparse weight, or the first line of why it does not run here."""
    try:
        weight = make()
        module = _SparseLinear(weight)
        with torch.inference_mode():
            expected = module(setup.input)
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        return name, str(error).partition("\n")[0]
    return Competitor(
        name,
        module,
        setup.input,
        None,
        weight,
        # 2:4 has weights of its own: here it is a time, its result is torch's to check.
        (lambda: [expected]) if two_of_four else ours.expected,
        graph=None if two_of_four else ours.graph,
        edges=weight.shape[0] * weight.shape[1] // 2 if two_of_four else ours.edges,
    )
