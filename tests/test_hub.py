"""The Hub, against a folder and against calls that are caught before the network."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import xnets

pytest.importorskip("huggingface_hub")
from tests.files.conftest import same_state
from xnets import hub
from xnets._errors import UserError


class Net(nn.Module, hub.HubMixin, license="apache-2.0"):
    def __init__(self, width: int = 16, compression: float = 4) -> None:
        super().__init__()
        self.first = nn.Linear(8, width)
        self.layer = xnets.nn.ExpanderLinear(width, width, compression=compression)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.first(x).relu())


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_a_class_with_the_mixin(tmp_path):
    model = Net(width=64, compression=8)
    model.layer = xnets.nn.ExpanderLinear(64, 64, compression=2, seed=5)
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "config.json").read_text()) == {"width": 64, "compression": 8}
    card = (tmp_path / "README.md").read_text()
    assert "library_name: xnets" in card
    assert "license: apache-2.0" in card
    again = Net.from_pretrained(tmp_path)
    assert same_state(model, again)
    assert again.layer.graph == model.layer.graph


def test_any_model(tmp_path):
    model = xnets.create_model("convnet", compression=4, block=(4, 1))
    hub.save_pretrained(model, tmp_path / "m")
    assert same_state(hub.from_pretrained(tmp_path / "m"), model)
    other, _ = xnets.convert(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)), keep_ends=False)
    hub.save_pretrained(other, tmp_path / "o")
    with pytest.raises(UserError, match=r"give it: xnets\.load"):
        hub.from_pretrained(tmp_path / "o")
    into = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    assert same_state(hub.from_pretrained(tmp_path / "o", into=into), other)


def test_what_is_pushed(monkeypatch):
    pushed = {}

    class Api:
        def __init__(self, *_, **__):
            pass

        def create_repo(self, repo_id, **options):
            pushed["private"] = options["private"]
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, **_):
            pushed["files"] = {p.name: p.read_bytes() for p in folder_path.iterdir()}
            return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    model = xnets.create_model("mlp", compression=4)
    url = hub.push_to_hub(model, "me/mlp", private=True)
    assert url == "https://huggingface.co/me/mlp/commit/1"
    assert pushed["private"] is True
    assert {"README.md", "model.safetensors"} == set(pushed["files"])


def test_the_file_is_downloaded_by_name_and_revision(tmp_path, monkeypatch):
    model = xnets.create_model("mlp", compression=4)
    hub.save_pretrained(model, tmp_path)
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options))
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    again = hub.from_pretrained("me/mlp", revision="abc", local_files_only=True)
    assert same_state(model, again)
    options = {"revision": "abc", "local_files_only": True}
    assert asked == [("me/mlp", "model.safetensors", options)]


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        hub.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"'/no/such/folder' is neither a folder nor on the Hub"):
        hub.from_pretrained("/no/such/folder")
