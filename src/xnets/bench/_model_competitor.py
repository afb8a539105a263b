"""A network that takes part in `xnets bench models`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


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
    """

    row: dict[str, Any]
    model: nn.Module | None = None
    check: Callable[[Tensor, str], tuple[float, str]] = field(default=lambda x, step: (0.0, ""))
    start: Start | None = None

    def run(self, x: Tensor, step: str) -> Callable[[], object]:
        """A call of one step of `model`."""
        model = self.model
        assert model is not None
        if self.row.get("layout") == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        if step == "inference":
            return inference(model, x)
        weights = [p for p in model.parameters() if p.requires_grad]

        def training() -> object:
            outputs = tree_leaves(model(x))
            return torch.autograd.grad(
                outputs, weights, [torch.ones_like(y) for y in outputs], allow_unused=True
            )

        return training


def inference(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    """A call of a network in inference mode."""

    def run() -> Any:
        with torch.inference_mode():
            return model(x)

    return run
