"""The trade-off picture shows what the points say."""

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from xnets.compare._picture import draw_tradeoff
from xnets.compare._summary import Point


def point(kind, compression, macs, accuracy, block=(1, 1), std=0.01, **more):
    return Point(
        label=f"{kind} {compression}", kind=kind, compression=compression, block_out=block[0],
        block_in=block[1], seeds=3, accuracy=accuracy, accuracy_std=std, macs=macs, params=1,
        bytes=4, layers=3, expander_layers=1, seconds=1.0, **more,
    )  # fmt: skip


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw points; return the axes."""
    figures = []
    save = Figure.savefig

    def spy(self, *args, **options):
        figures.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)

    def draw(points):
        draw_tradeoff(points, tmp_path / "a.png", title="a comparison")
        assert (tmp_path / "a.png").stat().st_size > 5000
        return figures[-1].axes[0]

    return draw


def test_a_line_a_kind_with_error_bars(drawn):
    axes = drawn(
        [
            point("dense", 1, 1000, 0.95),
            point("grouped", 4, 250, 0.80),
            point("grouped", 2, 500, 0.85),
            point("expander", 2, 500, 0.91),
            point("expander", 4, 250, 0.90, std=0.02),
            point("expander", 4, 250, 0.88, block=(4, 1), std=None),
        ]
    )
    lines = {c.get_label(): c for c in axes.containers if isinstance(c, ErrorbarContainer)}
    assert list(lines) == ["grouped", "expander", "expander, block 4 x 1", "dense"]
    data = lines["expander"].lines[0]
    assert list(data.get_ydata()) == [90, 91]  # in the order of MACs
    assert list(data.get_xdata()) == pytest.approx([250, 500], rel=0.03)
    low, high = lines["expander"].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((88, 92))
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["C = 4", "C = 2"]


def test_time_is_beside_the_macs_where_all_were_timed(drawn):
    points = [
        point("dense", 1, 1000, 0.95, forward_ms=8.0),
        point("grouped", 4, 250, 0.80, forward_ms=3.0),
        point("grouped", 2, 500, 0.85, forward_ms=2.0),
    ]
    macs, time = drawn(points).figure.axes
    assert list(time.containers[0].lines[0].get_xdata()) == [3, 2]  # in the order of MACs
    assert list(time.containers[0].lines[0].get_ydata()) == [80, 85]
    assert macs.get_xlabel() != time.get_xlabel()
    assert len(drawn([*points, point("grouped", 8, 125, 0.7)]).figure.axes) == 1


def test_a_single_network(drawn):
    assert len(drawn([point("dense", 1, 1000, 0.95, std=None)]).containers) == 1
    assert len(drawn([point("lps", 4, 1000, 0.95)]).containers) == 1
