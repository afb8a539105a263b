"""Loading a model: everything is checked before anything is changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xnets._errors import UserError
from xnets.files._container import read_container
from xnets.files._pattern import StoredLayer, join, read_layer
from xnets.files._skeleton import build_dense, fit


def load(path: str | os.PathLike[str], *, into: nn.Module | None = None) -> nn.Module:
    """Read a model that `xnets.save` wrote. Runs no code from the file.

    Args:
        path: The file.
        into: The network to load into, dense or with expander layers; its layers become those of
            the file. Without it the file's own network is built, which it knows if
            `xnets.create_model` made it.

    Returns:
        The network: `into` itself, on its device and in its mode (a single dense layer cannot be
        changed in place: its replacement is returned), or a new one on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, is none of xnets, was written by a newer xnets, or is
            for another network. `into` is unchanged then.
        TypeError: If `into` is no module.

    Examples:
        >>> import tempfile, xnets
        >>> from torch import nn
        >>> net = lambda: nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))
        >>> sparse, _ = xnets.convert(net(), compression=8, keep_ends=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     xnets.save(sparse, f"{folder}/net.safetensors")
        ...     load(f"{folder}/net.safetensors", into=net())[2].compression
        8.0
    """
    if into is not None and not isinstance(into, nn.Module):
        raise TypeError(f"`into` must be a torch.nn.Module, got {type(into).__name__}")
    path = Path(path)
    tensors, about = read_container(path)
    try:
        state = _untie(tensors, about.get("tied"))
        layers = _read_layers(about.get("layers"), state)
        if into is not None:
            return _put(state, fit(into, layers, state), assign=False)
        if about.get("model") is None:
            raise ValueError(
                "it does not say how to build its network; give it: xnets.load(path, into=network)"
            )
        return _build(about["model"], layers, state).eval()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be loaded: {reason}") from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that `xnets.save` was given to keep with the model.

    Args:
        path: The file.

    Returns:
        Texts by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or none of xnets.

    Examples:
        >>> import tempfile, xnets
        >>> model = xnets.create_model("mlp", compression=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     xnets.save(model, f"{folder}/m.safetensors", metadata={"data": "digits"})
        ...     read_metadata(f"{folder}/m.safetensors")
        {'data': 'digits'}
    """
    texts = read_container(Path(path))[1].get("metadata")
    if not isinstance(texts, dict):
        raise UserError(f"{path} is damaged: its metadata is no object")
    return {name: str(text) for name, text in texts.items()}


def _untie(tensors: Mapping[str, Tensor], tied: Any) -> dict[str, Tensor]:
    if not isinstance(tied, dict):
        raise ValueError("its list of tied tensors is no object")
    for key, first in tied.items():
        if not isinstance(first, str) or first not in tensors or key in tensors:
            raise ValueError(f"{key!r:.60} is tied to {first!r:.60}, which it does not hold")
    return {**tensors, **{key: tensors[first] for key, first in tied.items()}}


def _read_layers(about: Any, tensors: dict[str, Tensor]) -> dict[str, StoredLayer]:
    """Read the expander layers; `tensors` becomes the state_dict."""
    if not isinstance(about, dict) or not all(isinstance(layer, dict) for layer in about.values()):
        raise ValueError("its list of layers is no object of objects")
    layers = {}
    for name, layer in about.items():
        if "same" not in layer:
            layers[name] = _read_layer(name, layer, tensors)
    for name, layer in about.items():
        if "same" in layer:
            first = layer["same"]
            if not isinstance(first, str) or first not in layers:
                raise ValueError(f"layer {name!r:.60} is said to be {first!r:.60}, which is none")
            if join(name, "weight") not in tensors:
                raise ValueError(f"layer {name!r:.60}: it has no weight")
            layers[name] = layers[first]
    for name, stored in layers.items():
        for last in ("indptr", "indices"):
            values = getattr(stored.graph, last).astype("int32")
            tensors[join(name, last)] = torch.from_numpy(values)
    return layers


def _read_layer(name: str, about: dict[str, Any], tensors: dict[str, Tensor]) -> StoredLayer:
    weight = tensors.get(join(name, "weight"))
    if weight is None or weight.dim() < 2:
        raise ValueError(f"layer {name!r:.60}: it has no weight")
    keys = {last: join(name, last) for last in ("indices", "degrees")}
    found = {last: tensors.pop(key) for last, key in keys.items() if key in tensors}
    try:
        return read_layer(about, found, weight.shape[0])
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"layer {name!r:.60}: {error}") from error


def _build(
    created_by: Any, layers: Mapping[str, StoredLayer], state: Mapping[str, Tensor]
) -> nn.Module:
    model = fit(build_dense(created_by, len(state)), layers, state)
    parameters = list(model.named_parameters(remove_duplicate=False))
    has_ties = len(parameters) > len({id(parameter) for _, parameter in parameters})
    in_state = set(model.state_dict())
    if not has_ties and all(name in in_state for name, _ in model.named_buffers()):
        return _put(state, model, assign=True)
    # What the file does not hold is computed by the constructor. The sizes are known to be the
    # file's by now.
    model = fit(build_dense(created_by, len(state), device="cpu"), layers, state)
    return _put(state, model, assign=False)


def _put(state: Mapping[str, Tensor], model: nn.Module, *, assign: bool) -> nn.Module:
    try:
        model.load_state_dict(state, assign=assign)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return model
