"""The space of recipes: what belongs to it, and that steps through it stay valid and reach all of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.rules import Range
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.study.simulated import CONDITIONS, start_table
from pyro_hcvae.study.space import RecipeSpace
from tests.laboratories import tiny_schema, tiny_table


@pytest.fixture
def space() -> RecipeSpace:
    return RecipeSpace(tiny_schema(), {"T": 600.0})


def test_a_recipe_off_the_grid_or_broken_does_not_belong(space: RecipeSpace) -> None:
    recipe = {
        "A": 2.0,
        "B": 0.5,
        "C": 0.0,
        "X": 1.0,
        "Y": 0.0,
        "Z": 0.0,
        "Method": "wet",
        "Red T": 500.0,
        "Red H2": 0.0,
    }
    rows = [recipe, {**recipe, "A": 2.2}, {**recipe, "X": 0.5}, {**recipe, "Method": "none"}, {**recipe, "C": 1.0}]
    assert space.is_feasible(pd.DataFrame(rows)).tolist() == [True, False, False, False, False]


def test_rules_count_also_those_that_only_warn(space: RecipeSpace) -> None:
    rule = Range(name="little A", columns=("A",), maximum=4.0)
    strict = RecipeSpace(space.schema.model_copy(update={"rules": (rule,)}), space.conditions)
    recipes = space.new(tiny_table().frame, tiny_table().frame.iloc[:0])
    assert (recipes["A"] > 4).any()
    assert (strict.is_feasible(recipes) == (recipes["A"] <= 4)).all()


def test_new_recipes_are_rounded_distinct_and_unknown(space: RecipeSpace) -> None:
    frame = tiny_table().frame
    fresh = space.new(pd.concat([frame, frame]), frame.iloc[:30])
    assert space.is_feasible(fresh).all()
    assert not fresh.duplicated().any()
    assert len(fresh) < len(frame)
    assert space.new(fresh, frame).empty


@pytest.mark.parametrize("seed", range(3))
def test_children_are_valid_and_differ_from_their_parents(space: RecipeSpace, seed: int) -> None:
    frame = tiny_table().frame
    rng = np.random.default_rng(seed)
    for children in (space.mutate(frame, 200, rng, like=frame), space.recombine(frame, 200, rng)):
        assert len(children) == 200
        assert (is_valid(children, space.schema)).mean() > 0.9
        assert len(space.new(children, frame)) > 100


def test_recombination_takes_each_block_whole_from_one_row(space: RecipeSpace) -> None:
    frame = tiny_table().frame
    children = space.recombine(frame, 100, np.random.default_rng(0))
    for block in space.schema.blocks:
        names = list(block.names())
        donors = set(frame[names].itertuples(index=False, name=None))
        assert set(children[names].itertuples(index=False, name=None)) <= donors


def test_nothing_is_left_of_recipes_that_are_all_wrong() -> None:
    table = start_table(12, 1, seed=0)
    space = RecipeSpace(table.schema, dict(CONDITIONS))
    assert space.new(table.frame.assign(Ni=-1.0), table.frame).empty


def test_a_block_that_was_never_used_is_left_alone(space: RecipeSpace) -> None:
    bulk = tiny_table().frame.assign(X=0.0, Y=0.0, Z=0.0)
    children = space.mutate(bulk, 100, np.random.default_rng(0), like=bulk)
    assert (children[["X", "Y", "Z"]] == 0).to_numpy().all()


def test_mutations_reach_components_and_codes_that_no_row_has() -> None:
    table = start_table(12, 1, seed=0)
    space = RecipeSpace(table.schema, dict(CONDITIONS))
    unused = [name for name in table.schema.component_columns if not (table.frame[name] > 0).any()]
    assert unused
    children = space.mutate(table.frame, 2000, np.random.default_rng(0), like=table.frame)
    reached = (space.new(children, table.frame)[unused] > 0).any()
    assert reached.mean() > 0.9
    assert children["Preparation"].nunique() == 7


def test_the_simulated_problem_is_neither_trivial_nor_solved_at_the_start() -> None:
    table = start_table(40, 3, seed=0)
    assert len(table) == 120
    assert not ((table.frame[list(CONDITIONS)] == pd.Series(CONDITIONS)).all(axis=1)).any()
    space = RecipeSpace(table.schema, dict(CONDITIONS))
    assert VirtualLab().true_conversion(space.at_conditions(table.frame)).max() < 40
