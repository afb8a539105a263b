"""Which backend runs a call, and why.

Every backend answers `why_not(call)`, why it cannot run a call, and `why_slow(call)`, why another
would be faster. "auto" takes the first without reasons of either kind; a choice that cannot be met
raises with the reasons. Nothing falls back silently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from xnets._suggest import unknown_name
from xnets.ops import _cpu, _cpu_again, _gather, _groups, _masked, _reference, _triton
from xnets.ops._call import Call


def _no_reasons(call: Call) -> list[str]:
    return []


@dataclass(frozen=True)
class Backend:
    """A way to run the ops.

    Args:
        name: What the user calls it.
        summary: One line for `xnets list backends` and `explain`.
        run: Runs a call.
        why_not: The reasons why it cannot run a call; empty if it can.
        why_slow: The reasons why "auto" should pass it over although it can.
    """

    name: str
    summary: str
    run: Callable[[Call], Tensor]
    why_not: Callable[[Call], list[str]] = _no_reasons
    why_slow: Callable[[Call], list[str]] = _no_reasons


# Best first: "auto" takes the first that fits.
BACKENDS = (
    Backend("cpu", "compiled kernels", _cpu.run, _cpu.why_not, _cpu.why_slow),
    Backend(
        "groups", "torch's grouped convolution", _groups.run, _groups.why_not, _groups.why_slow
    ),
    Backend("triton", "kernels for tensor cores", _triton.run, _triton.why_not, _triton.why_slow),
    Backend("gather", "Algorithm 1 in pure torch", _gather.run, why_slow=_gather.why_slow),
    Backend("masked", "dense kernels on a scattered weight", _masked.run),
    Backend("reference", "the definition, slow", _reference.run, _reference.why_not),
)


def list_backends() -> list[str]:
    """The names that `backend=` takes, besides "auto".

    Returns:
        The names, in the order in which "auto" asks them.

    Examples:
        >>> list_backends()
        ['cpu', 'groups', 'triton', 'gather', 'masked', 'reference']
    """
    return [backend.name for backend in BACKENDS]


def check_backend(name: str) -> str:
    """Return `name` if it is "auto" or a backend's, else raise with the closest names.

    Args:
        name: What the user gave.

    Returns:
        The name.

    Raises:
        ValueError: If there is no such backend.

    Examples:
        >>> check_backend("mask")
        Traceback (most recent call last):
        ValueError: unknown backend 'mask'; did you mean 'masked'? known: auto, cpu, ...
    """
    known = ["auto", *list_backends()]
    if name not in known:
        raise ValueError(unknown_name("backend", name, known))
    return name


def choose(call: Call, backend: str = "auto") -> Backend:
    """The backend that will run `call`.

    Args:
        call: The arguments of the op.
        backend: "auto" or a backend's name.

    Returns:
        The first backend without reasons against, or the one asked for.

    Raises:
        ValueError: If the backend is unknown, or the one asked for cannot run this call.

    Examples:
        >>> import torch, xnets
        >>> layer = xnets.nn.ExpanderLinear(8, 6, compression=2)
        >>> call = layer.call(torch.ones(3, 8))
        >>> choose(call, "gather").name
        'gather'
    """
    if backend == "auto":
        for candidate in BACKENDS:
            if not candidate.why_not(call) and not candidate.why_slow(call):
                return candidate
        raise ValueError("no backend can run this call:\n" + explain(call))
    check_backend(backend)
    chosen = next(candidate for candidate in BACKENDS if candidate.name == backend)
    if reasons := chosen.why_not(call):
        raise ValueError(f"backend {backend!r} cannot run this call: {'; '.join(reasons)}")
    return chosen


def run(call: Call, backend: str = "auto") -> Tensor:
    """Check a call and run it on the backend that `choose` gives.

    Args:
        call: The arguments of the op; a layer builds it with `layer.call(input)`.
        backend: "auto" or a backend's name.

    Returns:
        (..., num_out) for linear; ([batch,] num_out, *size) for convolution.

    Raises:
        TypeError: If the input is no tensor.
        ValueError: If the tensors do not fit one another or the graph, the backend is unknown, or
            the one asked for cannot run this call.

    Examples:
        >>> import torch, xnets
        >>> layer = xnets.nn.ExpanderLinear(8, 6, compression=2)
        >>> call = layer.call(torch.ones(3, 8))
        >>> torch.allclose(run(call, "gather"), run(call, "reference"), atol=1e-6)
        True
    """
    ready = _cpu_again.find(call, backend)
    if ready is None:
        call.check()
        chosen = choose(call, backend)
        ready = _cpu_again.prepare(call, backend) if chosen.name == "cpu" else None
        if ready is None:
            return chosen.run(call)
    return ready.run(call.input, call.weight, call.bias)


def explain(call: Call, backend: str = "auto") -> str:
    """Say which backends fit a call, which do not and why, and which one is taken.

    Args:
        call: The arguments of the op; a layer builds it with `layer.call(input)`.
        backend: "auto" or a backend's name.

    Returns:
        A table of one line a backend, an arrow before the one taken.

    Examples:
        >>> import torch, xnets
        >>> layer = xnets.nn.ExpanderLinear(8, 8, compression=2)
        >>> print(explain(layer.call(torch.ones(1, 8))))
        -> cpu        compiled kernels                     yes
           groups     torch's grouped convolution          no: the graph does not fall into ...
           triton     kernels for tensor cores             ...
           gather     Algorithm 1 in pure torch            yes
           masked     dense kernels on a scattered weight  yes
           reference  the definition, slow                 yes
    """
    check_backend(backend)
    lines = []
    taken = None
    for candidate in BACKENDS:
        cannot, slow = candidate.why_not(call), candidate.why_slow(call)
        if taken is None and not cannot and (candidate.name == backend or not slow):
            taken = candidate if backend in ("auto", candidate.name) else None
        verdict = "no: " + "; ".join(cannot) if cannot else "yes"
        if slow and not cannot:
            verdict = "slow: " + "; ".join(slow)
        mark = "->" if candidate is taken else "  "
        lines.append(f"{mark} {candidate.name:<10} {candidate.summary:<36} {verdict}")
    return "\n".join(lines)
