"""Edge switches: degrees stay, no edge repeats, refused pairs are refused for a reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xnets.graphs._switch as switch_module
from xnets.graphs import make_graph
from xnets.graphs._seed import Stream
from xnets.graphs._switch import EdgeSwitcher


def switcher_of(mask: np.ndarray) -> EdgeSwitcher:
    outputs, inputs = np.nonzero(mask)
    return EdgeSwitcher(inputs, outputs, mask.shape)


def mask_of(switcher: EdgeSwitcher, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=int)
    np.add.at(mask, (switcher.outputs, switcher.inputs), 1)
    return mask


masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.integers(0, 2 ** (shape[0] * shape[1]) - 1).map(
        lambda bits: np.array(
            [bits >> i & 1 for i in range(shape[0] * shape[1])], dtype=bool
        ).reshape(shape)
    )
)


@given(mask=masks, seed=st.integers(0, 2**32), slots=st.sampled_from([1, 16]))
def test_random_switches_keep_degrees(mask: np.ndarray, seed: int, slots: int) -> None:
    if mask.sum() < 2:
        return
    with pytest.MonkeyPatch.context() as patch:
        # One slot per edge: pairs of vertices share entries of the table, as in large graphs.
        patch.setattr(switch_module, "_SLOTS_PER_EDGE", slots)
        switcher = switcher_of(mask)
        made, tried = switcher.shuffle(50, Stream(seed), limit=200)
    assert made <= 50
    assert tried <= 200
    changed = mask_of(switcher, mask.shape)
    assert changed.max() <= 1
    np.testing.assert_array_equal(changed.sum(axis=0), mask.sum(axis=0))
    np.testing.assert_array_equal(changed.sum(axis=1), mask.sum(axis=1))


def test_try_pairs_switches_exactly_the_possible_ones() -> None:
    mask = np.eye(4, dtype=bool)
    mask[0, 1] = True
    # Edges by number: 0 = (out 0, in 0), 1 = (0, 1), 2 = (1, 1), 3 = (2, 2), 4 = (3, 3).
    for first, second, possible in [
        (3, 4, True),
        (0, 1, False),  # the same output
        (1, 2, False),  # the same input
        (0, 2, False),  # output 0 has input 1 already
        (1, 3, True),
        (2, 2, False),  # one edge alone
    ]:
        switcher = switcher_of(mask)
        switched = switcher.try_pairs(np.array([first]), np.array([second]))
        assert switched.tolist() == [possible], (first, second)
        assert (mask_of(switcher, mask.shape) == mask).all() != possible


def test_of_two_pairs_that_disturb_each_other_the_earlier_wins() -> None:
    switcher = switcher_of(np.eye(6, dtype=bool))
    switched = switcher.try_pairs(np.array([0, 1, 4, 4]), np.array([1, 2, 3, 5]))
    assert switched.tolist() == [True, False, True, False]
    assert switcher.inputs.tolist() == [1, 0, 2, 4, 3, 5]
    # Both pairs want the edge (output 0, input 2): edges 0, 1 leave output 0, edges 2, 3 input 2.
    mask = np.zeros((4, 4), dtype=bool)
    mask[[0, 0, 1, 2], [0, 1, 2, 2]] = True
    switcher = switcher_of(mask)
    assert switcher.try_pairs(np.array([0, 1]), np.array([2, 3])).tolist() == [True, False]


def test_repair_removes_every_repetition() -> None:
    inputs = np.repeat(np.arange(8), 4)  # output v has input v four times
    switcher = EdgeSwitcher(inputs, np.repeat(np.arange(8), 4), (8, 8))
    repeated = np.flatnonzero(np.arange(32) % 4)
    assert len(switcher.repair(repeated, Stream(0), rounds=200)) == 0
    mask = mask_of(switcher, (8, 8))
    assert mask.max() == 1
    assert set(mask.sum(axis=0).tolist()) == {4}
    hopeless = EdgeSwitcher(np.zeros(2, dtype=int), np.zeros(2, dtype=int), (1, 2))
    assert hopeless.repair(np.array([1]), Stream(0), rounds=5).tolist() == [1]


def test_a_complete_graph_allows_no_switch() -> None:
    graph = make_graph("complete", 4, 4)
    switcher = switcher_of(graph.mask())
    assert switcher.shuffle(10, Stream(0), limit=1000) == (0, 1000)
