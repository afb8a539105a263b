"""Ctrl-C at the moments that matter; the whole command is in test_cli and compare/test_command."""

import signal
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from xnets.train import DivergedError, Interrupted, load_checkpoint, train
from xnets.train import _writer as writer
from xnets.train.module import Classifier


def press():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def python_handles_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def epochs_of(folder):
    return len((folder / "metrics.csv").read_text().splitlines()) - 1


@pytest.mark.parametrize("method", ["log_metrics", "save", "finalize"])
def test_what_the_logger_begins_it_ends(tiny, tmp_path, monkeypatch, method):
    """Within its queue, a KeyboardInterrupt lost the wake-up of its thread, and the end hung."""
    begun, ended = [], []
    whole = getattr(TensorBoardLogger, method)

    def interrupted(*args, **kwargs):
        begun.append(method)
        if len(begun) == 1:
            press()
        whole(*args, **kwargs)
        ended.append(method)

    monkeypatch.setattr(TensorBoardLogger, method, interrupted)
    with pytest.raises(Interrupted, match=r"interrupted after \d epochs; what is done is in "):
        train(tiny, out=tmp_path, quiet=True)
    assert begun == ended
    assert not [t for t in threading.enumerate() if type(t).__name__ == "_AsyncWriterThread"]


@pytest.mark.parametrize("function", ["save_checkpoint", "save_tensors"])
def test_an_epoch_is_saved_with_all_its_files(tiny, tmp_path, monkeypatch, function):
    whole = getattr(writer, function)

    def interrupted(*args, **kwargs):
        press()
        whole(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(writer, function, interrupted)
        with pytest.raises(Interrupted, match="interrupted after 1 epochs"):
            train(tiny, out=tmp_path, quiet=True)
    assert load_checkpoint(tmp_path).epoch == epochs_of(tmp_path) == 1
    assert (tmp_path / "resume.ckpt").exists()
    train(tiny, out=tmp_path, resume="auto", quiet=True)
    assert epochs_of(tmp_path) == tiny.epochs


def test_a_lost_interruption_is_noticed_at_the_next_batch(tiny, tmp_path, monkeypatch):
    steps = []
    whole = Classifier.training_step

    def swallowing(*args, **kwargs):
        steps.append(1)
        with suppress(KeyboardInterrupt):  # as Python does with what a destructor raises
            press()
        return whole(*args, **kwargs)

    monkeypatch.setattr(Classifier, "training_step", swallowing)
    with pytest.raises(Interrupted, match="interrupted after 0 epochs"):
        train(tiny, out=tmp_path, quiet=True)
    assert len(steps) == 1


def test_elsewhere_it_comes_at_once(tiny, tmp_path, monkeypatch):
    def step(*args, **kwargs):
        press()
        raise AssertionError("went on")

    monkeypatch.setattr(Classifier, "training_step", step)
    with pytest.raises(Interrupted):
        train(tiny, out=tmp_path, quiet=True)


def test_errors_that_it_causes_are_not_told(tiny, tmp_path, monkeypatch):
    def step(*args, **kwargs):
        try:
            press()
        except KeyboardInterrupt:
            raise RuntimeError("DataLoader worker exited unexpectedly") from None

    monkeypatch.setattr(Classifier, "training_step", step)
    with pytest.raises(Interrupted):
        train(tiny, out=tmp_path, quiet=True)


def test_errors_of_the_user_are(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "math", SimpleNamespace(isfinite=lambda loss: press() or False))
    with pytest.raises(DivergedError):
        train(tiny, out=tmp_path, quiet=True)


def test_who_handles_it_himself_still_does(tiny, tmp_path, monkeypatch):
    pressed = []
    whole = Classifier.training_step

    def step(*args, **kwargs):
        if not pressed:
            press()
        return whole(*args, **kwargs)

    monkeypatch.setattr(Classifier, "training_step", step)
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        train(tiny, out=tmp_path, quiet=True)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert pressed == [1]
