"""Measure the cases of a plan in another process, which may die without losing the rest."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from xnets.bench._gpu_cases import Case, LayerRow, Plan, list_cases, name_of, time_layer
from xnets.bench._gpu_networks import Network, NetworkRow, time_network
from xnets.bench._gpu_parts import DeviceBrokenError, cudnn_benchmark, one_line, stop_if_broken
from xnets.bench.roofline import Ceilings, measure_ceilings

Message = tuple[Any, ...]
Send = Callable[[Message], None]

_MOST_RESTARTS = 6


@dataclass
class Findings:
    """What has been measured so far.

    Args:
        layers: Rows of single layers.
        networks: Rows of whole networks.
        ceilings: Of the device; None before they are measured.
        skipped: Cases for which no time was left.
        done: Indices of the cases that are over, well or not.
        problems: Errors of a whole case, with its name.
        save: Called after every case.
    """

    layers: list[LayerRow] = field(default_factory=list)
    networks: list[NetworkRow] = field(default_factory=list)
    ceilings: Ceilings | None = None
    skipped: list[str] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    save: Callable[[Findings], None] = lambda findings: None

    def receive(self, message: Message) -> None:
        """Take in what `measure` sends."""
        kind, *values = message
        if kind == "ceilings":
            self.ceilings = values[0]
        elif kind == "skipped":
            self.skipped.append(values[1])
            self.done.add(values[0])
        elif kind == "rows":
            index, rows = values
            for row in rows:
                (self.networks if isinstance(row, NetworkRow) else self.layers).append(row)
            self.done.add(index)
            self.save(self)
        elif kind == "failed":
            index, name, reason = values
            self.problems.append(f"{name}: {reason}")
            self.done.add(index)


def measure(
    plan: Plan,
    send: Send,
    *,
    todo: Sequence[int] | None = None,
    avoid: Mapping[int, Mapping[str, str]] | None = None,
    ceilings: Ceilings | None = None,
    device: str,
    seconds: float,
    until: float,
) -> None:
    """Measure cases one by one and send what is found.

    Args:
        plan: The cases.
        send: Gets ("ceilings", ...), ("begin", index, competitor), ("rows", index, rows),
            ("skipped", index, name) and ("failed", index, name, why).
        todo: Indices of the cases; all by default.
        avoid: By case, competitors to pass over and why.
        ceilings: If they are known.
        device: "cuda" or "cpu".
        seconds: How long to time each competitor, about.
        until: On the monotonic clock; no case begins later.

    Raises:
        DeviceBrokenError: If the device answers no more in this process.
    """
    with cudnn_benchmark():
        if ceilings is None:
            send(("begin", -1, "ceilings"))
            ceilings = measure_ceilings(device, plan.dtype, size=plan.ceiling, seconds=seconds)
            send(("ceilings", ceilings))
        for index, case in enumerate(list_cases(plan)):
            if todo is not None and index not in todo:
                continue
            if time.monotonic() > until:
                send(("skipped", index, name_of(case)))
                continue
            print(f"{name_of(case)} ...", file=sys.stderr, flush=True)
            passed_over = (avoid or {}).get(index, {})

            def begin(who: str, index: int = index) -> None:
                send(("begin", index, who))

            try:
                rows = _rows(case, plan, ceilings, device, seconds, begin, passed_over)
            except DeviceBrokenError:
                raise
            except Exception as problem:  # no memory for the tensors themselves, say
                send(("failed", index, name_of(case), one_line(problem)))
                stop_if_broken(device, problem)
            else:
                send(("rows", index, rows))
            if device == "cuda":
                import torch

                torch.cuda.empty_cache()


def _rows(
    case: Case,
    plan: Plan,
    ceilings: Ceilings,
    device: str,
    seconds: float,
    begin: Callable[[str], None],
    avoid: Mapping[str, str],
) -> Sequence[LayerRow | NetworkRow]:
    if isinstance(case, Network):
        return time_network(case, device=device, seconds=5 * seconds, begin=begin, avoid=avoid)
    return time_layer(
        case, plan, ceilings, device=device, seconds=seconds, begin=begin, avoid=avoid
    )


def measure_apart(
    plan: Plan,
    findings: Findings,
    *,
    device: str,
    seconds: float,
    until: float,
    limit: float,
    patience: float = 120,
    target: Callable[..., None] = measure,
) -> None:
    """Measure a plan in another process, and in a new one where that dies, hangs or breaks.

    Args:
        plan: The cases.
        findings: Gets what is found.
        device: "cuda" or "cpu".
        seconds: How long to time each competitor, about.
        until: On the monotonic clock; no case begins later.
        limit: On the monotonic clock; everything ends.
        patience: Seconds without a word after which the process is taken to hang.
        target: What the process runs.
    """
    context = multiprocessing.get_context("spawn")
    avoid: dict[int, dict[str, str]] = {}
    cases = list(list_cases(plan))
    for _ in range(_MOST_RESTARTS):
        todo = [i for i in range(len(cases)) if i not in findings.done]
        if not todo:
            return
        receiving, sending = context.Pipe(duplex=False)
        options: dict[str, Any] = {
            "todo": todo,
            "avoid": avoid,
            "ceilings": findings.ceilings,
            "device": device,
        }
        options |= {"seconds": seconds, "until": until}
        process = context.Process(target=_child, args=(sending, target, plan, options), daemon=True)
        process.start()
        sending.close()
        reason, index, who = _listen(receiving, findings, limit, patience)
        process.kill()
        process.join()
        if not reason:
            return
        name = name_of(cases[index]) if index >= 0 else "before the first case"
        print(f"{name}, {who}: {reason}; begun again without it", file=sys.stderr, flush=True)
        if time.monotonic() >= limit or index < 0:
            findings.problems.append(f"{name}, {who}: {reason}")
            break
        known = avoid.setdefault(index, {})
        if who in ("", "timing") or who in known:
            findings.receive(("failed", index, name, f"{who}: {reason}"))
        known[who] = reason
    left = [name_of(cases[i]) for i in range(len(cases)) if i not in findings.done]
    findings.skipped += left


def _child(
    sending: Connection, target: Callable[..., None], plan: Plan, options: Mapping[str, Any]
) -> None:
    try:
        target(plan, sending.send, **options)
    except BaseException as problem:
        sending.send(("broken", one_line(problem)))
    else:
        sending.send(("end",))


def _listen(
    receiving: Connection, findings: Findings, limit: float, patience: float
) -> tuple[str, int, str]:
    """Why the process did not end well, "" if it did; the case and competitor that ran last."""
    index, who = -1, ""
    while True:
        wait = min(patience, limit - time.monotonic())
        if wait <= 0 or not receiving.poll(wait):
            late = time.monotonic() >= limit
            return "no time was left" if late else f"no word for {patience:g} s", index, who
        try:
            message = receiving.recv()
        except EOFError:
            return "the process died", index, who
        if message[0] == "end":
            return "", index, who
        if message[0] == "broken":
            return message[1], index, who
        if message[0] == "begin":
            _, index, who = message
        else:
            findings.receive(message)
