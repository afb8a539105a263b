"""A network that takes part in `xnets bench models`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xnets.bench.roofline import NetworkWork


@dataclass(frozen=True)
class Started:
    """Another runtime with a network loaded, for one batch size and torch's number of threads.

    Args:
        run: Computes the outputs, as tensors or arrays.
        file_bytes: Size of the file that it was loaded from.
        keeps_scratch: Whether the memory of the first call stays for later ones.
        held_is_known: Whether what the process grew by is the network, and not a compiler too.
    """

    run: Callable[[], Any]
    file_bytes: int | None = None
    keeps_scratch: bool = False
    held_is_known: bool = True


# Everything up to a file is done first, so that loading it is all that the returned call does.
Start = Callable[[Tensor], Callable[[], Started]]


@dataclass
class ModelCompetitor:
    """A network that takes part; a new peer is one more of these.

    Args:
        row: What is known of it before it runs.
        model: The network; None if it cannot be built, as `row.status` says.
        check: Compares it with its definition on an input, in a step: the error, and what is wrong.
        start: Prepares an input for another runtime and returns what loads the network into it; it
            is then compared with `model` and timed instead of it, in inference only.
        work: What its layers cannot do without, for one input.
    """

    row: dict[str, Any]
    model: nn.Module | None = None
    check: Callable[[Tensor, str], tuple[float, str]] = field(default=lambda x, step: (0.0, ""))
    start: Start | None = None
    work: NetworkWork = field(default_factory=NetworkWork)

    def run(self, x: Tensor, step: str, dtype: torch.dtype = torch.float32) -> Callable[[], object]:
        """A call of one step of `model`; in low precision by autocast."""
        model = self.model
        assert model is not None
        kind = x.device.type
        if self.row.get("layout") == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        if step == "inference":
            return inference(model, x, dtype)
        weights = [p for p in model.parameters() if p.requires_grad]

        def training() -> object:
            with _autocast(kind, dtype):
                outputs = tree_leaves(model(x))
            return torch.autograd.grad(
                outputs, weights, [torch.ones_like(y) for y in outputs], allow_unused=True
            )

        return training


def inference(model: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
    """A call of a network in inference mode; in low precision by autocast."""

    def run() -> Any:
        with torch.inference_mode(), _autocast(x.device.type, dtype):
            return model(x)

    return run


def _autocast(device: str, dtype: torch.dtype) -> AbstractContextManager[object]:
    if dtype == torch.float32:
        return nullcontext()
    # No cache of converted weights: what a CUDA graph would keep dies with the block.
    return torch.autocast(device, dtype=dtype, cache_enabled=False)
