"""Saving a model: its weights and its graphs, and nothing that runs."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xnets._suggest import unknown_name
from xnets.files._container import write_container
from xnets.files._pattern import StoredLayer, join, write_layer
from xnets.files._skeleton import build_dense, fit
from xnets.nn import ExpanderLayer

PATTERNS = ("indices", "seed")


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    patterns: str = "indices",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model to a safetensors file that `xnets.load` reads back.

    The file holds one number a kept weight and the graphs: no zeros, no code, and a hash of it all.
    A model of `xnets.create_model`, converted or not, is rebuilt from the file alone; for any other
    `xnets.load` needs the network to put it into.

    Args:
        model: The model, on any device.
        path: Where to, usually ending in .safetensors. What is there is replaced at once, when the
            whole file is written.
        patterns: "indices" stores every graph's edges in the smallest integers that hold them.
            "seed" stores family and seed instead, with a hash, where they give this very graph;
            such a file is smaller, but can only be read where xnets draws graphs the same way.
        metadata: Texts to keep with the model; `xnets.read_metadata` returns them.

    Raises:
        TypeError: If the model is wrapped or holds something that is no tensor.
        ValueError: If an argument is unknown, or a tensor has no values yet.
        OSError: If the file cannot be written.

    Examples:
        >>> import tempfile, torch, xnets
        >>> model = xnets.create_model("mlp", compression=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, f"{folder}/model.safetensors")
        ...     again = xnets.load(f"{folder}/model.safetensors")
        >>> x = torch.rand(2, 1, 8, 8)
        >>> torch.equal(model.eval()(x), again(x))
        True
    """
    _check(model, patterns, metadata)
    layers: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    stored: dict[str, StoredLayer] = {}
    first: dict[int, str] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        if not isinstance(layer, ExpanderLayer):
            continue
        stored[name] = StoredLayer(type(layer), layer.graph)
        if first.setdefault(id(layer), name) != name:
            layers[name] = {"same": first[id(layer)]}
            continue
        layers[name], graph = write_layer(layer, by_seed=patterns == "seed")
        tensors |= {join(name, key): tensor for key, tensor in graph.items()}
    state = {}
    for key, value in model.state_dict().items():
        name, _, last = key.rpartition(".")
        if name in layers and last in ("indptr", "indices"):
            continue
        state[key] = _plain(key, value)
    tied = _tied(state)
    tensors |= {key: value.cpu() for key, value in state.items() if key not in tied}
    about = {
        "model": _created_by(model, stored, state),
        "layers": layers,
        "tied": tied,
        "metadata": dict(metadata or {}),
    }
    write_container(Path(path), tensors, about)


def _check(model: Any, patterns: str, metadata: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    wrapped = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(model, wrapped) or hasattr(model, "_orig_mod"):
        inner = "_orig_mod" if hasattr(model, "_orig_mod") else "module"
        raise TypeError(f"`model` is a {type(model).__name__}: save what it wraps, model.{inner}")
    if patterns not in PATTERNS:
        raise ValueError(unknown_name("patterns", patterns, PATTERNS))
    texts = {} if metadata is None else metadata
    if not isinstance(texts, Mapping) or not all(
        isinstance(text, str) for pair in texts.items() for text in pair
    ):
        raise TypeError(f"`metadata` (={metadata!r}) must map texts to texts")


def _plain(key: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{key} is {type(value).__name__}, no tensor, and cannot be saved")
    if nn.parameter.is_lazy(value) or value.is_meta:
        raise ValueError(f"{key} has no values yet: run the model once, or load some")
    if value.layout != torch.strided or value.is_quantized:
        raise TypeError(f"{key} is no plain dense tensor and cannot be saved")
    return value.detach()


def _tied(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Which tensors are the very same memory as an earlier one: a key for a key."""
    first: dict[Any, str] = {}
    tied = {}
    for key, value in state.items():
        if not value.numel():
            continue
        view = (value.data_ptr(), value.dtype, value.shape, value.stride(), value.device)
        if first.setdefault(view, key) != key:
            tied[key] = first[view]
    return tied


def _created_by(
    model: nn.Module, stored: Mapping[str, StoredLayer], state: Mapping[str, Tensor]
) -> dict[str, Any] | None:
    """How to build the network again, if that gives this network."""
    created_by: Any = getattr(model, "created_by", None)
    if created_by is None:
        return None
    try:
        plain: dict[str, Any] = json.loads(json.dumps(created_by))
        fit(build_dense(plain, len(state)), stored, state)
    except (ValueError, TypeError) as error:
        warnings.warn(
            f"the model is no longer what create_model made: {error}. To load the file, give the "
            "network: xnets.load(path, into=network)",
            stacklevel=3,
        )
        return None
    return plain
