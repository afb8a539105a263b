"""One word for randomness: `seed`, turned into a stream of raw 64-bit words in one place.

numpy promises that seed sequences and the raw words of a bit generator never change, but not that
the methods of `Generator` never do. Graphs are therefore drawn from raw words with integer
arithmetic alone, so one seed gives one graph on every machine and version.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Seed: TypeAlias = "int | np.random.Generator"


class Stream:
    """A reproducible stream of random integers.

    Args:
        seed: An int >= 0, or a numpy Generator, from which a fresh stream is split off (so that the
            same Generator gives another graph on the next call).

    Raises:
        TypeError: If the seed is something else.
        ValueError: If it is negative.

    Examples:
        >>> Stream(0).below(10, size=5)
        array([6, 2, 0, 0, 8])
    """

    def __init__(self, seed: Seed | Any) -> None:
        entropy: int | list[int]
        if isinstance(seed, np.random.Generator):
            entropy = [int(word) for word in seed.bit_generator.random_raw(4)]
        else:
            entropy = check_seed(seed)
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def below(self, bound: int, size: int) -> NDArray[np.int64]:
        """Draw `size` integers uniformly from [0, bound).

        The bias of the multiply-and-shift rule is below bound / 2^32.
        """
        high_half = self._bits.random_raw(size) >> np.uint64(32)
        return ((high_half * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)

    def words(self, size: int) -> NDArray[np.uint64]:
        """Draw `size` raw 64-bit words."""
        return self._bits.random_raw(size)

    def permutation(self, size: int) -> NDArray[np.int64]:
        """Draw a uniformly random order of range(size), by sorting raw words."""
        return np.argsort(self.words(size), kind="stable").astype(np.int64)


def check_seed(seed: Any) -> int:
    """Return `seed` as an int of at least 0, or raise.

    Args:
        seed: What the user gave, where a numpy Generator will not do.

    Returns:
        The seed.

    Raises:
        TypeError: If it is no int.
        ValueError: If it is negative.

    Examples:
        >>> check_seed(3)
        3
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"`seed` (={seed!r}) must be an int or a numpy.random.Generator")
    if seed < 0:
        raise ValueError(f"`seed` (={seed}) must be at least 0")
    return int(seed)


def spawn_seeds(seed: Seed, count: int) -> list[int]:
    """Turn one seed into `count` independent ones.

    Args:
        seed: An int >= 0 or a numpy Generator.
        count: How many seeds.

    Returns:
        Ints below 2^64, the same for the same seed.

    Examples:
        >>> spawn_seeds(0, 3) == spawn_seeds(0, 3) != spawn_seeds(1, 3)
        True
    """
    return [int(word) for word in Stream(seed).words(count)]
