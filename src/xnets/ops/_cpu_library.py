"""The compiled kernels of csrc/, through ctypes: found, loaded and checked once.

A plain C library: one build serves every Python and torch. ctypes lets go of the GIL while it runs.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

ABI_VERSION = 4
FORWARD, GRAD_INPUT, GRAD_WEIGHT = 0, 1, 2
_STEPS = ("forward", "grad_input", "grad_weight")
_NAMES = ("libxnets_cpu.so", "libxnets_cpu.dylib", "xnets_cpu.dll")
# The best instruction set here; and, if the user says so, every sum as the definition has it.
_DIRECT = 256
ISA = _DIRECT if os.environ.get("XNETS_WINOGRAD") == "0" else 0
_MOST_PLANS = 64
_MOST_SCRATCH = 64 << 20
FEWEST_TO_SHARE = 48  # positions: the library asks for as many


class CGraph(ctypes.Structure):
    """`xn_graph` of xnets.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("num_in", "num_out", "b_out", "b_in")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("indptr", "indices", "t_indptr", "t_indices", "t_edges"),
                *("turns", "t_turns"),
            )
        ),
    )


class CConv(ctypes.Structure):
    """`xn_conv` of xnets.h."""

    _fields_ = (
        ("batch", ctypes.c_int32),
        *((n, ctypes.c_int32 * 3) for n in ("input", "kernel", "stride", "padding", "dilation")),
    )


def find_library() -> Path | None:
    """Where the compiled library lies, or None.

    `XNETS_CPU_LIBRARY` names another build, such as one with sanitizers.
    """
    if named := os.environ.get("XNETS_CPU_LIBRARY"):
        return Path(named)
    beside = Path(__file__).parents[1] / "_lib"
    candidates = [beside / name for name in _NAMES]
    # A source tree that shadows the installed package has no library of its own.
    try:
        files = metadata.distribution("xnets").files or []
    except metadata.PackageNotFoundError:
        files = []
    candidates += [Path(str(file.locate())) for file in files if file.name in _NAMES]
    return next((path for path in candidates if path.exists()), None)


def load_library() -> tuple[ctypes.CDLL | None, str]:
    """The library, or None and the reason why there is none."""
    path = find_library()
    if path is None:
        return None, "the compiled kernels are missing: reinstall xnets with a C++ compiler"
    try:
        library = ctypes.CDLL(str(path))
        version = library.xn_abi_version()
    except (OSError, AttributeError) as error:
        return None, f"the compiled kernels cannot be loaded: {error}"
    if version != ABI_VERSION:
        what = f"{path.name} is of another version ({version}, not {ABI_VERSION})"
        return None, f"{what}: reinstall xnets"
    _declare(library)
    return library, ""


def _declare(library: ctypes.CDLL) -> None:
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.xn_openmp_path.restype = ctypes.c_char_p
    library.xn_check_graph.argtypes = [pointer]
    library.xn_transpose.argtypes = [pointer] * 4
    library.xn_turns_room.argtypes, library.xn_turns_room.restype = [pointer, i32, i32], i64
    library.xn_turns.argtypes, library.xn_turns.restype = [pointer, i32, pointer, i64], i64
    library.xn_conv_scratch.argtypes = [pointer, pointer, i32, i32, i32]
    library.xn_linear_scratch.argtypes = [pointer, i64, i32, i32, i32]
    library.xn_conv_scratch.restype = library.xn_linear_scratch.restype = i64
    for name, arrays in zip(_STEPS, (4, 3, 3), strict=True):
        tail = [pointer] * (arrays + 1) + [i32, i32]
        getattr(library, f"xn_conv_{name}").argtypes = [pointer, pointer, *tail]
        getattr(library, f"xn_linear_{name}").argtypes = [pointer, i64, *tail]
    library.xn_winograd_size.argtypes = [pointer, pointer, i32]
    library.xn_winograd_size.restype = i64
    library.xn_winograd_weight.argtypes = [pointer] * 3 + [i32, i32]
    library.xn_program_check.argtypes = [pointer, i32, pointer, i32]
    library.xn_program_scratch.argtypes = [pointer, i32, i32, i32]
    library.xn_program_scratch.restype = i64
    library.xn_program_run.argtypes = [pointer, i32, pointer, pointer, i32, i32]


LIBRARY, WHY_NO_LIBRARY = load_library()


def turns(graph: CGraph, op: int) -> Tensor | None:
    """The table by which single rows share what they read, or None where it would gain nothing.

    `op` is FORWARD, or GRAD_INPUT for a graph that has its transposed tables.
    """
    pointer = ctypes.addressof(graph)
    room = LIBRARY.xn_turns_room(pointer, op, 0)  # type: ignore[union-attr]
    must(1 if room < 0 else 0)
    if room == 0:
        return None
    table = torch.empty(room, dtype=torch.int32, device="cpu")
    size = LIBRARY.xn_turns(pointer, op, table.data_ptr(), room)  # type: ignore[union-attr]
    return table[:size].clone() if size else None


