"""Splits keep groups whole."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae.data.splits import folds, groups_of, hold_out, in_part
from pyro_hcvae.errors import InputError
from tests.laboratories import tiny_table


@pytest.mark.parametrize("by", ["recipe", "composition", "laboratory"])
def test_no_group_stands_on_both_sides(by) -> None:  # type: ignore[no-untyped-def]
    table = tiny_table()
    groups = groups_of(table, by)
    tested = []
    for train, test in folds(groups, 4, seed=0):
        assert not set(groups[train]) & set(groups[test])
        tested += test.tolist()
    assert sorted(tested) == list(range(len(table)))


def test_row_split_leaks_as_its_name_says() -> None:
    table = tiny_table()
    recipes = table.recipe_ids()
    train, test = next(folds(groups_of(table, "leaking-rows"), 4, seed=0))
    assert set(recipes[train]) & set(recipes[test])


def test_seeds_give_other_folds() -> None:
    groups = np.repeat(np.arange(30), 3)
    first = [next(folds(groups, 5, seed=s))[1].tolist() for s in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(InputError, match="cannot split 1 group"):
        hold_out(np.zeros(10, dtype=np.int64), 0.2, seed=0)
    with pytest.raises(InputError, match="into 5 parts"):
        list(folds(np.arange(3), 5, seed=0))


def test_parts_share_no_row_cover_all_and_cut_no_composition() -> None:
    table = tiny_table()
    development, reserve = in_part(table, "development"), in_part(table, "reserve")
    assert (development ^ reserve).all()
    compositions = table.composition_ids()
    assert not set(compositions[development]) & set(compositions[reserve])
    share = len(set(compositions[development])) / len(set(compositions))
    assert share == pytest.approx(0.4, abs=1 / len(set(compositions)))
    assert in_part(table, "all").all()
    assert (in_part(table, "development") == development).all()  # once and for all
