"""Trials on a Ray cluster of this machine."""

import importlib.util
import json
import sys

import pytest

from xnets.compare import compare

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra")
# Ray leaves sockets, files and children to the garbage collector.
leaves_loose_ends = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_without_ray_the_message_says_how_to_get_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs Ray: python -m pip install 'xnets\[ray\]'"):
        compare(tiny, kinds=["dense"], seeds=1, out=tmp_path, quiet=True, ray="local")


@needs_ray
@pytest.mark.slow
class TestCluster:
    pytestmark = leaves_loose_ends

    def test_the_same_as_without(self, tiny, tmp_path):
        few = {"kinds": ["dense", "expander", "margulis"], "compressions": [4], "seeds": 2}
        here = compare(tiny, out=tmp_path / "here", quiet=True, **few)
        there = compare(tiny, out=tmp_path / "there", quiet=True, ray="local", **few)
        assert len(there.results) == 4
        assert {t.name: r.test_accuracy for t, r in there.results} == {
            t.name: r.test_accuracy for t, r in here.results
        }
        assert there.failures == here.failures
        assert len(there.failures) == 2
        for trial, result in there.results:
            folder = tmp_path / "there" / "trials" / trial.name
            assert result.folder == folder
            assert json.loads((folder / "result.json").read_text())["folder"] == str(folder)
            twin = tmp_path / "here" / "trials" / trial.name / "metrics.csv"
            assert (folder / "metrics.csv").read_text() == twin.read_text()
        again = compare(
            tiny, out=tmp_path / "there", quiet=True, **{**few, "kinds": ["dense", "expander"]}
        )
        assert len(again.results) == 4

    @pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
    def test_a_cluster_that_is_not_there(self, address, tiny, tmp_path):
        with pytest.raises(ValueError, match=rf"`ray` \(='{address}'\): no cluster can be reached"):
            compare(tiny, kinds=["dense"], seeds=1, out=tmp_path, quiet=True, ray=address)
