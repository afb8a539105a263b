"""The file itself: safetensors, with one JSON text about the tensors and a hash over everything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xnets._atomic import replacing
from xnets._errors import UserError

FORMAT = 1
_KEY = "xnets"


def write_container(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all.

    Args:
        path: Where to.
        tensors: Dense tensors on the CPU that share no memory.
        about: JSON values.
    """
    from safetensors.torch import save

    plain = {"format": FORMAT, "xnets": version("xnets"), **about}
    plain["sha256"] = _digest(tensors, plain)
    metadata = {"format": "pt", _KEY: json.dumps(plain, separators=(",", ":"))}
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_container(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_container` wrote. Runs no code from the file.

    Args:
        path: The file.

    Returns:
        The tensors and the JSON values.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or none of ours, or of a newer xnets.
    """
    content = _read_bytes(path)
    tensors = _parse(path, content)
    about = _about(path, content)
    number = about.get("format")
    if not isinstance(number, int) or number < 1:
        raise UserError(f"{path} is damaged: its format is {number!r}")
    if number > FORMAT:
        raise UserError(
            f"{path} was written by a newer xnets ({about.get('xnets')!s:.20}) in format {number}; "
            f"this one reads formats up to {FORMAT}: upgrade with `pip install -U xnets`"
        )
    expected = about.pop("sha256", None)
    if expected != _digest(tensors, about):
        raise UserError(f"{path} is damaged: its content does not have the hash that it states")
    return tensors, about


def _read_bytes(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    if not path.is_file():  # a device or a pipe could be read for ever
        raise UserError(f"{path} is no file")
    # Not mapped into memory: a file that shrinks meanwhile would kill the process.
    return path.read_bytes()


def _parse(path: Path, content: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    if content[:4] == b"PK\x03\x04" or content[:2] == b"\x80\x02":
        raise UserError(
            f"{path} is a file of torch.save, which can run code when it is read; "
            "xnets.load reads what xnets.save wrote, xnets import-reference old checkpoints"
        )
    try:
        return load(content)
    except Exception as error:  # the reader has its own exception, and a foreign file any
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is damaged or no safetensors file: {reason}") from error


def _about(path: Path, content: bytes) -> dict[str, Any]:
    header_size = int.from_bytes(content[:8], "little")
    try:
        metadata = json.loads(content[8 : 8 + header_size]).get("__metadata__") or {}
        about = json.loads(metadata[_KEY]) if _KEY in metadata else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: what it says about its tensors is no JSON") from error
    if about is None:
        raise UserError(f"{path} is a safetensors file, but not one that xnets.save wrote")
    if not isinstance(about, dict):
        raise UserError(f"{path} is damaged: what it says about its tensors is no JSON object")
    return about


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of names, dtypes, shapes, bytes and all that is said about them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.contiguous().reshape(-1)
        if flat.is_complex():
            flat = torch.view_as_real(flat).reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
