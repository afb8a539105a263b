"""Training steps of whole networks, dense and converted, for `xnets.bench.gpu`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xnets.bench._gpu_parts import captured
from xnets.bench.timer import Run, time_interleaved
from xnets.convert import convert


@dataclass(frozen=True)
class Network:
    """A network to train a few steps.

    Args:
        name: What the tables call it.
        build: Makes it.
        input: Shape of a batch.
        classes: Number of classes.
        blocks: Blocks of the graphs, each tried on its own.
        compression: C of every converted layer.
        backend: Of the converted layers.
    """

    name: str
    build: Callable[[], nn.Module]
    input: tuple[int, ...]
    classes: int
    blocks: tuple[tuple[int, int], ...]
    compression: float = 4
    backend: str = "auto"


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


def wide_resnet() -> nn.Module:
    """ResNet-50 with bottlenecks twice as wide."""
    from torchvision.models import wide_resnet50_2

    model: nn.Module = wide_resnet50_2()
    return model


def vit_large() -> nn.Module:
    """ViT-L/16 of timm, whose attention is made of linear layers, so that it is converted too."""
    import timm

    model: nn.Module = timm.create_model("vit_large_patch16_224")
    return model


def small_net() -> nn.Module:
    """For tests."""
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def time_network(network: Network, *, device: str, seconds: float) -> list[NetworkRow]:
    """Time the training step (forward, backward, SGD with momentum) in bf16 autocast.

    Args:
        network: Which.
        device: "cuda", where each is timed eagerly and as a CUDA graph, or "cpu".
        seconds: How long to time each competitor, about.

    Returns:
        The rows; a network that cannot be built gives one with the reason.
    """
    try:
        dense = network.build()
    except ImportError as error:
        return [NetworkRow(network.name, "dense", note=str(error))]
    rows: list[NetworkRow] = []
    best: float | None = None
    for name, block, model, converted in _models(network, dense):
        model.to(device).to(memory_format=torch.channels_last).train()
        weights = sum(weight.numel() for weight in _converted_weights(model, converted))
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
                    network.name,
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
        del model, step, state, runs
        if device == "cuda":
            torch.cuda.empty_cache()
    return rows


def _models(
    network: Network, dense: nn.Module
) -> Iterator[tuple[str, str, nn.Module, frozenset[str]]]:
    for i, block in enumerate(network.blocks):
        sparse, report = convert(dense, network.compression, block=block, backend=network.backend)
        converted = frozenset(layer.name for layer in report.converted)
        if i == 0:
            yield "dense", "", dense, converted
        yield "expander", f"{block[0]}x{block[1]}", sparse, converted


def _converted_weights(model: nn.Module, names: frozenset[str]) -> Iterator[Tensor]:
    for name, module in model.named_modules():
        if name in names:
            yield module.weight  # type: ignore[misc]


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
