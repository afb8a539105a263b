"""Which backend runs a call, and why.

Every backend answers `why_not(call)` with its reasons against; "auto" takes the first without any,
and a choice that cannot be met raises with the reasons. Nothing falls back silently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from xnets._suggest import unknown_name
from xnets.ops import _gather, _masked, _reference
from xnets.ops._call import Call


@dataclass(frozen=True)
class Backend:
    """A way to run the ops.

    Args:
        name: What the user calls it.
        summary: One line for `xnets list backends` and `explain`.
        why_not: The reasons why it cannot run a call; empty if it can.
        run: Runs a call.
    """

    name: str
    summary: str
    why_not: Callable[[Call], list[str]]
    run: Callable[[Call], Tensor]


# Best first: "auto" takes the first that fits.
BACKENDS = (
    Backend("masked", "dense kernels on a scattered weight", _masked.why_not, _masked.run),
    Backend("gather", "Algorithm 1 in pure torch", _gather.why_not, _gather.run),
    Backend("reference", "the definition, slow", _reference.why_not, _reference.run),
)


def list_backends() -> list[str]:
    """The names that `backend=` takes, besides "auto".

    Examples:
        >>> list_backends()
        ['masked', 'gather', 'reference']
    """
    return [backend.name for backend in BACKENDS]


def check_backend(name: str) -> str:
    """Return `name` if it is "auto" or a backend's, else raise with the closest names."""
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
    """
    check_backend(backend)
    for candidate in BACKENDS:
        if backend in ("auto", candidate.name):
            reasons = candidate.why_not(call)
            if not reasons:
                return candidate
            if backend != "auto":
                raise ValueError(f"backend {backend!r} cannot run this call: {'; '.join(reasons)}")
    raise ValueError("no backend can run this call:\n" + explain(call))


def run(call: Call, backend: str = "auto") -> Tensor:
    """Check a call and run it on the backend that `choose` gives."""
    call.check()
    return choose(call, backend).run(call)


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
        -> masked     dense kernels on a scattered weight  yes
           gather     Algorithm 1 in pure torch            yes
           reference  the definition, slow                 yes
    """
    rows = [(b, b.why_not(call)) for b in BACKENDS]
    fits = [b.name for b, reasons in rows if not reasons and backend in ("auto", b.name)]
    taken = fits[0] if fits else None
    lines = []
    for candidate, reasons in rows:
        mark = "->" if candidate.name == taken else "  "
        verdict = "no: " + "; ".join(reasons) if reasons else "yes"
        lines.append(f"{mark} {candidate.name:<10} {candidate.summary:<36} {verdict}")
    return "\n".join(lines)
