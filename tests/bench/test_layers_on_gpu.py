"""What `xnets bench` does on a GPU only: there if there is one, else with stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from xnets.bench import _gpu_parts, layers, model_report, models, roofline
from xnets.bench._model_parity import exact_float32
from xnets.bench.cases import GraphChoice, Setup, Shape
from xnets.bench.layers import measure_layers
from xnets.bench.peers import PEERS, Competitor, dense_layers
from xnets.bench.roofline import Ceilings, NetworkWork, measure_ceilings, network_work
from xnets.bench.timer import Timing

ON_GPU = torch.cuda.is_available()
GRAPHS = [GraphChoice(2, "random", (16, 16)), GraphChoice(2, "random", (32, 32))]


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    """A setup that says that it lies on a GPU."""
    made = Setup(Shape(64, 64), 4, training=False)
    made.device = "cuda"
    monkeypatch.setattr(layers, "compiled", lambda dense: replace(dense, name="dense c"))
    monkeypatch.setattr(Setup, "normal", lambda self, size, scale=1.0: torch.randn(*size) * scale)
    return made


@pytest.mark.skipif(ON_GPU, reason="the stand-ins are for machines without a GPU")
def test_peers_of_a_gpu(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def peer(name: str, *arguments: object, **options: object) -> tuple[str, str]:
        made.append(name)
        return name, "not here"

    monkeypatch.setattr(_gpu_parts, "_peer", peer)
    for name in ("expander_layers", "dense_layers"):
        monkeypatch.setattr(layers, name, on_the_cpu(getattr(layers, name)))
    found = list(layers._competitors(setup, GRAPHS, ["masked"], PEERS))
    names = [who.name if isinstance(who, Competitor) else who for who, _, _ in found]
    assert names.count("dense c") == 1
    assert names.count("bsr") == 2  # both blocks are square
    assert names.count("2:4") == 1
    graph = next(graph for who, graph, _ in found if who == "2:4")
    assert graph == GraphChoice(2, "2:4", (1, 1))
    few = list(layers._competitors(setup, GRAPHS, ["masked"], ["csr"]))
    assert not {"dense c", "bsr", "2:4"} & {getattr(who, "name", who) for who, _, _ in few}


def on_the_cpu(make: Callable[..., Iterator[object]]) -> Callable[..., list[object]]:
    def made(setup: Setup, *arguments: object) -> list[object]:
        setup.device = "cpu"
        found = list(make(setup, *arguments))
        setup.device = "cuda"
        return found

    return made


@pytest.mark.parametrize(("ms", "launch"), [(0.01, "graph"), (5.0, "eager")])
def test_small_layers_are_cuda_graphs(
    ms: float, launch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timings(runs: dict[str, object], **options: object) -> dict[str, Timing]:
        return {key: Timing(ms, ms, ms, 3) for key in runs}

    monkeypatch.setattr(layers, "time_interleaved", timings)
    [dense] = dense_layers(Setup(Shape(8, 8), 2, training=False))
    runs, failed, found = layers._prepare({0: dense}, 3, "cuda")
    assert (len(runs[0]), failed, found) == (3, {}, launch)
    assert layers._prepare({0: dense}, 1, "cpu")[2] == "eager"


def test_what_cannot_be_captured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def captured(run: object) -> object:
        if run == "bad":
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        return run

    monkeypatch.setattr(layers, "captured", captured)
    runs, failed = layers._as_graphs({0: ["good", "good"], 1: ["good", "bad"]})  # type: ignore[list-item]
    assert runs == {0: ["good", "good"]}
    assert failed[1].startswith("as a CUDA graph: operation not permitted when stream")


def test_roofline_of_layers_and_networks() -> None:
    """The share of the least time: half the ceiling is half the share."""
    shape, graphs = Shape(16, 16), [GraphChoice(2, "random", (1, 1))]
    for row in measure_layers(
        shape, 4, graphs, backends=["masked"], peers=[], seconds=0.001, ceilings=Ceilings(1e9, 1e12)
    ):
        flops = 2 * 4 * row.edges
        assert row.roofline == pytest.approx(flops / 1e9 / (row.ms / 1e3))
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)
    )
    work = network_work(network, torch.zeros(1, 3, 5, 5))
    assert work == NetworkWork(((972, 75 + 36, 112), (72, 36 + 18, 10)))
    ceilings = Ceilings(100.0, 1.0)
    expected = 3 * ((4 * (2 * 111) + 4 * 112) + 4 * (2 * 54 + 10))
    assert work.seconds(ceilings, 2, 4, training=True) == expected


def test_ceilings_are_measured() -> None:
    found = measure_ceilings("cpu", torch.float32, size=64, seconds=0.001)
    assert found.flops > 0
    assert found.bandwidth > 0
    assert "TFLOP/s" in str(found)


def test_settings_come_back() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark)
    with exact_float32():
        assert not cudnn.allow_tf32
        assert not matmul.allow_tf32
    with roofline._tf32():
        assert matmul.allow_tf32
    with _gpu_parts.cudnn_benchmark():
        assert cudnn.benchmark
    assert (cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark) == before


def test_networks_are_timed_eagerly_and_as_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for what only a GPU has, the rest is the same code."""
    if not ON_GPU:
        monkeypatch.setattr(models, "captured", lambda run: run)
        monkeypatch.setattr(models, "peak_memory", lambda *a, **k: 0)
        plain = models.time_interleaved
        monkeypatch.setattr(
            models, "time_interleaved", lambda runs, seconds, device: plain(runs, seconds=seconds)
        )
    net = torch.nn.Linear(4, 2)
    dense = models.ModelCompetitor({"competitor": "dense"}, net, work=NetworkWork(((8, 6, 10),)))

    def fails(x: torch.Tensor, step: str) -> tuple[float, str]:
        raise torch.OutOfMemoryError("no memory")

    broken = models.ModelCompetitor({"competitor": "expander", "family": "random"}, net, fails)
    rows = models.measure_models(
        [dense, broken],
        torch.randn(3, 4),
        seconds=0.001,
        device="cuda",
        dtype="bfloat16",
        ceilings=Ceilings(1e9, 1e9),
        model="net",
        input="4",
        threads=1,
    )
    assert [(r.competitor, r.launch, r.status) for r in rows] == [
        ("dense", "eager", "ok"),
        ("dense", "graph", "ok"),
        ("expander", "eager", "failed: no memory"),
    ]
    assert all(r.roofline and r.dtype == "bfloat16" for r in rows[:2])
    shown = str(model_report.ModelsReport(tuple(rows), (), {1: Ceilings(1e9, 1e9)}))
    assert "dense NCHW, graph" in shown
    assert "ceilings, threads 1" in shown


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_layers_on_a_gpu() -> None:
    rows = measure_layers(
        Shape(256, 256), 512, [GraphChoice(4, "biregular", (64, 64))], device="cuda",
        dtype="bfloat16", seconds=0.01, ceilings=measure_ceilings("cuda", torch.bfloat16),
    )  # fmt: skip
    assert {row.launch for row in rows if row.ms} == {"graph"}
    assert all(0 < row.roofline <= 1.05 for row in rows if row.roofline)
    assert {row.competitor for row in rows if row.ms} >= {"dense", "dense compiled", "triton"}
