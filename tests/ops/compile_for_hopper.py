"""Compile the launches of some layers for an H100 that need not be there, and look at the code.

Run by test_triton_launch.py in a process of its own, as the interpreter must be off.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.int32: "i32"}


class Recorder:
    """Stands for a kernel and keeps the arguments of its launches."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: object) -> Any:
        return lambda *arguments, **constants: self.launches.append((arguments, constants))


def compile_launch(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> Any:
    """Compile for compute capability 9.0, specialised as Triton would at a launch."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = {key: constants.pop(key) for key in ("num_warps", "num_stages") if key in constants}
    signature, attributes = {}, {}
    named = dict(zip(kernel.arg_names, arguments, strict=False))
    for index, name in enumerate(kernel.arg_names):
        value = named.get(name)
        if isinstance(value, torch.Tensor):
            signature[name] = f"*{NAMES[value.dtype]}"
        elif name in constants or value == 1:
            signature[name] = "constexpr"
            constants.setdefault(name, value)
            continue
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
        if isinstance(value, torch.Tensor) or value % 16 == 0:
            attributes[(index,)] = [["tt.divisibility", 16]]
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def spilled_bytes(ptx: str) -> int:
    """Register spills, by the assembler's own report."""
    import triton

    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    run = subprocess.run(
        [str(assembler), "-v", "-arch=sm_90a", "-", "-o", "/dev/null"],
        input=ptx,
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(map(int, re.findall(r"(\d+) bytes spill stores", run.stderr)))


def main() -> None:
    """Every kind of launch of some layers: what should be fast, and what should only compile."""
    from xnets.ops._triton import kernels, launch

    torch.backends.cudnn.conv.fp32_precision = "tf32"
    recorders = {
        name: Recorder(getattr(kernels, name)) for name in ("gather_product", "gather_outer")
    }
    for name, recorder in recorders.items():
        setattr(kernels, name, recorder)
    recorders["transpose_weight"] = kernels.transpose_weight = Recorder(kernels.transpose_weight)
    fast = (
        ((32, 32), (3, 3), torch.bfloat16),
        ((128, 32), (1, 1), torch.bfloat16),
        ((64, 64), (3, 3), torch.float32),
    )
    launch_all(fast)
    checked = {name: len(recorder.launches) for name, recorder in recorders.items()}
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    launch_all((((24, 20), (3, 2), torch.float16), ((32, 1), (3, 3), torch.float32)))
    launch.is_big = lambda *tensors: True  # 64-bit offsets
    launch_all((((32, 32), (3, 3), torch.bfloat16), ((17, 3), (1, 1), torch.float16)))
    for name, recorder in recorders.items():
        for index, (arguments, constants) in enumerate(recorder.launches):
            compiled = compile_launch(recorder.kernel, arguments, dict(constants))
            ptx = compiled.asm["ptx"]
            assert compiled.metadata.shared <= 227 * 1024
            if index < checked[name] and name != "transpose_weight":
                check_speed(name, ptx, arguments, constants)
            print("ok", name, compiled.metadata.shared, spilled_bytes(ptx))


def launch_all(cases: Any) -> None:
    """Forward pass and both gradients of layers of about 256 inputs and outputs."""
    from xnets.ops._triton import launch

    for block, kernel, dtype in cases:
        rows, columns = 256 // block[0], 256 // block[1]
        degree = columns // 2
        indptr = torch.arange(rows + 1, dtype=torch.int32) * degree
        indices = torch.arange(degree, dtype=torch.int32).repeat(rows)
        graph = launch.Graph(indptr, indices, block)
        weight = torch.empty(graph.edges, *kernel, dtype=dtype)
        channels = (columns * block[1], rows * block[0])
        x, y = (torch.empty(16, 28, 28, c, dtype=dtype).movedim(-1, 1) for c in channels)
        padding = [k // 2 for k in kernel]
        axes = launch.forward_axes(kernel, [1, 1], padding, [1, 1])
        launch.forward(x, weight, None, graph, axes, y.clone())
        launch.grad_input(y, weight, graph, axes, x.clone())
        launch.grad_weight(y, x, weight, graph, axes, processors=132)


def check_speed(name: str, ptx: str, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
    """Tensor cores, loads of 16 bytes that nobody waits for, and enough registers."""
    assert "wgmma.mma_async" in ptx, f"{name} {constants}: no Hopper tensor cores"
    assert "cp.async" in ptx, f"{name} {constants}: no asynchronous copies"
    wide = len(re.findall(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", ptx))
    # TF32 wants its operands transposed, which the weight gradient does 4 bytes at a time.
    half = arguments[0].dtype != torch.float32
    assert wide or not (half or name == "gather_product"), f"{name}: narrow copies"
    assert spilled_bytes(ptx) == 0, f"{name} {constants}: registers spill"


if __name__ == "__main__":
    sys.exit(main())
