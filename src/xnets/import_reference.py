"""Checkpoints of the paper's original repository, into expander layers, exactly."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xnets._errors import UserError, asked_by_user
from xnets._reference_file import OriginalLayer, read_reference
from xnets._table import format_table
from xnets.graphs import BipartiteGraph, make_graph
from xnets.models import create_model, model_arguments
from xnets.nn import ExpanderConv2d, ExpanderLayer, ExpanderLinear

_LAYERS = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
# What all networks of the original repository have, and what some of them have.
_ALWAYS = {"as_coded": True}
_SOMETIMES = {"batch_norm": True}


@dataclass(frozen=True)
class ImportedLayer:
    """One expander layer that was imported.

    Args:
        name: Its name in our network.
        original: Its name in the checkpoint.
        num_in: Inputs.
        num_out: Outputs.
        num_edges: Edges of its graph.
        rule: How its mask was drawn: "fan-in D", "fan-out D", "both", "grouped" or "irregular".
        dead_outputs: Outputs without any input, which are constant.
        off_mask: Non-zero weights outside the mask, which the original multiplies by 0.
        largest_off_mask: The largest magnitude among them.
    """

    name: str
    original: str
    num_in: int
    num_out: int
    num_edges: int
    rule: str
    dead_outputs: int
    off_mask: int
    largest_off_mask: float


@dataclass(frozen=True)
class ImportReport:
    """What a checkpoint held.

    Args:
        said: What the checkpoint says of itself: "arch", "epoch", "best_prec1".
        model: Name and arguments of our network.
        layers: The expander layers.
        dense_layers: Number of layers that were dense.
        params: Numbers that our network keeps.
        stored: Numbers that the checkpoint's layers held, masks included.
    """

    said: dict[str, Any]
    model: dict[str, Any]
    layers: tuple[ImportedLayer, ...]
    dense_layers: int
    params: int
    stored: int

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """A table of the expander layers, and a summary."""
        header = ("layer", "in the checkpoint", "size", "edges", "mask", "off the mask")
        rows = [
            (
                layer.name,
                layer.original,
                f"{layer.num_in} -> {layer.num_out}",
                f"{layer.num_edges:,}",
                layer.rule + (f", {layer.dead_outputs} dead" if layer.dead_outputs else ""),
                f"{layer.off_mask:,} up to {layer.largest_off_mask:.2g}"
                if layer.off_mask
                else "all 0",
            )
            for layer in self.layers
        ]
        said = ", ".join(f"{name} {value}" for name, value in self.said.items()) or "nothing"
        return format_table(header, rows, right="lllr") + (
            f"\n{len(self.layers)} expander and {self.dense_layers} dense layers; "
            f"numbers {self.stored:,} -> {self.params:,}\n"
            f"the checkpoint says: {said}\n"
            "each weight times its mask equals our layer's dense weight, bit for bit"
        )


def import_reference(
    path: str | os.PathLike[str], model: str, **model_args: Any
) -> tuple[nn.Module, ImportReport]:
    """Read a checkpoint of the paper's original repository.

    The checkpoint decides which layers are expander layers, and what their graphs are; the name
    only tells which network it is. No code from the file is run.

    Args:
        path: A .pth.tar file, of torch 0.2 or later, with or without DataParallel.
        model: Name of the network as in `xnets.create_model`, such as "X-DenseNet-BC-2-40-24".
        model_args: Arguments of the model that the checkpoint does not tell. It does tell
            `num_classes`, `in_channels` and the variants of the original repository.

    Returns:
        The network, in evaluation mode, and the report.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint, or one of another network.
        TypeError: If the model takes no such argument.

    Examples:
        >>> import_reference("best.pth.tar", "X-DenseNet-BC-2-40-24")
        Traceback (most recent call last):
        FileNotFoundError: ...
        >>> model, report = import_reference(  # doctest: +SKIP
        ...     "where/it/is/best.pth.tar", "X-DenseNet-BC-2-40-24"
        ... )
    """
    path = Path(path)
    layers, said = read_reference(path)
    network = _build(path, model, layers, model_args)
    pairs = list(zip(layers, _targets(network), strict=True))
    imported = []
    with torch.no_grad():
        for original, (name, module) in pairs:
            layer = _take_over(module, original)
            if isinstance(layer, ExpanderLayer):
                network.set_submodule(name, layer)
                imported.append(_describe(name, original, layer))
    return network.eval(), ImportReport(
        said=said,
        model=network.created_by,  # type: ignore[arg-type]
        layers=tuple(imported),
        dense_layers=sum(layer.kind == "dense" for layer in layers) - _grouped(imported),
        params=sum(p.numel() for p in network.parameters()),
        stored=sum(_numel(layer) for layer in layers),
    )


def _grouped(imported: list[ImportedLayer]) -> int:
    return sum(layer.rule == "grouped" for layer in imported)


def _numel(layer: OriginalLayer) -> int:
    masks = 0 if layer.mask is None else layer.weight.numel()
    bias = layer.rest.get("bias")
    return layer.weight.numel() + masks + (0 if bias is None else bias.numel())


# --- the network ---------------------------------------------------------------------------------


def _build(
    path: Path, name: str, layers: list[OriginalLayer], model_args: dict[str, Any]
) -> nn.Module:
    """The dense network of that name whose layers are the checkpoint's."""
    with asked_by_user():
        known = model_arguments(name)
    weighty = [layer for layer in layers if layer.kind != "norm"]
    if not weighty:
        raise UserError(f"{path} is no checkpoint of a network: it has no layer with weights")
    found = {
        "num_classes": weighty[-1].weight.shape[0],
        "in_channels": weighty[0].weight.shape[1],
        **_ALWAYS,
    }
    args = {**{key: value for key, value in found.items() if key in known}, **model_args}
    variants = [{}, {key: value for key, value in _SOMETIMES.items() if key in known}]
    problem = ""
    for variant in variants:
        with asked_by_user(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            network = create_model(name, compression=1, **{**variant, **args})
        mismatch = _why_not(layers, network)
        if not mismatch:
            return network
        problem = problem or mismatch
    raise UserError(f"{path} is no checkpoint of {name}: {problem}")


def _targets(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in network.named_modules() if type(module) in _LAYERS]


def _why_not(layers: list[OriginalLayer], network: nn.Module) -> str:
    """How the checkpoint differs from the network; "" if it does not."""
    targets = _targets(network)
    for place, (layer, (name, module)) in enumerate(zip(layers, targets, strict=False), start=1):
        if not _fits(layer, module):
            shape = "x".join(map(str, layer.weight.shape))
            bias = ", bias" if layer.kind != "norm" and "bias" in layer.rest else ""
            return (
                f"layer {place} is {layer.name} ({layer.kind} {shape}{bias}) there, and {name} "
                f"({module}) in the network"
            )
    if len(layers) != len(targets):
        return f"it has {len(layers)} layers, the network {len(targets)}"
    return ""


def _fits(layer: OriginalLayer, module: Any) -> bool:
    is_norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
    if is_norm or layer.kind == "norm":
        return is_norm and layer.kind == "norm" and layer.weight.shape == module.weight.shape
    bias = layer.rest.get("bias")
    if bias is not None and (module.bias is None or bias.shape != module.bias.shape):
        return False
    if layer.kind == "expander":
        return bias is None and layer.weight.shape == module.weight.shape
    if (bias is None) != (module.bias is None):
        return False
    return layer.weight.shape == module.weight.shape or _num_groups(layer, module) > 1


def _num_groups(layer: OriginalLayer, module: Any) -> int:
    """In how many groups the original splits what is one group in our network; 0 if it is not."""
    ours, theirs = module.weight.shape, layer.weight.shape
    same = len(ours) == len(theirs) == 4 and (ours[0], *ours[2:]) == (theirs[0], *theirs[2:])
    if not same or module.groups > 1 or ours[1] % theirs[1]:
        return 0
    groups: int = ours[1] // theirs[1]
    return groups if ours[0] % groups == 0 else 0


# --- the layers ----------------------------------------------------------------------------------


def _take_over(module: Any, original: OriginalLayer) -> nn.Module:
    """Load a layer's numbers; return it, or the expander layer that takes its place."""
    rest = {name: value for name, value in original.rest.items() if value is not None}
    if original.kind == "dense" and original.weight.shape != module.weight.shape:
        inputs = original.weight.shape[1]
        graph = make_graph("grouped", module.in_channels, module.out_channels, degree=inputs)
        layer: Any = ExpanderConv2d.from_dense(module, graph=graph)
        # Canonical order is by output, then by input: that of the grouped weight.
        layer.weight.copy_(original.weight.flatten(0, 1))
        return layer if "bias" not in rest else _with_bias(layer, rest)
    if original.mask is None:
        missing, unexpected = module.load_state_dict(
            {"weight": original.weight, **rest}, strict=False
        )
        assert not unexpected
        assert set(missing) <= {"num_batches_tracked"}  # torch counts batches since 0.4
        return module  # type: ignore[no-any-return]
    module.weight.copy_(original.weight)
    graph = BipartiteGraph.from_mask(original.mask.bool().numpy())
    kind = ExpanderLinear if isinstance(module, nn.Linear) else ExpanderConv2d
    layer = kind.from_dense(module, graph=graph)  # type: ignore[attr-defined]
    layer.bias = None  # the original's expander layers have none
    expected = original.weight * original.mask.view(
        *original.mask.shape, *[1] * (module.weight.dim() - 2)
    )
    if not torch.equal(layer.dense_weight(), expected.to(layer.weight)):
        raise AssertionError(f"{original.name} was not taken over exactly")
    return layer  # type: ignore[no-any-return]


def _with_bias(layer: Any, rest: dict[str, Any]) -> nn.Module:
    layer.bias.copy_(rest["bias"])
    return layer  # type: ignore[no-any-return]


def _describe(name: str, original: OriginalLayer, layer: ExpanderLayer) -> ImportedLayer:
    graph = layer.graph
    off = torch.zeros(0)
    if original.mask is not None:
        off = (
            original.weight.flatten(2) if original.weight.dim() > 2 else original.weight[..., None]
        )
        off = off[original.mask == 0].abs()
    return ImportedLayer(
        name=name,
        original=original.name,
        num_in=graph.num_in,
        num_out=graph.num_out,
        num_edges=graph.num_edges,
        rule="grouped" if original.mask is None else _rule(graph),
        dead_outputs=int((graph.fan_in == 0).sum()),
        off_mask=int((off != 0).sum()),
        largest_off_mask=float(off.max()) if off.numel() else 0.0,
    )


def _rule(graph: BipartiteGraph) -> str:
    fan_in, fan_out = set(graph.fan_in.tolist()), set(graph.fan_out.tolist())
    if len(fan_in) == len(fan_out) == 1:
        return "both"
    if len(fan_in) == 1:
        return f"fan-in {min(fan_in)}"
    return f"fan-out {min(fan_out)}" if len(fan_out) == 1 else "irregular"
