"""From the results of trials to means, spreads and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from xnets.bench.timer import Timing
from xnets.compare._rows import TrialRow
from xnets.compare._trials import DENSE, SINGLE

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A difference of two means, with the interval that it could as well be in.

    Args:
        mean: The difference of the means.
        low: Lower end of Welch's 95 % interval; None where the seeds show no spread, or are fewer
            than two.
        high: Its upper end.
    """

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """A row of points.csv: one kind of network at one compression and block, over its seeds.

    Args:
        label: What it is, in words.
        kind: As in `list_kinds`.
        compression: As asked; 1 if dense.
        block_out: Outputs that share an edge.
        block_in: Inputs that do.
        seeds: How many are finished.
        accuracy: Mean test accuracy over the seeds.
        accuracy_std: Standard deviation over the seeds, of the sample; None for one seed.
        macs: Multiply-accumulate operations for one image; the mean, if seeds differ.
        params: Trained numbers, likewise.
        bytes: Of parameters and buffers, likewise.
        layers: Layers with weights.
        expander_layers: How many of them were thinned.
        seconds: Mean time of training, on whatever machine it was.
        forward_ms: Median time of a forward pass of 16 images in milliseconds, measured in turns
            with all other networks on one machine; None if it was not measured.
        forward_low: First quartile of that.
        forward_high: Third quartile.
        against: What `difference` is from: the grouped network of equal compression; in blocks,
            the same kind without; empty if that was not trained.
        difference: Of the mean accuracies.
        difference_low: Lower end of its 95 % interval, as in `difference()`.
        difference_high: The upper end.
    """

    label: str
    kind: str
    compression: float
    block_out: int
    block_in: int
    seeds: int
    accuracy: float
    accuracy_std: float | None
    macs: int
    params: int
    bytes: int
    layers: int
    expander_layers: int
    seconds: float
    forward_ms: float | None = None
    forward_low: float | None = None
    forward_high: float | None = None
    against: str = ""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None


Key = tuple[str, float, tuple[int, int]]


def summarize(rows: Sequence[TrialRow], times: Mapping[str, Timing] | None = None) -> list[Point]:
    """Put the seeds of each network together.

    Args:
        rows: The finished trials.
        times: Of a forward pass of each network, by its label.

    Returns:
        A point for each network, in the order in which they first come.
    """
    groups: dict[Key, list[TrialRow]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.compression, row.block), []).append(row)
    accuracies = {key: [row.test_accuracy for row in own] for key, own in groups.items()}
    points = [_point(key, own, accuracies) for key, own in groups.items()]
    return [_timed(point, (times or {}).get(point.label)) for point in points]


def _timed(point: Point, time: Timing | None) -> Point:
    if time is None:
        return point
    return replace(point, forward_ms=time.median, forward_low=time.low, forward_high=time.high)


def _point(key: Key, own: list[TrialRow], accuracies: dict[Key, list[float]]) -> Point:
    kind, compression, block = key
    against = "grouped" if block == SINGLE else f"{kind}, single edges"
    other = ("grouped" if block == SINGLE else kind, compression, SINGLE)
    found = None
    if kind != DENSE and other != key and other in accuracies:
        found = difference(accuracies[key], accuracies[other])
    return Point(
        label=own[0].label,
        kind=kind,
        compression=compression,
        block_out=block[0],
        block_in=block[1],
        seeds=len(own),
        accuracy=fmean(accuracies[key]),
        accuracy_std=stdev(accuracies[key]) if len(own) > 1 else None,
        macs=round(fmean(row.macs for row in own)),
        params=round(fmean(row.params for row in own)),
        bytes=round(fmean(row.bytes for row in own)),
        layers=own[0].layers,
        expander_layers=own[0].expander_layers,
        seconds=fmean(row.seconds for row in own),
        against=against if found else "",
        difference=found.mean if found else None,
        difference_low=found.low if found else None,
        difference_high=found.high if found else None,
    )


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Subtract two means, by Welch's t for unequal variances.

    Args:
        ours: Accuracies, one a seed.
        theirs: What to compare with.

    Returns:
        The difference and its interval.

    Examples:
        >>> found = difference([0.9, 0.92, 0.91], [0.8, 0.84, 0.82])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (0.09, 0.048, 0.132)
    """
    from scipy.stats import t

    mean = fmean(ours) - fmean(theirs)
    if len(ours) < 2 or len(theirs) < 2:
        return Difference(mean)
    parts = [stdev(values) ** 2 / len(values) for values in (ours, theirs)]
    if sum(parts) == 0:  # all seeds agree to the last image: no spread was seen, so none is stated
        return Difference(mean)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True)
    )
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(sum(parts))
    return Difference(mean, mean - half, mean + half)
