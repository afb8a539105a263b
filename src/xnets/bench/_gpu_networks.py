"""Training steps of whole networks, dense and converted, for `xnets.bench.gpu`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from xnets.bench._gpu_parts import captured, one_line, stop_if_broken
from xnets.bench.timer import Run, time_interleaved
from xnets.models import build_model
from xnets.nn import ExpanderLayer


@dataclass(frozen=True)
class Network:
    """A network to train a few steps.

    Args:
        model: Its name, as `build_model` takes it.
        input: Shape of a batch.
        classes: Number of classes.
        blocks: Blocks of the graphs, each tried on its own.
        compression: C of every converted layer.
        backend: Of the converted layers.
        settings: Arguments of the model.
    """

    model: str
    input: tuple[int, ...]
    classes: int
    blocks: tuple[tuple[int, int], ...]
    compression: float = 4
    backend: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkRow:
    """One training step of one network.

    Args:
        network: Its name.
        competitor: "dense" or "expander".
        block: As 64x32, or "".
        launch: "eager" or "graph" (a CUDA graph).
        ms: Median.
        low: First quartile.
        high: Third quartile.
        speedup: Over the faster dense one; None where nothing was timed.
        weights: Elements of the weights of the layers that are converted.
        state_bytes: Weights, gradients and momentum of the whole network.
        note: Why it was not measured.
    """

    network: str
    competitor: str
    block: str = ""
    launch: str = ""
    ms: float | None = None
    low: float | None = None
    high: float | None = None
    speedup: float | None = None
    weights: int = 0
    state_bytes: int = 0
    note: str = ""


def time_network(
    network: Network,
    *,
    device: str,
    seconds: float,
    begin: Callable[[str], None] = lambda who: None,
    avoid: Mapping[str, str] | None = None,
) -> list[NetworkRow]:
    """Time the training step (forward, backward, SGD with momentum) in bf16 autocast.

    Args:
        network: Which.
        device: "cuda", where each is timed eagerly and as a CUDA graph, or "cpu".
        seconds: How long to time each competitor, about.
        begin: Called with the name of each competitor before anything of it runs.
        avoid: Competitors to pass over, and why.

    Returns:
        The rows; one with the reason if there is no such network here.

    Raises:
        DeviceBrokenError: If nothing can run on the device any more in this process.
    """
    begin("building")
    try:
        models = list(_models(network))
    except (ValueError, ImportError) as error:  # timm or torchvision is not installed
        return [NetworkRow(network.model, "dense", note=one_line(error))]
    rows: list[NetworkRow] = []
    best: float | None = None
    for name, block, model, weights in models:
        row = NetworkRow(network.model, name, block, weights=weights)
        who = f"{name} {block}".strip()
        if reason := (avoid or {}).get(who):
            rows.append(replace(row, note=reason))
            continue
        begin(who)
        try:
            found = _time_steps(model, network, row, device, seconds)
        except Exception as problem:  # no memory, or whatever a compiler raises
            rows.append(replace(row, note=one_line(problem)))
            stop_if_broken(device, problem)
            continue
        finally:
            model.to("meta")
            if device == "cuda":
                torch.cuda.empty_cache()
        if name == "dense":
            best = min(found_row.ms or float("inf") for found_row in found)
        rows += [replace(r, speedup=best / r.ms) if best and r.ms else r for r in found]
    return rows


def _time_steps(
    model: nn.Module, network: Network, row: NetworkRow, device: str, seconds: float
) -> list[NetworkRow]:
    model.to(device).to(memory_format=torch.channels_last).train()
    step, state = _training_step(model, network, device)
    step()
    runs: dict[str, list[Run]] = {"eager": [step]}
    note = ""
    if device == "cuda":
        try:
            runs["graph"] = [captured(step)]
        except Exception as error:
            note = f"no CUDA graph: {one_line(error)}"
            stop_if_broken(device, error)
    times = time_interleaved(runs, seconds=seconds, device=device)
    return [
        replace(
            row,
            launch=launch,
            ms=timing.median,
            low=timing.low,
            high=timing.high,
            state_bytes=state(),
            note=note,
        )
        for launch, timing in times.items()
    ]


def _models(network: Network) -> Iterator[tuple[str, str, nn.Module, int]]:
    """Name, block, network, and elements of the weights that are or were converted."""
    for i, block in enumerate(network.blocks):
        sparse = build_model(
            network.model,
            compression=network.compression,
            block=block,
            backend=network.backend,
            settings=network.settings,
        )
        layers = [layer for layer in sparse.modules() if isinstance(layer, ExpanderLayer)]
        if i == 0:
            dense = build_model(network.model, settings=network.settings)
            yield "dense", "", dense, sum(layer.dense_weight().numel() for layer in layers)
        weights = sum(layer.weight.numel() for layer in layers)
        yield "expander", f"{block[0]}x{block[1]}", sparse, weights


def _training_step(
    model: nn.Module, network: Network, device: str
) -> tuple[Run, Callable[[], int]]:
    x = torch.randn(network.input, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(network.classes, (network.input[0],), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)  # the same memory in every step, as a graph needs
        with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False):
            loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()

    def state_bytes() -> int:
        tensors: list[Tensor] = list(model.parameters())
        tensors += [p.grad for p in model.parameters() if p.grad is not None]
        for state in optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, Tensor)]
        return sum(t.numel() * t.element_size() for t in tensors)

    return step, state_bytes
