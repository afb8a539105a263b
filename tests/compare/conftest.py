"""What the tests of comparisons share."""

import pytest
import torch

from xnets.compare import _report, _time
from xnets.train import Recipe

TINY = Recipe(
    name="tiny",
    dataset="digits",
    model="convnet",
    model_args={"width": 8, "stages": 2, "depth": 1},
    epochs=1,
    batch_size=256,
    lr=0.02,
    threads=1,
)


@pytest.fixture
def tiny():
    """A recipe of less than a second."""
    return TINY


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes longer than these trainings; test_picture draws, and so does `whole`."""
    monkeypatch.setattr(
        _report, "draw_tradeoff", lambda points, path, title: path.write_bytes(b"picture")
    )


@pytest.fixture(autouse=True)
def little_time(monkeypatch):
    """What the networks take is not what these tests are about."""
    monkeypatch.setattr(_time, "SECONDS", 0.001)


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny networks gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
