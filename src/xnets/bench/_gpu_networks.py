"""Training steps of whole networks, dense and converted, for `xnets.bench.gpu`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xnets.bench._gpu_parts import captured
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


def time_network(network: Network, *, device: str, seconds: float) -> list[NetworkRow]:
    """Time the training step (forward, backward, SGD with momentum) in bf16 autocast.

    Args:
        network: Which.
        device: "cuda", where each is timed eagerly and as a CUDA graph, or "cpu".
        seconds: How long to time each competitor, about.

    Returns:
        The rows; one with the reason if there is no such network here.
    """
    try:
        models = list(_models(network))
    except ValueError as error:  # timm is not installed
        return [NetworkRow(network.model, "dense", note=str(error))]
    rows: list[NetworkRow] = []
    best: float | None = None
    for name, block, model, weights in models:
        model.to(device).to(memory_format=torch.channels_last).train()
        step, state = _training_step(model, network, device)
        step()
        runs: dict[str, list[Run]] = {"eager": [step]}
        note = ""
        if device == "cuda":
            try:
                runs["graph"] = [captured(step)]
            except RuntimeError as error:
                note = str(error).partition("\n")[0]
        times = time_interleaved(runs, seconds=seconds, device=device)
        if name == "dense":
            best = min(timing.median for timing in times.values())
        for launch, timing in times.items():
            rows.append(
                NetworkRow(
                    network.model,
                    name,
                    block,
                    launch,
                    timing.median,
                    timing.low,
                    timing.high,
                    None if best is None else best / timing.median,
                    weights,
                    state(),
                    note,
                )
            )
        model.to("meta")
        del step, state, runs
        if device == "cuda":
            torch.cuda.empty_cache()
    return rows


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
