"""Run folders and atomic files."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xnets.train._files import make_run_folder, replacing


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_default_folders_are_numbered(here):
    assert [str(make_run_folder("digits")) for _ in range(3)] == [
        "runs/digits/1",
        "runs/digits/2",
        "runs/digits/3",
    ]
    (here / "runs/digits/9").mkdir()
    (here / "runs/digits/notes").mkdir()
    assert str(make_run_folder("digits")) == "runs/digits/10"
    assert str(make_run_folder("other")) == "runs/other/1"


def test_two_runs_at_once_never_share_a_folder():
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: make_run_folder("digits"), range(40)))
    assert len(set(folders)) == 40


def test_a_named_folder_is_new_or_empty(here):
    (here / "empty").mkdir()
    assert make_run_folder("digits", "empty") == Path("empty")
    assert make_run_folder("digits", "a/b") == Path("a/b")
    (here / "a/b/metrics.csv").unlink()
    (here / "a/b/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"^the output folder a/b is not empty; name a new one$"):
        make_run_folder("digits", "a/b")
    assert [p.name for p in (here / "a/b").iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(here):
    (here / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"cannot write to the output folder file: File exists"):
        make_run_folder("digits", "file")
    with pytest.raises(ValueError, match=r"cannot write to the output folder file/x: Not a dir"):
        make_run_folder("digits", "file/x")
    assert (here / "file").read_text() == "mine"


def test_an_unwritable_folder(here, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    # The superuser may write anywhere, so the refusal is played.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"cannot write to the output folder x: Permission denied"):
        make_run_folder("digits", "x")


def test_replacing_puts_no_file_in_place_of_a_device(here):
    path = here / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"a device of this name: '.*pipe'"), replacing(path):
        raise AssertionError
    assert path.is_fifo()


def test_replacing_leaves_the_old_file_on_failure(here):
    path = here / "a.csv"
    path.write_text("old")

    def break_half_way():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        break_half_way()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [p.name for p in here.iterdir()] == ["a.csv"]
    assert path.read_text() == "new"


def test_of_two_runs_one_gets_the_folder(tmp_path):
    make_run_folder("digits", tmp_path / "same")
    with pytest.raises(ValueError, match="is not empty; name a new one"):
        make_run_folder("digits", tmp_path / "same")
