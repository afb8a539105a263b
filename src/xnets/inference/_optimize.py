"""xnets.optimize: a model made ready for inference on this machine's CPU."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from xnets._suggest import unknown_name
from xnets.inference._arguments import Signature, example_arguments
from xnets.inference._borrowed import Borrowed, borrowed_by
from xnets.inference._choose import ENGINES
from xnets.inference._fits import Trace
from xnets.inference._fuse import simplify
from xnets.inference._lower import lower
from xnets.inference._native import has_library
from xnets.inference._planned import Planned
from xnets.inference._plans import make_planned
from xnets.inference._report import Report, count_operations
from xnets.inference._trace import CannotOptimizeError, prepare, trace
from xnets.ops._eager import in_function_transform

_MOST_PLANS = 32  # each with memory of its own; what was not used for longest is let go
P = ParamSpec("P")
T = TypeVar("T")
_TOLERANCE = 1e-3  # relative to the largest output; rounding is 100 times smaller


@dataclass(frozen=True)
class StepTime:
    """How long one step took.

    Args:
        name: The module that it comes from; "" for the model itself.
        kind: What it computes.
        engine: What ran it.
        ms: Milliseconds.
    """

    name: str
    kind: str
    engine: str
    ms: float


def _in_float32(function: Callable[P, T]) -> Callable[P, T]:
    """The function without autocast: an optimised model writes into memory of float32."""

    @wraps(function)
    def run(*arguments: P.args, **keywords: P.kwargs) -> T:
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return function(*arguments, **keywords)
        return function(*arguments, **keywords)

    return run


@_in_float32
def optimize(
    model: nn.Module,
    example_input: Any,
    *,
    engines: str = "measure",
    check: bool = True,
    keep_model: bool = True,
) -> OptimizedModel:
    """Make a model ready for inference on this machine's CPU.

    Batch norms are folded into the weights before them (or, as in DenseNet, become part of the
    convolution after them); bias, activation and residual sum become part of the product before
    them; concatenation becomes writing in the right place; memory is planned once for every shape
    of the input. What runs each layer, our compiled library or torch with the dense weight, is
    measured here and now. What is neither runs in torch as it is, so that every model works which
    torch.export can follow.

    Args:
        model: Any module in eval mode, in float32 on the CPU; it is not changed. The result keeps
            the weights that the model has now, whatever tensors it is given later
            (`load_state_dict(assign=True)`, new parameters or modules). Weights into which nothing
            is folded are not copied: once somebody writes into those, a call raises RuntimeError,
            so give it a copy of a model that is trained further. Those made in inference mode,
            which count no writes, are copied.
        example_input: A tensor, or a tuple of arguments. Other batch sizes are planned when they
            first come; other shapes are traced again.
        engines: "measure": the fastest for each layer, which may differ from run to run where two
            are equally fast. "ours": the compiled library wherever it can. "torch": torch alone.
            The last two give the same numbers each time.
        check: Whether to compare the result with the model's on the example.
        keep_model: Whether to hold on to the model's weights for shapes that are traced again. If
            not, such shapes raise ValueError, and once you let go of the model, too, weights are
            held once: those that run.

    Returns:
        A module that takes what the model takes and returns what it returns, up to rounding. It may
        be called from several threads. `report` says what was done.

    Raises:
        TypeError: If `model` is no module, or no tensor is in `example_input`.
        ValueError: If the model is in training mode, not in float32 or not on the CPU, cannot be
            traced or does not compute the same each time; or there are no such engines.

    Examples:
        >>> import torch, xnets
        >>> model = xnets.create_model("convnet", compression=4).eval()
        >>> images = torch.rand(2, 1, 28, 28)
        >>> fast = optimize(model, images)
        >>> fast
        OptimizedModel(23 operations in 9 steps, ...)
        >>> torch.allclose(fast(images), model(images), atol=1e-5)
        True
        >>> fast.report.fused["BatchNorm"]
        7
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    if engines not in ENGINES:
        raise ValueError(unknown_name("engines", engines, ENGINES))
    if engines == "ours" and not has_library():
        raise ValueError("`engines`='ours' needs the compiled library: see `xnets list backends`")
    _check_model(model)
    arguments = example_arguments(example_input)
    signature = Signature(model, arguments)
    signature.check(signature.leaves(arguments))
    expected = None
    if check:
        with torch.no_grad():
            expected = model(*arguments)
    optimized = OptimizedModel(prepare(model), signature, arguments, engines, expected)
    if not keep_model:
        optimized._let_go_of_model()
    return optimized


