"""How fast whole networks are, dense and converted, in one run, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xnets._errors import UserError
from xnets.bench._model_parity import check_against_dense
from xnets.bench.cases import GraphChoice
from xnets.bench.memory import peak_memory
from xnets.bench.timer import Run, time_interleaved
from xnets.count import count
from xnets.models import build_model

STEPS = ("inference", "training")


@dataclass(frozen=True)
class ModelRow:
    """One network in one case.

    Args:
        step: "inference" (eval mode) or "training" (train mode, forward and all gradients).
        model: The network's name.
        input: Shape of one input, as 3x224x224.
        batch: How many inputs.
        threads: How many.
        competitor: "dense" or "expander".
        layout: "channels_last" or nothing.
        compression: C as asked for; 1 for dense.
        family: Of the graphs.
        block_out: Of the graphs.
        block_in: Of the graphs.
        backend: As asked for.
        status: "ok", or why there is no time: "cannot: ...", "wrong: ...", "failed: ...".
        error: Largest relative difference from the same network with dense layers.
        ms: Median time of a step, milliseconds.
        ms_low: First quartile over the rounds.
        ms_high: Third quartile.
        rounds: How many rounds.
        images_per_second: Inputs a second.
        speedup: Time of the faster dense layout over this one's.
        params: Number of parameters.
        macs: Multiply-accumulates of one input's forward pass.
        bytes: Of parameters and buffers, index tables included.
        peak_bytes: Memory that a step adds at most; see `peak_memory`.
    """

    step: str
    model: str
    input: str
    batch: int
    threads: int
    competitor: str
    layout: str = ""
    compression: float = 1
    family: str | None = None
    block_out: int | None = None
    block_in: int | None = None
    backend: str | None = None
    status: str = "ok"
    error: float | None = None
    ms: float | None = None
    ms_low: float | None = None
    ms_high: float | None = None
    rounds: int | None = None
    images_per_second: float | None = None
    speedup: float | None = None
    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    peak_bytes: int | None = None


@dataclass
class ModelCompetitor:
    """A network that takes part; a new peer is one more of these.

    Args:
        row: What is known of it before it runs.
        model: The network; None if it cannot be built, as `row.status` says.
        check: Compares it with its definition on an input, in a step: the error, and what is wrong.
    """

    row: dict[str, Any]
    model: nn.Module | None = None
    check: Callable[[Tensor, str], tuple[float, str]] = field(default=lambda x, step: (0.0, ""))

    def run(self, x: Tensor, step: str) -> Run:
        """A call of one step."""
        model = self.model
        assert model is not None
        if self.row.get("layout") == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        if step == "inference":

            def inference() -> object:
                with torch.inference_mode():
                    return model(x)

            return inference
        weights = [p for p in model.parameters() if p.requires_grad]

        def training() -> object:
            outputs = tree_leaves(model(x))
            return torch.autograd.grad(
                outputs, weights, [torch.ones_like(y) for y in outputs], allow_unused=True
            )

        return training


def model_competitors(
    name: str,
    size: Sequence[int],
    graphs: Sequence[GraphChoice],
    backends: Sequence[str],
    device: str = "cpu",
) -> list[ModelCompetitor]:
    """The dense network in both layouts, and its expander versions.

    Args:
        name: As `xnets.models.full_name` takes it.
        size: Shape of one input.
        graphs: What graphs to draw.
        backends: "auto" or other backends.
        device: Where to.

    Returns:
        The competitors, the dense ones first.

    Raises:
        UserError: If the network cannot take such an input.
    """
    found = []
    for layout in ("", "channels_last"):
        torch.manual_seed(0)
        model = build_model(name, compression=1).to(device)
        if layout:
            model = model.to(memory_format=torch.channels_last)
        try:
            sizes = _sizes(model, size, device)
        except RuntimeError as error:
            raise UserError(
                f"model {name!r} cannot take an input of {'x'.join(map(str, size))}, give another "
                f"by `--input`: {error}"
            ) from error
        row: dict[str, Any] = {"competitor": "dense", "layout": layout, **sizes}
        found.append(ModelCompetitor(row, model))
    for graph, backend in product(graphs, backends):
        b_out, b_in = graph.block
        row = {
            "competitor": "expander",
            "compression": graph.compression,
            "family": graph.family,
            "block_out": b_out,
            "block_in": b_in,
            "backend": backend,
        }
        torch.manual_seed(0)
        try:
            sparse = build_model(
                name,
                compression=graph.compression,
                family=graph.family,
                block=graph.block,
                backend=backend,
            ).to(device)
        except ValueError as error:
            found.append(ModelCompetitor({**row, "status": f"cannot: {error}"}))
            continue
        try:
            row |= _sizes(sparse, size, device)
        except ValueError as error:  # the backend cannot run one of the layers
            found.append(ModelCompetitor({**row, "status": f"cannot: {error}"}))
            continue

        def check(x: Tensor, step: str, sparse: nn.Module = sparse) -> tuple[float, str]:
            return check_against_dense(sparse, x, training=step == "training")

        found.append(ModelCompetitor(row, sparse, check))
    return found


def _sizes(model: nn.Module, size: Sequence[int], device: str) -> dict[str, int]:
    counted = count(model, torch.zeros(1, *size, device=device))
    return {"params": counted.params, "macs": counted.macs, "bytes": counted.bytes}


def measure_models(
    competitors: Sequence[ModelCompetitor],
    x: Tensor,
    *,
    step: str = "inference",
    seconds: float = 1.0,
    device: str = "cpu",
    memory: bool = True,
    **conditions: Any,
) -> list[ModelRow]:
    """Check and time competing networks on one batch, interleaved.

    Args:
        competitors: The networks.
        x: The batch.
        step: "inference" or "training".
        seconds: How long to time each, about; at least three rounds.
        device: "cpu" or "cuda".
        memory: Whether to measure the peak of memory too.
        conditions: Further fields of the rows.

    Returns:
        A row for each.
    """
    rows: list[ModelRow] = []
    runs: dict[str, list[Run]] = {}
    for i, competitor in enumerate(competitors):
        row = ModelRow(step=step, batch=len(x), **conditions, **competitor.row)
        if competitor.model is not None:
            try:
                error, wrong = competitor.check(x, step)
                competitor.model.train(step == "training")
                run = competitor.run(x, step)
                run()
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as problem:
                row = replace(row, status=f"failed: {' '.join(str(problem).split())[:200]}")
            else:
                row = replace(row, error=error, status=f"wrong: {wrong}" if wrong else "ok")
                if not wrong:
                    runs[str(i)] = [run]
        rows.append(row)
    if memory:
        for key, [run] in runs.items():
            peak = peak_memory(run, device, tries=1)
            rows[int(key)] = replace(rows[int(key)], peak_bytes=peak)
    for key, timing in time_interleaved(runs, seconds=seconds, device=device).items():
        rows[int(key)] = replace(
            rows[int(key)],
            ms=timing.median,
            ms_low=timing.low,
            ms_high=timing.high,
            rounds=timing.rounds,
            images_per_second=1e3 * len(x) / timing.median,
        )
    dense = min((r.ms for r in rows if r.competitor == "dense" and r.ms), default=None)
    return [replace(r, speedup=dense / r.ms) if dense and r.ms else r for r in rows]
