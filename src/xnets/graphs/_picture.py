"""The picture of a certificate: the biadjacency matrix beside the singular values."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from xnets.graphs._bipartite import BipartiteGraph
from xnets.graphs._spectral import DENSE_LIMIT, FloatArray, estimated_values, singular_values

if TYPE_CHECKING:
    from xnets.graphs._certify import Certificate

_PIXELS = 512


def draw_certificate(certificate: Certificate, path: str | PathLike[str]) -> None:
    """Draw a certificate to a file.

    Args:
        certificate: What to draw.
        path: Where to write the picture.
    """
    # The object interface: no global figure, no window, whatever backend the user has chosen.
    from matplotlib.figure import Figure

    graph = certificate.graph
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    matrix_axes, values_axes = figure.subplots(1, 2)
    image = matrix_axes.imshow(
        density_image(graph),
        cmap="Greys",
        vmin=0,
        extent=(0, graph.num_in, graph.num_out, 0),
        interpolation="nearest",
        aspect="auto",
    )
    if max(graph.num_in, graph.num_out) > _PIXELS:
        figure.colorbar(image, ax=matrix_axes, label="share of edges per pixel")
    block = "" if graph.block == (1, 1) else f", block {graph.block}"
    matrix_axes.set(
        title=f"Biadjacency, {graph.num_edges} edges{block}", xlabel="input", ylabel="output"
    )
    marks = [("first", certificate.first, "tab:blue"), ("second", certificate.second, "tab:orange")]
    if certificate.bound is not None:
        marks.append(("Ramanujan bound", certificate.bound, "tab:red"))
    if min(graph.base_shape) <= 2 * DENSE_LIMIT:
        title, values = "Singular values", singular_values(graph)[: min(graph.base_shape)]
        weights = np.ones(len(values))
    else:
        title, (values, weights) = "Singular values, estimated", estimated_values(graph)
    values_axes.hist(values, bins=64, weights=weights, color="0.7", log=True)
    values_axes.set_ylim(bottom=0.5)
    for (name, value, color), width, style in zip(marks, (4, 2, 2), ("-", "-", "--"), strict=False):
        values_axes.axvline(
            value, color=color, linewidth=width, linestyle=style, label=f"{name} {value:.4g}"
        )
    values_axes.set(
        title=f"{title}, gap {certificate.gap:.3f}", xlabel="singular value", ylabel="number"
    )
    values_axes.set_xlim(0, max(certificate.first * 1.05, 1))
    values_axes.legend(loc="upper center")
    figure.savefig(path)


def density_image(graph: BipartiteGraph, pixels: int = _PIXELS) -> FloatArray:
    """The mask, averaged down to at most `pixels` a side: the share of edges per pixel.

    Args:
        graph: The graph.
        pixels: The largest size of the image.

    Returns:
        Shape (min(num_out, pixels), min(num_in, pixels)), entries in [0, 1].

    Examples:
        >>> density_image(BipartiteGraph.from_mask([[1, 1, 0, 0], [1, 0, 0, 0]]), pixels=2)
        array([[1. , 0. ],
               [0.5, 0. ]])
    """
    height, width = min(graph.num_out, pixels), min(graph.num_in, pixels)
    inputs, outputs = graph.edges().T
    row, column = outputs * height // graph.num_out, inputs * width // graph.num_in
    filled = np.bincount(row * width + column, minlength=height * width).reshape(height, width)
    tall = np.bincount(np.arange(graph.num_out) * height // graph.num_out)
    wide = np.bincount(np.arange(graph.num_in) * width // graph.num_in)
    share: FloatArray = filled / np.outer(tall, wide)
    return share
