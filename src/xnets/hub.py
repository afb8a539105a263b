"""Models on the Hugging Face Hub. Needs `pip install 'xnets[hub]'`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from xnets._errors import UserError
from xnets.files import load, save

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
except ImportError as error:
    raise ImportError(f"xnets.hub needs huggingface_hub: pip install 'xnets[hub]' ({error})") from (
        error
    )

FILE = "model.safetensors"
_TAGS = ["xnets", "expander-graphs", "sparse"]


class HubMixin(ModelHubMixin, library_name="xnets", tags=list(_TAGS)):
    """Gives a network class `save_pretrained`, `push_to_hub` and `from_pretrained`.

    huggingface_hub keeps the arguments of the constructor, if they are plain values; weights and
    graphs are a file of `xnets.save`. `from_pretrained` builds the network from the arguments and
    loads the file into it: a constructor that builds the dense network will do.

    Args:
        args: Those of the network's own constructor.
        kwargs: Those of the network's own constructor.

    Examples:
        >>> import tempfile, xnets
        >>> class Net(nn.Module, HubMixin):
        ...     def __init__(self, width: int = 8) -> None:
        ...         super().__init__()
        ...         self.layer = xnets.nn.ExpanderLinear(width, width, compression=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Net(width=64).save_pretrained(Path(folder))
        ...     Net.from_pretrained(folder).layer.num_in
        64
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self, save_directory / FILE)  # type: ignore[arg-type]

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Any:
        names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        download = {name: options.pop(name) for name in names}
        path = _find(model_id, **download)
        return load(path, into=cls(**options))  # type: ignore[arg-type]


class _Anonymous(ModelHubMixin, library_name="xnets", tags=list(_TAGS)):
    """Any model, for the Hub to save."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self._model, save_directory / FILE)


def save_pretrained(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write a folder as `push_to_hub` would upload it: the model and a model card.

    Args:
        model: Any model that `xnets.save` takes.
        folder: New or not; a README.md that is there is kept.

    Raises:
        TypeError: If the model cannot be saved.

    Examples:
        >>> import tempfile, xnets
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pretrained(xnets.create_model("mlp", compression=4), folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['README.md', 'model.safetensors']
    """
    _Anonymous(model).save_pretrained(Path(folder))


def push_to_hub(model: nn.Module, repo_id: str, **options: Any) -> str:
    """Upload a model to the Hub.

    Args:
        model: Any model that `xnets.save` takes.
        repo_id: Such as "me/x-densenet"; made if there is none.
        options: As in huggingface_hub's `ModelHubMixin.push_to_hub`: `private`, `token`, `branch`,
            `commit_message`, `create_pr`.

    Returns:
        The address of the commit.

    Raises:
        TypeError: If the model cannot be saved.

    Examples:
        >>> import xnets
        >>> model = xnets.create_model("mlp", compression=4)
        >>> push_to_hub(model, "me/x-mlp", private=True)  # doctest: +SKIP
        'https://huggingface.co/me/x-mlp/commit/...'
    """
    return _Anonymous(model).push_to_hub(repo_id, **options)


def from_pretrained(
    repo_id: str | os.PathLike[str],
    *,
    into: nn.Module | None = None,
    revision: str | None = None,
    **options: Any,
) -> nn.Module:
    """Load a model from the Hub, or from a folder of `save_pretrained`. Runs no code from it.

    Args:
        repo_id: Such as "me/x-densenet", or a folder.
        into: As in `xnets.load`: the network, if the file does not know how to build it.
        revision: Branch, tag or commit; a commit pins what is loaded.
        options: As in huggingface_hub's `hf_hub_download`: `token`, `cache_dir`, `force_download`,
            `local_files_only`.

    Returns:
        The model, as `xnets.load` gives it.

    Raises:
        FileNotFoundError: If the folder holds no model.
        ValueError: As `xnets.load`.

    Examples:
        >>> import tempfile, xnets
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pretrained(xnets.create_model("mlp", compression=4), folder)
        ...     model = from_pretrained(folder)
        >>> sum(isinstance(m, xnets.nn.ExpanderLayer) for m in model.modules())
        2
    """
    return load(_find(str(repo_id), revision=revision, **options), into=into)


def _find(repo_id: str, **download: Any) -> Path:
    if os.path.isdir(repo_id):
        return Path(repo_id) / FILE
    try:
        return Path(hf_hub_download(repo_id, FILE, **download))
    except ValueError as error:  # such as a path that is no folder and no name of a repository
        raise UserError(
            f"{repo_id!r} is neither a folder nor on the Hub: {' '.join(str(error).split())}"
        ) from error
