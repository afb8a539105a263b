"""What is trained: one recipe, changed in kind, compression, block and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from xnets._errors import UserError, asked_by_user
from xnets._suggest import unknown_name
from xnets.graphs import check_block_sides, list_families
from xnets.train import Recipe

DENSE = "dense"
EXPANDER = "expander"
# Their graphs are complete within each group: a block of edges changes nothing.
WITHOUT_BLOCK = (DENSE, "grouped")
SINGLE = (1, 1)
_IRRELEVANT = {"threads"}  # does not decide what is computed


@dataclass(frozen=True)
class Trial:
    """One network to train.

    Args:
        kind: "dense", "expander", or a family of graphs.
        recipe: All that decides the training.
        data: Where the data is, if not in the usual place; another place may hold other data.
    """

    kind: str
    recipe: Recipe
    data: str | None = None

    @property
    def name(self) -> str:
        """What it is, and a digest of its whole configuration: the name of its folder.

        Examples:
            >>> from xnets.train import get_recipe
            >>> [trial] = list_trials(get_recipe("digits"), ["dense"], [4], seeds=1)
            >>> trial.name.rpartition("-")[0]
            'dense-seed-0'
        """
        return f"{self.label.replace(' ', '-')}-seed-{self.recipe.seed}-{self._digest()}"

    @property
    def label(self) -> str:
        """What it is, but for the seed, in words."""
        return label_of(self.kind, self.compression, self.block)

    @property
    def compression(self) -> float:
        """How many times fewer edges in each thinned layer; 1 if dense."""
        return self.recipe.compression or 1.0

    @property
    def block(self) -> tuple[int, int]:
        """The block of its graphs."""
        return self.recipe.block

    def _digest(self) -> str:
        # Fields that have their default are left out: so a new version of the library, with new
        # fields, still knows the trials of an older one.
        defaults = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
        values = {
            name: value
            for name, value in self.recipe.to_dict().items()
            if name not in _IRRELEVANT and (name not in defaults or value != defaults[name])
        }
        text = json.dumps([values, self.data], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def label_of(kind: str, compression: float, block: tuple[int, int]) -> str:
    """Say in words what a network is.

    Examples:
        >>> label_of("dense", 1, (1, 1)), label_of("expander", 8, (4, 1))
        ('dense', 'expander 8 block 4x1')
    """
    if kind == DENSE:
        return kind
    words = f"{kind} {compression:g}"
    return words if block == SINGLE else f"{words} block {block[0]}x{block[1]}"


def list_kinds() -> list[str]:
    """The kinds of networks that can be compared.

    Returns:
        "dense", "expander", which is the paper's family "random", and every other family.

    Examples:
        >>> list_kinds()[:4]
        ['dense', 'expander', 'random', 'biregular']
    """
    return [DENSE, EXPANDER, *list_families()]


def list_trials(
    recipe: Recipe,
    kinds: Sequence[str],
    compressions: Sequence[float],
    *,
    blocks: Sequence[tuple[int, int]] = (SINGLE,),
    seeds: int = 3,
    data: str | None = None,
) -> list[Trial]:
    """List the networks of a comparison, all of the first seed before any of the second.

    Args:
        recipe: What is changed in kind, compression, block and seed, and in nothing else. Its seed
            is the first.
        kinds: Which of `list_kinds()`. A dense network is one trial a seed; a grouped one has no
            block.
        compressions: How many times fewer edges.
        blocks: (b_out, b_in) of the graphs.
        seeds: How many.
        data: As in `Trial`.

    Returns:
        The trials, without repetition.

    Raises:
        ValueError: If a kind is unknown, or a number out of range.

    Examples:
        >>> from xnets.train import get_recipe
        >>> trials = list_trials(get_recipe("digits"), ["dense", "expander"], [2, 4], seeds=2)
        >>> [trial.label for trial in trials]
        ['dense', 'expander 2', 'expander 4', 'dense', 'expander 2', 'expander 4']
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise UserError(f"`seeds` (={seeds}) must be an integer of at least 1")
    for name, values in (("kinds", kinds), ("compressions", compressions), ("blocks", blocks)):
        if not values:
            raise UserError(f"`{name}` must name at least one")
    for kind in kinds:
        if kind not in list_kinds():
            raise UserError(unknown_name("kind", kind, list_kinds()))
    for compression in compressions:
        if not compression > 1:
            raise UserError(
                f"`compression` (={compression:g}) must be above 1; the dense network is a kind"
            )
    with asked_by_user():
        for block in blocks:
            check_block_sides(block)
    trials: dict[str, Trial] = {}
    for seed in range(recipe.seed, recipe.seed + seeds):
        for kind in kinds:
            for block in (SINGLE,) if kind in WITHOUT_BLOCK else blocks:
                for compression in (1,) if kind == DENSE else compressions:
                    changed: dict[str, Any] = {
                        "compression": compression,
                        "block": tuple(block),
                        "seed": seed,
                    }
                    if kind != DENSE:
                        changed["family"] = "random" if kind == EXPANDER else kind
                    with asked_by_user():
                        trial = Trial(kind, replace(recipe, **changed), data)
                    trials.setdefault(trial.name, trial)
    return list(trials.values())
