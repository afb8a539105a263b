"""What measuring on a GPU needs besides the timer: CUDA graphs, layouts, peers of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from xnets.bench.cases import GraphChoice, Setup
from xnets.bench.peers import Competitor
from xnets.bench.timer import Run

_L2 = 64 << 20  # bytes: above that of any GPU of today but one


def copies_beyond_cache(setup: Setup) -> int:
    """How many sets of tensors, taken in turn, the L2 cache cannot hold."""
    used = setup.input.numel() * setup.input.element_size()
    return max(1, min(16, -(-_L2 // used)))


class DeviceBrokenError(RuntimeError):
    """After such an error every call on the device fails, until the process ends."""


def one_line(problem: BaseException) -> str:
    """The first line of an error, or its name."""
    return str(problem).strip().partition("\n")[0][:200] or type(problem).__name__


def stop_if_broken(device: str, problem: BaseException) -> None:
    """Raise `DeviceBrokenError` if the device answers no more, as after an illegal access."""
    if not device.startswith("cuda"):
        return
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.ones(1, device=device).item()
    except RuntimeError:
        raise DeviceBrokenError(one_line(problem)) from problem


@contextmanager
def cudnn_benchmark(on: bool = True) -> Iterator[None]:
    """Let cuDNN search for the fastest kernel of each convolution, or not, in this block."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def in_channels_last(competitor: Competitor) -> Competitor:
    """The same with images and kernels channels last."""
    if competitor.input.dim() != 4 or competitor.layout:
        return competitor
    last = torch.channels_last
    grad = competitor.grad_output
    return replace(
        competitor,
        module=competitor.module.to(memory_format=last),
        input=competitor.input.contiguous(memory_format=last),
        grad_output=None if grad is None else grad.contiguous(memory_format=last),
        layout="channels_last",
    )


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
    setup: Setup, ours: Competitor, graph: GraphChoice, *, two_of_four: bool
) -> Iterator[Competitor | tuple[str, str]]:
    """Torch's sparse layouts for linear layers, forward: BSR with our weights, and 2:4.

    Args:
        setup: The tensors.
        ours: The expander layer whose weights BSR takes.
        graph: Its graph; BSR needs blocks that are square.
        two_of_four: Whether 2:4 is wanted too, which knows no graph: once a case is enough.

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
        if two_of_four:
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