class OptimizedModel(nn.Module):
    """What `xnets.optimize` returns: a model that runs, and does nothing else.

    It has no parameters to train, move or save: optimise again where the model is to run.

    Attributes:
        report: What was done, for the example's shape.

    Examples:
        >>> import torch, xnets
        >>> model = xnets.create_model("convnet", compression=4).eval()
        >>> fast = xnets.optimize(model, torch.rand(2, 1, 28, 28), engines="ours")
        >>> fast(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 10])
        >>> fast.profile(torch.rand(3, 1, 28, 28))[0].kind
        'dense conv 3x3'
    """

    def __init__(
        self,
        prepared: nn.Module,
        signature: Signature,
        arguments: tuple[Any, ...],
        engines: str,
        expected: Any,
    ) -> None:
        super().__init__()
        started = time.perf_counter()
        self.training = False
        self._engines = engines
        # In a tuple: no module of this one.
        self._source: tuple[nn.Module, Borrowed] | None = (
            prepared,
            Borrowed([*prepared.parameters(), *prepared.buffers()]),
        )
        self._lock = threading.Lock()
        self._traces: list[Trace] = []
        self._plans: dict[Any, Planned] = {}
        self._uses = itertools.count(1)
        self._signature = signature
        planned = self._plan_for(signature.leaves(arguments))
        error = _difference(self(*arguments), expected) if expected is not None else float("nan")
        if error > _TOLERANCE:
            raise CannotOptimizeError(
                f"the optimised model is off by {error:.2g} of the largest output: if `model` is "
                "random in eval mode, pass check=False; else please report it"
            )
        self._report = planned.report(error, time.perf_counter() - started)

    @property
    def report(self) -> Report:
        """What was done, for the example's shape; `print` it."""
        return self._report

    @_in_float32
    def report_for(self, *arguments: Any) -> Report:
        """What was done for these arguments' shapes.

        Args:
            arguments: As for a call.

        Returns:
            The report; its error is not measured.
        """
        started = time.perf_counter()
        planned = self._plan_for(self._signature.leaves(arguments))
        return planned.report(float("nan"), time.perf_counter() - started)

    @_in_float32
    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Compute what the model computes.

        Args:
            arguments: As in the example, by position; tensors may have other sizes.
            keywords: None: they are refused with the names that go by position.

        Returns:
            What the model returns, up to rounding.

        Raises:
            TypeError: If the arguments are not built as the example was.
            ValueError: If a tensor is not in float32 or not on the CPU, or needs a trace of its own
                that cannot be made.
            RuntimeError: If memory that is shared with the model has been written to, or the call
                is traced or transformed.
        """
        _check_not_watched()
        leaves = self._signature.leaves(arguments, tuple(keywords))
        planned = self._plan_for(leaves)
        planned.borrowed.check()
        with torch.no_grad():
            outputs = planned.run(leaves)
        if planned.is_tensor:
            return outputs[0]
        return pytree.tree_unflatten(outputs, planned.spec)

    @_in_float32
    def profile(self, *arguments: Any, rounds: int = 5) -> list[StepTime]:
        """Time every step by itself.

        Args:
            arguments: As for a call.
            rounds: How many runs to take the fastest time of each step of.

        Returns:
            The steps in the order in which they run. Their sum is more than a call takes by what it
            costs to interrupt the compiled library.
        """
        leaves = self._signature.leaves(arguments)
        planned = self._plan_for(leaves)
        planned.borrowed.check()
        with torch.no_grad():
            times = [planned.time(leaves) for _ in range(max(1, rounds))]
        found = []
        for runs in zip(*times, strict=True):
            step, engine, _ = runs[0]
            least = min(ms for *_, ms in runs)
            found.append(StepTime(step.name, step.label(), str(engine), least))
        return found

    # --- traces and plans ------------------------------------------------------------------------

    def _plan_for(self, leaves: list[Any]) -> Planned:
        key = _key(leaves)
        planned = self._plans.get(key)
        if planned is None:
            self._signature.check(leaves)
            with self._lock:
                planned = self._plans.get(key) or self._make_plan(leaves)
                planned.used = next(self._uses)
                self._plans[key] = planned
                if len(self._plans) > _MOST_PLANS:  # sizes that vary without end
                    self._let_go_of_a_plan()
        else:
            planned.used = next(self._uses)  # atomic, so that a call needs no lock
        return planned

    def _let_go_of_a_plan(self) -> None:
        """Forget the plan that was not used for longest, and its trace if no other needs it."""
        del self._plans[min(self._plans, key=lambda key: self._plans[key].used)]
        needed = [planned.trace for planned in self._plans.values()] + self._traces[:1]
        self._traces = [t for t in self._traces if any(t is one for one in needed)]

    def _make_plan(self, leaves: list[Any]) -> Planned:
        found = next(((t, s) for t in self._traces if (s := t.fits(leaves)) is not None), None)
        traced, sizes = self._trace(leaves) if found is None else found
        return make_planned(traced, sizes, self._engines, torch.get_num_threads())

    def _trace(self, leaves: list[Any]) -> tuple[Trace, dict[Any, int]]:
        if self._source is None:
            raise CannotOptimizeError(
                "these arguments need a trace of their own, for which this model was to keep the "
                "one that it was made from: pass keep_model=True, or optimise it for them"
            )
        prepared, borrowed = self._source
        borrowed.check()
        arguments = pytree.tree_unflatten(leaves, self._signature.spec)
        fitting: Trace | None = None
        for dynamic in (True, False) if not self._traces else (False,):
            found = trace(prepared, arguments, dynamic=dynamic)
            lowered = lower(found).without_dead_steps()
            with torch.inference_mode(False), torch.no_grad():
                program = simplify(lowered)
            spec = found.program.call_spec.out_spec
            used = borrowed_by(program, prepared)
            fitting = Trace(program, leaves, spec, count_operations(lowered), used)
            sizes = fitting.fits(leaves)
            if sizes is not None:
                self._traces.append(fitting)
                return fitting, sizes
        raise CannotOptimizeError("`model` cannot be traced on this input: its sizes do not fit")

    def _let_go_of_model(self) -> None:
        self._source = None

    # --- what such a model does not do -----------------------------------------------------------

    def train(self, mode: bool = True) -> OptimizedModel:
        """Refuse to train.

        Raises:
            RuntimeError: If `mode` is True.
        """
        if mode:
            raise RuntimeError(
                "an optimised model cannot be trained: train the model that it was made from, "
                "then call xnets.optimize again"
            )
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OptimizedModel:
        moved = fn(torch.zeros(1))
        if moved.device.type != "cpu" or moved.dtype != torch.float32:
            raise RuntimeError(
                f"an optimised model runs in float32 on the CPU, not in {moved.dtype} on "
                f"{moved.device}: move the model that it was made from"
            )
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "an optimised model belongs to this machine and cannot be copied or saved: save the "
            "model with xnets.save, and call xnets.optimize where it runs"
        )

    def __repr__(self) -> str:
        report = self.report
        inputs = ", ".join("x".join(map(str, shape)) for shape in report.inputs)
        return (
            f"OptimizedModel({report.operations} operations in {len(report.steps)} steps, "
            f"engines={report.engines!r}, input {inputs})"
        )


def _key(leaves: list[Any]) -> Any:
    parts = [
        # The type, as 1, 1.0 and True are equal.
        (x.shape, x.dtype, x.device, x.layout) if isinstance(x, Tensor) else (type(x), x)
        for x in leaves
    ]
    return (torch.get_num_threads(), *parts)


def _check_model(model: nn.Module) -> None:
    training = [name for name, module in model.named_modules() if module.training]
    if training:
        where = f"its {training[0]!r}" if training[0] else "`model`"
        raise CannotOptimizeError(f"{where} is in training mode: call `model.eval()` first")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type != "cpu":
            raise CannotOptimizeError(
                f"`model`'s {name!r} is on {tensor.device}, must be on the CPU: call `model.cpu()`"
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise CannotOptimizeError(
                f"`model`'s {name!r} is {tensor.dtype}, must be float32: call `model.float()`"
            )


def _check_not_watched() -> None:
    """Refuse where tensors are recorded or stand for others, whose numbers kernels cannot read."""
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return
    keys = torch._C._TorchDispatchModeKey
    recorded = torch._C._is_tracing() or (
        torch._C._len_torch_dispatch_stack()
        and any(torch._C._get_dispatch_mode(k) for k in (keys.FAKE, keys.PROXY, keys.FUNCTIONAL))
    )
    if recorded or in_function_transform():
        raise RuntimeError(
            "an optimised model cannot be traced, exported or transformed: do that with the model "
            "that it was made from"
        )


def _difference(found: Any, expected: Any) -> float:
    """The largest difference relative to the largest expected output."""
    worst = 0.0
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        if isinstance(b, Tensor) and b.is_floating_point() and b.numel():
            largest = float(b.abs().max()) or 1.0
            worst = max(worst, float((a - b).abs().max()) / largest)
    return worst
