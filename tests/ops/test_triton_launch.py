"""How the Triton kernels are launched: transposed tables, tiles, sums, compiled code."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

import xnets
from tests.ops.gpu_or_not import DEVICE, gradients
from tests.ops.triton_layers import build
from xnets.graphs import make_graph
from xnets.nn import ExpanderLinear
from xnets.ops import _on_device, _transposed
from xnets.ops._triton import config, operator

# --- the transposed tables -----------------------------------------------------------------------


def test_transposed_tables() -> None:
    for family in ("random", "biregular", "random_fan_out"):
        graph = make_graph(family, 12, 20, degree=5, seed=3)
        indptr = torch.from_numpy(graph.indptr.copy()).int()
        indices = torch.from_numpy(graph.indices.copy()).int()
        tables = _transposed.transposed(indptr, indices, 12)
        edges = [(v, int(u)) for v in range(20) for u in indices[indptr[v] : indptr[v + 1]]]
        for u in range(12):
            entries = range(int(tables.indptr[u]), int(tables.indptr[u + 1]))
            assert [int(tables.indices[e]) for e in entries] == [v for v, w in edges if w == u]
            assert all(edges[int(tables.edges[e])] == (tables.indices[e], u) for e in entries)


def test_tables_follow_a_graph_that_changes() -> None:
    layer, x = build("linear")
    layer(x).sum().backward()
    for seed in (1, 2):
        graph = make_graph("random", 48, 64, degree=16, block=(32, 16), seed=seed)
        with torch.no_grad():  # in place, as DDP's first broadcast does
            layer.indices.copy_(torch.from_numpy(graph.indices.copy()))
        grad_x = gradients(layer, x)[1]
        layer.backend = "masked"
        torch.testing.assert_close(grad_x, gradients(layer, x)[1])
        layer.backend = "triton"


def test_tables_are_kept_and_die_with_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = len(_transposed.transposed)
    layer, x = build("linear")
    for _ in range(2):
        layer(x.requires_grad_()).sum().backward()
    assert len(_transposed.transposed) == before + 1
    monkeypatch.setattr(_transposed.transposed, "_compute_here", None)  # not needed again
    layer(x).sum().backward()
    del layer
    gc.collect()
    assert len(_transposed.transposed) == before


def test_tables_are_made_outside_of_graph_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another thread, whose errors arrive here (with stand-ins for CUDA's streams)."""
    stream = MagicMock()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    indices = torch.tensor([0])
    there = _on_device.outside_graph_pools(threading.current_thread, indices)
    assert there != threading.current_thread()
    stream.wait_event.assert_called_once()
    stream.synchronize.assert_called_once()
    with pytest.raises(ZeroDivisionError):
        _on_device.outside_graph_pools(lambda: 1 / 0, indices)


# --- how the kernels are launched ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "conv", "shared lists"])
def test_input_gradient_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the transposed graph, and through a dense weight where that is cheaper."""
    layer, x = build(name)
    found = []
    for dense in (True, False):
        monkeypatch.setattr(operator, "padded_inputs_are_dense", lambda *_, d=dense: d)
        found.append(gradients(layer, x)[1])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("rows", "splits"), [(400, 1), (800, 3)])
def test_split_sums(rows: int, splits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight gradient in one sum and in many."""
    layer = ExpanderLinear(16, 16, degree=16, block=(16, 16), backend="triton").to(DEVICE)
    x = torch.randn(rows, 16, device=DEVICE)
    monkeypatch.setattr(operator, "_processors", lambda device: 132)
    seen = []
    new_empty = Tensor.new_empty

    def spy(self: Tensor, *shape: int, **options: object) -> Tensor:
        seen.append(shape)
        return new_empty(self, *shape, **options)

    monkeypatch.setattr(Tensor, "new_empty", spy)
    got = gradients(layer, x)[2]
    assert next(shape[0] for shape in seen if len(shape) == 3) == splits
    layer.backend = "masked"
    torch.testing.assert_close(got, gradients(layer, x)[2], rtol=1e-4, atol=1e-3)


def test_any_tile_gives_the_same() -> None:
    layer, x = build("conv")
    layer.backend = "masked"
    expected = gradients(layer, x)
    layer.backend = "triton"
    for tile in (config.Tile(16, 16, 16, 4, 2), config.Tile(256, 128, 64, 8, 4, vector=4)):
        with config.forced(tile):
            torch.testing.assert_close(gradients(layer, x), expected, rtol=1e-4, atol=1e-4)
    assert config._forced is None


def test_tiles_fit_an_h100() -> None:
    """Operands in flight fit its shared memory (227 KiB), and no tile is beneath tl.dot's 16."""
    for itemsize in (2, 4):
        for side in (16, 17, 32, 48, 64, 100, 128, 256):
            for b_in in (1, 3, 16, 24, 64):
                for width in (16, 40, 512):
                    for rows in (1, 100, 200_000):
                        arguments = (rows, 8, (side, b_in), width, itemsize)
                        tile = config.product_tile(*arguments, fast=True)
                        assert tile.buffers * (tile.m + tile.n) * tile.k * itemsize <= 227 * 1024
                        assert min(tile.m, tile.n, tile.k) >= 16
                        assert b_in % tile.vector == 0
                        assert tile.n < 2 * side
                        outer = config.outer_tile(rows, (side, b_in), width, itemsize, fast=True)
                        assert (
                            outer.buffers * outer.m * (outer.n + outer.k) * itemsize <= 227 * 1024
                        )
                        assert min(outer.m, outer.n, outer.k) >= 16


# --- what the compiler makes of the kernels ------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "interpreted"), [(None, False), ("", False), ("false", False), ("1", True)]
)
def test_operands_are_widened_in_the_interpreter_alone(
    setting: str | None, interpreted: bool
) -> None:
    """Whatever else the variable says: on a GPU, tensor cores would stand idle."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if setting is not None:
        environment["TRITON_INTERPRET"] = setting
    script = (
        "import triton; from xnets.ops._triton import _INTERPRETED, kernels;"
        "print(_INTERPRETED, kernels._UPCAST.value, triton.knobs.runtime.interpret)"
    )
    environment["PYTHONPATH"] = str(Path(xnets.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
        check=True,
    )
    assert run.stdout.split() == [str(interpreted)] * 3


@pytest.mark.slow
def test_compiles_for_hopper() -> None:
    """Triton compiles for a GPU that is not there: tensor cores, asynchronous copies, no spills."""
    script = Path(__file__).with_name("compile_for_hopper.py")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(xnets.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("ok") == 28, run.stdout
