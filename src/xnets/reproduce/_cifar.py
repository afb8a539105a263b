"""Tables 2 and 4 and the original page's table of CIFAR."""

from __future__ import annotations

from xnets.reproduce._rows import Row, Table

_FITS = (
    "no configuration was published with this size; this one has compression {} in all but the "
    'first and last layer, as the printed "{}x" says, and others fit as well'
)
TABLE_2 = Table(
    key="table-2",
    title="Table 2: VGG16 on CIFAR-10, against pruning",
    rows=(
        Row(label="Li et al. [37]", model=None, dataset="cifar10", accuracy=93.4, params=5.4e6),
        Row(label="Liu et al. [42]", model=None, dataset="cifar10", accuracy=93.8, params=2.3e6),
        Row(
            label="X-VGG16-1",
            model="X-VGG16-1",
            dataset="cifar10",
            accuracy=93.4,
            params=1.65e6,
            reason=_FITS.format(9, 9),
        ),
        Row(
            label="X-VGG16-2",
            model="X-VGG16-2",
            dataset="cifar10",
            accuracy=93.0,
            params=1.15e6,
            logged=(93.07, 92.86),
            reason=_FITS.format(13, 13) + ". The released degrees (released=True), which are those "
            "of the log, give 0.818M parameters and 88.8M MACs",
        ),
        Row(
            label="VGG16-Orig",
            model="VGG16",
            dataset="cifar10",
            accuracy=94.0,
            params=15.0e6,
            logged=(94.0, 93.91),
        ),
    ),
)


def _ten_runs(
    label: str, model: str, mean: float, deviation: float, highest: float, lowest: float
) -> Row:
    return Row(
        label=label,
        model=model,
        dataset="cifar10",
        accuracy=mean,
        spread=f"±{deviation:.2f}, {lowest:.2f} to {highest:.2f}",
    )


TABLE_4 = Table(
    key="table-4",
    title="Table 4: CIFAR-10, mean and standard deviation of 10 runs",
    note="Whether the transitions of the DenseNets were thinned in these runs is not known.",
    rows=(
        _ten_runs("VGG", "VGG16", 93.96, 0.12, 94.17, 93.67),
        _ten_runs("X-VGG-1", "X-VGG16-1", 93.31, 0.18, 93.66, 93.06),
        _ten_runs("X-VGG-2", "X-VGG16-2", 92.91, 0.19, 93.26, 92.69),
        _ten_runs("XDNetBC-40-24", "X-DenseNet-BC-2-40-24", 94.41, 0.19, 94.63, 94.18),
        _ten_runs("XDNetBC-40-36", "X-DenseNet-BC-2-40-36", 94.98, 0.14, 95.21, 94.84),
        _ten_runs("XDNetBC-40-48", "X-DenseNet-BC-2-40-48", 95.49, 0.15, 95.65, 95.28),
        _ten_runs("XDNetBC-40-60", "X-DenseNet-BC-2-40-60", 95.75, 0.07, 95.81, 95.68),
    ),
)

_DENSE_TRANSITIONS = (
    "the logged runs kept the transitions dense (thin_transitions=False): {} parameters with 10 "
    "and {} with 100 classes, {} MACs. The printed FLOPs are half of the dense network's, which "
    "thinned transitions meet; the printed parameters are half of a rounded {}"
)
_REASONS = {
    24: _DENSE_TRANSITIONS.format("0.376M", "0.400M", "158M", "0.7M"),
    36: _DENSE_TRANSITIONS.format("0.835M", "0.871M", "354M", "1.5M"),
    48: "the printed parameters are those of 10 classes",
    60: "the printed parameters are those of 10 classes",
}
_SIZES = {24: (0.4e6, 144e6), 36: (0.75e6, 324e6), 48: (1.4e6, 575e6), 60: (2.15e6, 898e6)}
# (growth, data set, accuracy, best and last of the log).
_RESULTS = (
    (24, "cifar10", 94.83, (94.83, 94.7)),
    (24, "cifar100", 74.37, (74.37, 73.43)),
    (36, "cifar10", 94.98, (94.98, 94.93)),
    (36, "cifar100", 76.69, (76.69, 76.41)),
    (48, "cifar10", 95.48, (95.48, 95.35)),
    (48, "cifar100", 77.7, None),
    (60, "cifar10", 95.71, (95.71, 95.63)),
    (60, "cifar100", 78.53, (78.53, 78.32)),
)
PAGE_CIFAR = Table(
    key="page-cifar",
    title="The original page: X-DenseNet-BC on CIFAR-10 and CIFAR-100",
    note="FLOPs are MACs. The accuracies are those of the best epoch on the test set; 94.83 is "
    "above the best of the ten runs in table 4, 94.63.",
    rows=tuple(
        Row(
            label=f"X-DenseNet-BC-40-{growth}-2",
            model=f"X-DenseNet-BC-2-40-{growth}",
            dataset=dataset,
            params=_SIZES[growth][0],
            flops=_SIZES[growth][1],
            accuracy=accuracy,
            logged=logged,
            reason=_REASONS[growth],
        )
        for growth, dataset, accuracy, logged in _RESULTS
    ),
)
