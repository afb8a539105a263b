"""Draw which inputs each output sees through one, two and three layers at the same cost."""

import sys

import matplotlib as mpl
import numpy as np

from xnets.graphs import make_graph

mpl.use("Agg")
import matplotlib.pyplot as plt

WIDTH, COMPRESSION, DEPTH = 64, 8, 3
FAMILIES = {"grouped": "groups", "random": "expander"}


def main(path: str = "reach.png") -> None:
    figure, axes = plt.subplots(len(FAMILIES), DEPTH, figsize=(7.2, 5.2), layout="constrained")
    for row, (family, title) in zip(axes, FAMILIES.items(), strict=True):
        reach = np.eye(WIDTH, dtype=int)
        for depth, axis in enumerate(row, start=1):
            layer = make_graph(family, WIDTH, WIDTH, compression=COMPRESSION, seed=depth)
            reach = layer.mask().astype(int) @ reach
            seen = (reach > 0).mean()
            axis.imshow(reach > 0, cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
            axis.set_title(f"{title}, {depth} layer{'s'[: depth > 1]}: {seen:.0%}", fontsize=10)
            axis.set(xticks=[], yticks=[])
            print(f"{title:<8} depth {depth}: {seen:6.1%} of (input, output) pairs connected")
        row[0].set_ylabel("outputs")
    for axis in axes[-1]:
        axis.set_xlabel("inputs of the network")
    figure.suptitle(f"{WIDTH} channels, {COMPRESSION} times fewer connections in every layer")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
