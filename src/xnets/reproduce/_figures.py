"""The curves of figures 3 to 6, as far as numbers of theirs were published anywhere."""

from __future__ import annotations

from dataclasses import replace

from xnets.reproduce._cifar import PAGE_CIFAR
from xnets.reproduce._imagenet import PAGE_IMAGENET, TABLE_1, TABLE_5
from xnets.reproduce._rows import Row, Table

_CURVES = {"X": "X-MobileNet", "G": "Group-MobileNet", "B": "MobileNet"}
_PAGE_FLOPS = {row.model: row.flops for row in PAGE_IMAGENET.rows} | {"MobileNet-0.5": 150e6}
FIGURE_3 = Table(
    key="figure-3",
    title="Figure 3: grouped and expander convolutions in MobileNet, ImageNet",
    note="Accuracies of table 5; FLOPs (MACs) of the original page and of section 5.1. "
    f"{TABLE_5.note}",
    rows=tuple(
        replace(row, curve=_CURVES[row.label[0]], flops=_PAGE_FLOPS.get(row.model))
        for row in TABLE_5.rows
    ),
)
FIGURE_5 = Table(
    key="figure-5",
    title="Figure 5: ResNet and X-ResNet, ImageNet",
    flops_per_mac=TABLE_1.flops_per_mac,
    note="The numbers of table 1.",
    rows=tuple(
        replace(row, curve="X-ResNet" if row.label.startswith("X") else "ResNet")
        for row in TABLE_1.rows
        if "ResNet" in row.label
    ),
)

Log = tuple[float, float] | None


def _dense(size: str, dataset: str, log: Log, reason: str = "", flops: float | None = None) -> Row:
    return Row(
        label=size,
        model=f"DenseNet-BC-{size}",
        dataset=dataset,
        curve="DenseNet-BC",
        logged=log,
        reason=reason,
        flops=flops,
    )


_FIGURE_4_DENSE = (
    _dense("40-24", "cifar10", (94.79, 94.74)),
    _dense("40-36", "cifar10", (95.26, 95.16)),
    _dense("40-48", "cifar10", (95.64, 95.45)),
    _dense("40-60", "cifar10", (95.91, 95.81), "the log ends at epoch 200 of 300"),
    _dense("40-36", "cifar100", (77.84, 77.52)),
    _dense("40-48", "cifar100", (79.03, 78.84)),
    _dense("40-60", "cifar100", (79.87, 79.56)),
    _dense("100-12", "cifar100", (77.33, 76.91), "whether the figure shows it is not known"),
    _dense("100-24", "cifar100", (80.02, 79.88), "whether the figure shows it is not known"),
)


def _figure_4_row(row: Row) -> Row:
    """A row of the page, as it was trained."""
    dense = "thin_transitions=False" in row.reason
    return replace(
        row,
        label=f"X-{(row.model or '').removeprefix('X-DenseNet-BC-')}",
        curve="X-DenseNet-BC",
        model_args={"thin_transitions": False} if dense else {},
        params=None,
        flops=None,
        reason="the logged run kept the transitions dense" if dense else "",
    )


FIGURE_4 = Table(
    key="figure-4",
    title="Figure 4: DenseNet-BC and X-DenseNet-BC, CIFAR-10 and CIFAR-100",
    note="The figure's own numbers are not in the text: these are the original page's accuracies "
    "and those of the training logs, with the networks that were logged.",
    rows=(*_FIGURE_4_DENSE, *map(_figure_4_row, PAGE_CIFAR.rows)),
)


def _wide(
    size: str,
    logs: dict[int, Log],
    dense_transitions: tuple[int, ...] = (),
    reasons: dict[int, str] | None = None,
    flops: dict[int, float] | None = None,
) -> tuple[Row, ...]:
    """The X-networks of one curve of figure 6, by compression."""
    reasons, flops = reasons or {}, flops or {}
    return tuple(
        Row(
            label=f"X-{compression}",
            model=f"X-DenseNet-BC-{compression}-{size}",
            model_args={"thin_transitions": False} if compression in dense_transitions else {},
            dataset="cifar100",
            curve=size,
            logged=log,
            flops=flops.get(compression),
            reason=reasons.get(compression, ""),
        )
        for compression, log in logs.items()
    )


def _base(size: str, log: Log, reason: str = "", flops: float | None = None) -> Row:
    return replace(_dense(size, "cifar100", log, reason, flops), label="dense", curve=size)


_SHORT = "the log ends at epoch 240 of 300"
FIGURE_6 = Table(
    key="figure-6",
    title="Figure 6: wider and deeper DenseNet-BC, CIFAR-100",
    note="The figure's own numbers are not in the text: the accuracies are those of the training "
    "logs, and the FLOPs (MACs) of section 5.5. Some logged runs kept the transitions dense "
    "(thin_transitions=False), so that not all points can be compared. In the logs no point of "
    "40-200 has both fewer parameters and a higher accuracy than one of 40-100, and 70-60 is not "
    "better than 58-60 at compression 8.",
    rows=(
        _base("40-60", (79.87, 79.56)),
        *_wide("40-60", {2: (78.53, 78.32)}),
        _base("40-100", (80.9, 80.64)),
        *_wide("40-100", {4: (78.87, 78.81), 8: (77.75, 77.52), 16: (76.2, 75.85)}),
        _base("40-200", (81.62, 81.5), _SHORT, 19.9e9),
        *_wide(
            "40-200",
            {
                4: (80.66, 80.48),
                10: (79.46, 79.33),
                20: (78.33, 78.03),
                30: (77.29, 77.01),
                50: (75.7, 75.38),
                80: (73.26, 72.58),
            },
            reasons={
                4: _SHORT,
                10: _SHORT,
                20: "the log ends at epoch 241 of 300",
                30: "19.93G / 30 is 0.66G, printed as 0.6G",
            },
            flops={30: 0.6e9},
        ),
        _base("58-60", (80.79, 80.58)),
        *_wide(
            "58-60",
            {2: (80.29, 80.21), 4: (78.74, 78.51), 8: (77.98, 77.7), 16: (75.87, 75.49)},
            dense_transitions=(2, 4, 8, 16),
        ),
        _base("70-60", (81.28, 81.04)),
        *_wide(
            "70-60",
            {2: (80.89, 80.6), 4: (79.56, 79.44), 8: (77.48, 77.14), 16: (77.23, 76.79)},
            dense_transitions=(16,),
        ),
    ),
)
