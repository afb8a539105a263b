"""The C interface of xnets.h in Python, for the tests and the benchmark of this folder."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import torch
from torch import Tensor

HERE = Path(__file__).parent
ISAS = {"generic": 1, "avx2": 2, "avx512": 3}
DIRECT, WINOGRAD = 256, 512  # added to an instruction set
FORWARD, GRAD_INPUT, GRAD_WEIGHT = 0, 1, 2


class CGraph(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("num_in", "num_out", "b_out", "b_in")] + [
        (name, ctypes.c_void_p)
        for name in ("indptr", "indices", "t_indptr", "t_indices", "t_edges", "turns", "t_turns")
    ]


class CConv(ctypes.Structure):
    _fields_ = [("batch", ctypes.c_int32)] + [
        (name, ctypes.c_int32 * 3) for name in ("input", "kernel", "stride", "padding", "dilation")
    ]


def build(folder: Path, *options: str) -> Path:
    """Build the library with CMake in `folder`; `XNETS_CPU_LIBRARY` names one that is built already."""
    if "XNETS_CPU_LIBRARY" in os.environ:
        return Path(os.environ["XNETS_CPU_LIBRARY"])
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    for command in (
        ["cmake", "-S", HERE, "-B", folder, *generator, *options],
        ["cmake", "--build", folder, "-j2"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("libxnets_cpu.*"))


def load(path: Path) -> ctypes.CDLL:
    """Load the library; torch, and so its OpenMP runtime, is in the process already."""
    library = ctypes.CDLL(str(path))
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.xn_openmp_path.restype = ctypes.c_char_p
    library.xn_transpose.argtypes = [pointer] * 4
    library.xn_turns_room.argtypes, library.xn_turns_room.restype = [pointer, i32, i32], i64
    library.xn_turns.argtypes, library.xn_turns.restype = [pointer, i32, pointer, i64], i64
    library.xn_conv_scratch.argtypes, library.xn_conv_scratch.restype = (
        [pointer, pointer, i32, i32, i32],
        i64,
    )
    library.xn_linear_scratch.argtypes, library.xn_linear_scratch.restype = (
        [pointer, i64, i32, i32, i32],
        i64,
    )
    library.xn_conv_is_winograd.argtypes = [pointer, pointer, i32, i32, i32]
    library.xn_winograd_size.argtypes, library.xn_winograd_size.restype = (
        [pointer, pointer, i32],
        i64,
    )
    library.xn_winograd_weight.argtypes = [pointer] * 3 + [i32, i32]
    for name, arrays in (("forward", 4), ("grad_input", 3), ("grad_weight", 3)):
        tail = [pointer] * (arrays + 1) + [i32, i32]
        getattr(library, f"xn_conv_{name}").argtypes = [pointer, pointer, *tail]
        getattr(library, f"xn_linear_{name}").argtypes = [pointer, i64, *tail]
    return library


def address(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


class Graph:
    """A graph with its transposed tables, as the library wants it."""

    def __init__(
        self,
        library: ctypes.CDLL,
        num_in: int,
        num_out: int,
        indptr,
        indices,
        block=(1, 1),
        turns=True,
    ):
        self.library, self.num_in, self.num_out, self.block = library, num_in, num_out, block
        self.indptr = torch.as_tensor(indptr, dtype=torch.int32)
        self.indices = torch.as_tensor(indices, dtype=torch.int32)
        edges = len(self.indices)
        self.num_edges = edges * block[0] * block[1]
        self.tables = [
            torch.empty(n, dtype=torch.int32) for n in (num_in // block[1] + 1, edges, edges)
        ]
        self.c = CGraph(
            num_in, num_out, *block, address(self.indptr), address(self.indices), None, None, None
        )
        self.pointer = ctypes.addressof(self.c)
        assert library.xn_transpose(self.pointer, *map(address, self.tables)) == 0
        self.c.t_indptr, self.c.t_indices, self.c.t_edges = map(address, self.tables)
        if turns:
            self.c.turns, self.c.t_turns = self.turns_of(FORWARD), self.turns_of(GRAD_INPUT)
        assert library.xn_check_graph(ctypes.c_void_p(self.pointer)) == 0

    def turns_of(self, op: int) -> int | None:
        room = self.library.xn_turns_room(self.pointer, op, ISAS["generic"])
        assert room >= 0
        if room == 0:
            return None
        table = torch.full((room,), -1, dtype=torch.int32)
        size = self.library.xn_turns(self.pointer, op, address(table), room)
        assert 0 <= size <= room
        if size == 0:
            return None
        self.tables.append(table[:size].clone())
        return address(self.tables[-1])

    @classmethod
    def random(
        cls, library, num_in, num_out, degree, block=(1, 1), seed=0, irregular=False, turns=True
    ):
        """Every base output draws `degree` base inputs; irregular ones draw up to that many, some none."""
        generator = torch.Generator().manual_seed(seed)
        rows, columns = num_out // block[0], num_in // block[1]
        degrees = [degree] * rows
        if irregular:
            degrees = torch.randint(0, degree + 1, (rows,), generator=generator).tolist()
        lists = [torch.randperm(columns, generator=generator)[:d].sort().values for d in degrees]
        indptr = torch.tensor([0, *degrees]).cumsum(0)
        return cls(library, num_in, num_out, indptr, torch.cat(lists), block, turns)

    def edges(self) -> tuple[Tensor, Tensor]:
        """Outputs and inputs of all edges in canonical order."""
        b_out, b_in = self.block
        degrees = self.indptr.diff()
        rows = torch.repeat_interleave(torch.arange(len(degrees)), degrees)
        outputs = (
            rows[:, None, None] * b_out
            + torch.arange(b_out)[:, None]
            + torch.zeros(b_in, dtype=torch.long)
        )
        inputs = (
            self.indices.long()[:, None, None] * b_in
            + torch.arange(b_in)
            + torch.zeros(b_out, 1, dtype=torch.long)
        )
        outputs, inputs = outputs.reshape(-1), inputs.reshape(-1)
        order = torch.argsort(outputs * self.num_in + inputs)
        return outputs[order], inputs[order]

    def dense(self, weight: Tensor) -> Tensor:
        outputs, inputs = self.edges()
        full = weight.new_zeros(self.num_out, self.num_in, *weight.shape[1:])
        return full.index_put((outputs, inputs), weight)


def three(values, fill: int) -> list[int]:
    values = list(values)
    return [fill] * (3 - len(values)) + values


class Layer:
    """What a convolution and a linear layer share: forward and both gradients, with memory of their own."""

    kind: str  # of the C functions: xn_{kind}_forward and so on
    shapes: list[tuple[int, ...]]  # of output, input, weight
    size: int  # what the C functions take besides the graph: a pointer to xn_conv, or rows

    def __init__(self, graph: Graph, threads: int, isa: int):
        self.graph, self.library, self.threads, self.isa = graph, graph.library, threads, isa
        self.scratch = [
            torch.full((max(n, 1),), 255, dtype=torch.uint8) for n in self.scratch_bytes()
        ]

    def scratch_bytes(self) -> list[int]:
        ask = getattr(self.library, f"xn_{self.kind}_scratch")
        sizes = [ask(self.graph.pointer, self.size, op, self.threads, self.isa) for op in range(3)]
        assert min(sizes) >= 0, sizes
        return sizes

    def is_winograd(self, op: int) -> bool:
        """Whether a convolution goes by Winograd's algorithm."""
        ask = self.library.xn_conv_is_winograd
        answer = ask(self.graph.pointer, self.size, op, self.threads, self.isa)
        assert answer in (0, 1)
        return answer == 1

    def result(self, op: int, out: Tensor | None) -> Tensor:
        return torch.full(self.shapes[op], torch.nan) if out is None else out

    def run(self, name: str, op: int, *arrays: Tensor | None, out: Tensor | None) -> Tensor:
        out = self.result(op, out)
        status = getattr(self.library, f"xn_{self.kind}_{name}")(
            self.graph.pointer,
            self.size,
            *map(address, (*arrays, out, self.scratch[op])),
            self.threads,
            self.isa,
        )
        assert status == 0, status
        return out

    def forward(self, x, weight, bias=None, out=None):
        return self.run("forward", FORWARD, x, weight, bias, out=out)

    def grad_input(self, grad, weight, out=None):
        return self.run("grad_input", GRAD_INPUT, grad, weight, out=out)

    def grad_weight(self, x, grad, out=None):
        return self.run("grad_weight", GRAD_WEIGHT, x, grad, out=out)


