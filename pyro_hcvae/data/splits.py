"""Splits of a table. A group (recipe, composition, laboratory) is never cut in two, except where a name says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError

Grouping = Literal["recipe", "composition", "laboratory", "leaking-rows"]
Part = Literal["all", "development", "reserve"]
Positions = NDArray[np.int64]
_DEVELOPMENT, _PART_SEED = 0.4, 20261120


def groups_of(table: RecipeTable, by: Grouping) -> Positions:
    """Group number of each row, shape ``(rows,)``.

    ``leaking-rows`` gives every row a group of its own: rows of one recipe then stand on both sides of a split. It exists for
    comparison with published figures only.
    """
    match by:
        case "recipe":
            return table.recipe_ids()
        case "composition":
            return table.composition_ids()
        case "laboratory":
            return table.laboratory_ids()
        case "leaking-rows":
            return np.arange(len(table), dtype=np.int64)


def folds(groups: Positions, count: int, *, seed: int) -> Iterator[tuple[Positions, Positions]]:
    """Positions of training and test rows of each fold.

    Args:
        groups: Group of each row, shape ``(rows,)``.
        count: Number of folds.
        seed: Fixes which groups stand together.

    Raises:
        InputError: If there are fewer groups than folds.
    """
    _require(groups, count)
    if len(np.unique(groups)) == len(groups):
        yield from KFold(count, shuffle=True, random_state=seed).split(groups)
    else:
        yield from GroupKFold(count, shuffle=True, random_state=seed).split(groups, groups=groups)


def hold_out(groups: Positions, fraction: float, *, seed: int) -> tuple[Positions, Positions]:
    """Positions of kept rows and of held-out rows: about ``fraction`` of the groups.

    Raises:
        InputError: If there are fewer than two groups.
    """
    _require(groups, 2)
    splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    kept, held = next(splitter.split(groups, groups=groups))
    return kept.astype(np.int64), held.astype(np.int64)


def in_part(table: RecipeTable, part: Part) -> NDArray[np.bool_]:
    """Which rows may be scored, shape ``(rows,)``.

    Settings are chosen by scores on the ``development`` part, 40 % of the compositions, and reported on the ``reserve``, which
    no choice has seen. Both are always trained on, but for the fold that is held out.

    Raises:
        InputError: If there are fewer than two compositions to part.
    """
    if part == "all":
        return np.ones(len(table), dtype=bool)
    _, development = hold_out(table.composition_ids(), _DEVELOPMENT, seed=_PART_SEED)
    mask = np.zeros(len(table), dtype=bool)
    mask[development] = True
    return mask if part == "development" else ~mask


def _require(groups: Positions, count: int) -> None:
    if (found := len(np.unique(groups))) < count:
        raise InputError(f"cannot split {found} group(s) of rows into {count} parts: the table holds too few of them")