class Graph:
    """A graph as the library wants it, its transposed tables, and the plans of recent calls.

    Holds the addresses of the index tensors, not the tensors: it must not outlive them.
    """

    def __init__(self, indptr: Tensor, indices: Tensor, *sizes: int) -> None:
        if not (indptr.is_contiguous() and indices.is_contiguous()):
            raise ValueError("the graph's index tensors must be contiguous")
        num_in, num_out, b_out, b_in = sizes
        self.edges = indices.numel()  # of the base graph
        self.num_edges = self.edges * b_out * b_in
        self.c = CGraph(num_in, num_out, b_out, b_in, indptr.data_ptr(), indices.data_ptr())
        self.pointer = ctypes.addressof(self.c)
        self._transposed: list[Tensor] = []
        self._turns: dict[int, Tensor | None] = {}
        self._lock = threading.Lock()
        self._plans: dict[object, Plan] = {}
        must(LIBRARY.xn_check_graph(self.pointer))  # type: ignore[union-attr]

    def transpose(self) -> None:
        """Fill the transposed tables, which gradients to the input need, once."""
        if self._transposed:
            return
        with self._lock:  # tables that another thread's call may read must stay
            if self._transposed:
                return
            lengths = (self.c.num_in // self.c.b_in + 1, self.edges, self.edges)
            tables = [torch.empty(n, dtype=torch.int32, device="cpu") for n in lengths]
            addresses = [table.data_ptr() for table in tables]
            must(LIBRARY.xn_transpose(self.pointer, *addresses))  # type: ignore[union-attr]
            self.c.t_indptr, self.c.t_indices, self.c.t_edges = addresses
            self._transposed = tables

    def share(self, op: int) -> None:
        """Find once how rows share what they read, which 1x1 and linear layers go by."""
        if op in self._turns:
            return
        with self._lock:
            if op in self._turns:
                return
            table = turns(self.c, op)
            if table is not None:
                setattr(self.c, "turns" if op == FORWARD else "t_turns", table.data_ptr())
            self._turns[op] = table

    def plan(self, x: Tensor, kernel: torch.Size, *steps: Sequence[int]) -> Plan:
        """What calls with these shapes have in common."""
        threads = torch.get_num_threads()
        key = (x.shape, kernel, *map(tuple, steps), threads)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:  # sizes that vary without end, as of sentences
                self._plans.clear()
            plan = self._plans[key] = Plan(x.shape, kernel, steps, threads)
        return plan


class Plan:
    """Calls of one graph on one shape: which functions of the library, with what scratch.

    Does not hold the graph, which holds it: else both would stay until a collection of garbage.
    """

    def __init__(
        self, shape: torch.Size, kernel: torch.Size, steps: tuple[Sequence[int], ...], threads: int
    ) -> None:
        self.threads = threads
        self._kind = "conv" if steps[0] else "linear"
        self._input, self._kernel = shape, kernel
        self._conv = CConv()
        self._shape = shape[0]
        if self._kind == "conv":
            fields, fill = (shape[2:], kernel, *steps), (1, 1, 1, 0, 1)
            self._conv = CConv(shape[0], *map(triple, fields, fill))
            self._shape = ctypes.addressof(self._conv)
        self._functions = [getattr(LIBRARY, f"xn_{self._kind}_{step}") for step in _STEPS]
        self._measured: list[tuple[CGraph, int] | None] = [None] * 3
        positions = math.prod((shape[0], *shape[2:]))
        self._may_share = math.prod(kernel) == 1 and positions >= FEWEST_TO_SHARE

    def check(self, graph: Graph, grad: Tensor, x: Tensor, weight: Tensor) -> None:
        """Make sure that gradients can be computed from what was saved.

        Raises:
            RuntimeError: If it changed its type or size, as by `layer.half()`, since the output was
                computed.
        """
        same = x.shape == self._input and weight.shape == (graph.num_edges, *self._kernel)
        if not same or not all(map(is_readable, (grad, x, weight))):
            raise RuntimeError(
                "the layer's weight or input changed its type or size between the forward and the "
                "backward pass: compute the output again"
            )

    def run(self, graph: Graph, op: int, *tensors: Tensor | None) -> None:
        """Run one function on contiguous tensors; the last is the result."""
        measured = self._measured[op]
        if measured is None:
            if self._may_share and op != GRAD_WEIGHT:
                graph.share(op)
            # A copy: with a table found later, for other shapes, a call might need more scratch.
            c = CGraph.from_buffer_copy(graph.c)
            measure = getattr(LIBRARY, f"xn_{self._kind}_scratch")
            size = measure(ctypes.addressof(c), self._shape, op, self.threads, ISA)
            must(1 if size < 0 else 0)
            measured = self._measured[op] = c, size
        c, size = measured
        arrays = (*tensors, _scratch(size))  # held until the call returns: a large one is not kept
        addresses = [None if t is None else t.data_ptr() for t in arrays]
        function = self._functions[op]
        must(function(ctypes.addressof(c), self._shape, *addresses, self.threads, ISA))


class _Held(threading.local):
    """A thread's scratch, kept from call to call: the system clears what it hands out anew."""

    memory: Tensor | None = None


_HELD = _Held()


def _scratch(size: int) -> Tensor:
    held = _HELD.memory
    if held is not None and held.numel() >= size:
        return held
    memory = torch.empty(size, dtype=torch.uint8, device="cpu")
    if size <= _MOST_SCRATCH:
        _HELD.memory = memory
    return memory


def release_scratch() -> None:
    """Give back the scratch that this thread keeps, at most 64 MiB."""
    _HELD.memory = None


def is_readable(tensor: Tensor) -> bool:
    """Whether the library can read a tensor's numbers, once they are contiguous."""
    return tensor.dtype is torch.float32 and tensor.is_cpu and tensor.layout is torch.strided


def triple(values: Sequence[int], fill: int) -> ctypes.Array[ctypes.c_int32]:
    """Three sizes as the library takes them, whose first are `fill` where there are fewer."""
    return (ctypes.c_int32 * 3)(*[fill] * (3 - len(values)), *values)


def must(code: int) -> None:
    """Raise RuntimeError if the library returned a code that is not 0."""
    if code:
        raise RuntimeError(f"the compiled kernels refuse this call (code {code})")