class Conv(Layer):
    """One convolution of any number of dimensions up to three."""

    kind = "conv"

    def __init__(
        self,
        graph: Graph,
        input_shape,
        kernel,
        stride=None,
        padding=None,
        dilation=None,
        threads=1,
        isa=0,
    ):
        dims = len(kernel)
        stride, padding, dilation = (
            stride or [1] * dims,
            padding or [0] * dims,
            dilation or [1] * dims,
        )
        fields = ((input_shape[2:], 1), (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
        self.c = CConv(input_shape[0], *((ctypes.c_int32 * 3)(*three(v, f)) for v, f in fields))
        self.pointer = self.size = ctypes.addressof(self.c)
        size = [
            (i + 2 * p - d * (k - 1) - 1) // s + 1
            for i, p, d, k, s in zip(
                input_shape[2:], padding, dilation, kernel, stride, strict=True
            )
        ]
        self.shapes = [
            (input_shape[0], graph.num_out, *size),
            tuple(input_shape),
            (graph.num_edges, *kernel),
        ]
        super().__init__(graph, threads, isa)


class Linear(Layer):
    """One linear layer."""

    kind = "linear"

    def __init__(self, graph: Graph, rows: int, threads=1, isa=0):
        self.size = rows
        self.shapes = [(rows, graph.num_out), (rows, graph.num_in), (graph.num_edges, 1)]
        super().__init__(graph, threads, isa)
