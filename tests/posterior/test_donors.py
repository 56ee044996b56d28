"""Recipes of the table lend their structure, those of like conditions above all; the numbers are the model's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from pyro import poutine

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.features import indicators
from pyro_hcvae.posterior import predictive
from pyro_hcvae.posterior.donors import LeafDonors, StructureDonors, which_borrow
from pyro_hcvae.posterior.predictive import draw_numbers, drawing_scope, structure_only
from tests.inference.test_rule_weights import RULE
from tests.laboratories import SMALL, TINY_TOML, tiny_codec, tiny_frame, tiny_model, tiny_table


def test_donors_come_from_the_leaf_of_the_tree() -> None:
    donors = LeafDonors(np.array([[1, 2], [1, 3], [2, 2]]))
    rng = np.random.default_rng(0)
    drawn = donors.draw(np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1]), rng, size=200)
    assert [set(row) for row in drawn] == [{0, 1}, {2}, {0, 2}, {1}]


def test_donors_of_a_leaf_are_drawn_as_often_as_they_count() -> None:
    donors = LeafDonors(np.array([[1, 2], [1, 3], [2, 2]]), np.array([1.0, 3.0, 100.0]))
    drawn = donors.draw(np.array([1, 2]), np.array([0, 1]), np.random.default_rng(0), size=4000)
    assert (drawn[0] == 1).mean() == pytest.approx(3 / 4, abs=0.03)
    assert set(drawn[0]) == {0, 1}
    assert (drawn[1] == 2).mean() == pytest.approx(100 / 101, abs=0.01)
    assert set(drawn[1]) == {0, 2}


def test_recipes_of_like_conditions_lend_and_conditions_stay() -> None:
    """Component A is only there above 600 degC in this table."""
    table = tiny_table(60)
    frame = table.frame.copy()
    hot = frame["T"].to_numpy() >= 600
    frame = frame[(frame["A"] > 0).to_numpy() == hot]
    codec = RecipeCodec.fit(table.schema, frame)
    donors = StructureDonors(codec, frame, np.ones(len(frame)))
    asked = codec.encode(frame).repeat(20, 1)
    lent = donors.lend(asked, np.random.default_rng(0))
    width = codec.layout.condition_features
    assert torch.equal(lent[:, :width], asked[:, :width])
    recipes = codec.decode(lent)
    assert {tuple(row) for row in indicators(table.schema, recipes)} <= {
        tuple(row) for row in indicators(table.schema, frame)
    }
    above = np.tile(frame["T"].to_numpy(), 20)
    with_a = (recipes["A"] > 0).to_numpy()
    assert with_a[above >= 700].mean() > 0.95
    assert with_a[above < 550].mean() < 0.05
    # Not always the own recipe: others lend, too.
    assert not torch.equal(lent[:, width:].nan_to_num(), asked[:, width:].nan_to_num())
    again = donors.lend(asked, np.random.default_rng(0))
    assert torch.equal(again.nan_to_num(), lent.nan_to_num())


def test_what_counts_little_or_is_known_in_part_lends_little_or_nothing() -> None:
    table = tiny_table(30)
    frame = table.frame.reset_index(drop=True)
    heavy = frame["A"] > 0
    codec = RecipeCodec.fit(table.schema, frame)
    asked = codec.encode(frame).repeat(10, 1)
    usual, rare = (
        (codec.decode(StructureDonors(codec, frame, w).lend(asked, np.random.default_rng(0)))["A"] > 0).mean()
        for w in (np.ones(len(frame)), np.where(heavy, 1e-3, 1.0))
    )
    assert rare < 0.1 * usual
    partial = frame.assign(A=frame["A"].where(~heavy, np.nan))
    lent = StructureDonors(codec, partial, np.ones(len(frame))).lend(asked, np.random.default_rng(0))
    assert not (codec.decode(lent)["A"] > 0).any()
    with pytest.raises(InputError, match="known in whole"):
        StructureDonors(codec, frame.assign(A=np.nan), np.ones(len(frame)))


def test_numbers_of_a_given_structure_are_those_of_its_posterior() -> None:
    """Latents are not those of the prior, but those that make the structure likely."""
    model, _, codec = tiny_model(seeds=(0,), stir=0.3)
    _, packed = tiny_codec()
    layout = codec.layout
    row = packed[:1]
    drawn = draw_numbers(model, layout, row.repeat(4000, 1), seed=0, tries=64)
    batch = structure_only(model, layout.unpack(row[None]))
    given = {name: value.flatten() for name, value in batch.values.items()}
    for name, value in given.items():
        assert (drawn[:, layout.slices[name]] == value).all(), name
    # By brute force: many latents of the prior, weighed by the probability of the structure.
    with drawing_scope(1):
        trace = poutine.trace(model.model).get_trace(batch.repeat_rows(60_000))
        trace.compute_log_prob(lambda name, site: name in given)
        log_weight = sum(trace.nodes[name]["log_prob"] for name in given)
    weight = torch.softmax(log_weight.flatten(), 0)
    prior = torch.full_like(weight, 1 / len(weight))
    apart = []
    for name in set(layout.slices) - set(given):
        numbers = trace.nodes[name]["value"].flatten(0, 1)
        expected, unweighted = weight @ numbers, prior @ numbers
        spread = numbers.std(dim=0)
        there = spread > 1e-6
        if not there.any():  # e.g. the share of a single support
            continue
        error = (drawn[:, layout.slices[name]].mean(dim=0) - expected)[there] / spread[there]
        assert error.abs().max() < 0.1, name
        apart.append(((expected - unweighted)[there] / spread[there]).abs().max())
    assert max(apart) > 0.2  # the prior's would have been others


def test_each_row_keeps_its_own_structure_and_conditions() -> None:
    model, _, codec = tiny_model(seeds=(0, 1), stir=0.3)
    _, packed = tiny_codec()
    layout, rows = codec.layout, packed[:41]  # no multiple of the members
    drawn = draw_numbers(model, layout, rows, seed=0)
    assert drawn.shape == rows.shape
    conditions = layout.condition_features
    assert torch.equal(drawn[:, :conditions], rows[:, :conditions])
    for name in structure_only(model, layout.unpack(rows[None])).values:
        assert torch.equal(drawn[:, layout.slices[name]], rows[:, layout.slices[name]]), name


@pytest.fixture(scope="module")
def designer() -> RecipeDesigner:
    table = tiny_table()
    return RecipeDesigner(table.schema, model=SMALL, train=TrainConfig(members=2, steps=20, batch_size=16)).fit(table)


def test_a_share_of_the_draws_borrows_and_the_others_are_as_without(designer: RecipeDesigner) -> None:
    asked, columns = designer.table.frame.iloc[:30], list(designer.schema.recipe_columns)
    known = {tuple(row) for row in indicators(designer.schema, designer.table.frame)}
    plain, half, all_of_them = (
        pd.concat(designer.sample(asked, 20, borrowed=share, seed=5)) for share in (0.0, 0.5, 1.0)
    )
    same = (plain[columns].to_numpy() == half[columns].to_numpy()).all(axis=1)
    borrowed = np.array([tuple(row) in known for row in indicators(designer.schema, half)])
    assert 0.4 < same.mean() < 0.6
    assert borrowed[~same].all()
    assert not borrowed[same].all()  # this model has ideas of its own
    assert all(tuple(row) in known for row in indicators(designer.schema, all_of_them))
    # Their numbers are not the donors'.
    raw = pd.concat(designer.sample(asked, 20, borrowed=1.0, as_drawn=True, seed=5))[columns].round(6)
    table = designer.table.frame[columns].round(6).drop_duplicates()
    assert len(raw.merge(table, how="inner")) < 0.1 * len(raw)
    pd.testing.assert_frame_equal(half, pd.concat(designer.sample(asked, 20, borrowed=0.5, seed=5)))
    pd.testing.assert_frame_equal(plain[asked.columns.drop(columns)], half[asked.columns.drop(columns)])
    assert not half.equals(pd.concat(designer.sample(asked, 20, borrowed=0.5, seed=6)))


def test_as_many_of_guided_draws_borrow(designer: RecipeDesigner) -> None:
    asked = designer.table.frame.iloc[:30]
    known = {tuple(row) for row in indicators(designer.schema, designer.table.frame)}

    def new(**options: Any) -> float:
        drawn = pd.concat(designer.sample(asked, 20, seed=5, **options))
        return float(np.mean([tuple(row) not in known for row in indicators(designer.schema, drawn)]))

    assert new(borrowed=1.0, guidance=4) == 0.0
    assert new(borrowed=0.5, guidance=4) == pytest.approx(0.5 * new(guidance=4), abs=0.05)


def test_chunks_change_nothing_about_who_borrows(designer: RecipeDesigner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The designer has two members: chunks of twenty draws part the threes among which guidance chooses."""
    monkeypatch.setattr(predictive, "CHUNK_ROWS", 20)
    monkeypatch.setattr("pyro_hcvae.designer._GUIDED_DRAWS", 120)
    asked, columns = designer.table.frame.iloc[:12], list(designer.schema.recipe_columns)
    known = {tuple(row) for row in indicators(designer.schema, designer.table.frame)}

    plain, half = (pd.concat(designer.sample(asked, 20, seed=5, borrowed=share))[columns] for share in (0.0, 0.5))
    differs = (plain.to_numpy() != half.to_numpy()).any(axis=1)
    expected = which_borrow(0.5, 0, len(half), seed=5)
    assert not differs[~expected].any()
    assert differs[expected].mean() > 0.95
    # What guidance is told is what was done, in blocks of two rows.
    seen: list[tuple[NDArray[Any], NDArray[np.bool_]]] = []

    def note(draws: pd.DataFrame, *_: object, kinds: NDArray[np.bool_], **__: object) -> pd.DataFrame:
        seen.append((indicators(designer.schema, draws), kinds))
        return draws

    monkeypatch.setattr("pyro_hcvae.designer.guided", note)
    list(designer.sample(asked, 20, seed=5, guidance=3, borrowed=0.5))
    assert len(seen) == 6
    for structures, kinds in seen:
        assert (kinds.reshape(-1, 3) == kinds[::3, None]).all()
        assert all(tuple(row) in known for row in structures[kinds])
        assert not all(tuple(row) in known for row in structures[~kinds])
    assert any((a != b).any() for (_, a), (_, b) in itertools.pairwise(seen))


def test_which_draws_borrow_does_not_depend_on_chunks() -> None:
    whole = which_borrow(0.3, 0, 5000, seed=7)
    assert whole.mean() == pytest.approx(0.3, abs=0.03)
    parts = [which_borrow(0.3, start, stop, seed=7) for start, stop in ((0, 1), (1, 2046), (2046, 5000))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (which_borrow(0.3, 0, 5000, seed=8) != whole).any()
    assert not which_borrow(0.0, 0, 100, seed=7).any()
    assert which_borrow(1.0, 0, 100, seed=7).all()


def test_recipes_that_break_rules_lend_as_seldom_as_they_are_learned_from() -> None:
    schema = RecipeSchema.from_toml(TINY_TOML + RULE.format("false"))
    table = RecipeTable.from_frame(tiny_frame(), schema, source="tiny")
    shares = []
    for weight in (1.0, 0.01):
        train = TrainConfig(members=1, steps=2, batch_size=16, refit=False, broken_rule_weight=weight)
        fitted = RecipeDesigner(schema, model=SMALL, train=train).fit(table)
        shares.append((pd.concat(fitted.sample(table.frame, 5, borrowed=1.0))["A"] > 0).mean())
    assert shares[1] < 0.1 * shares[0]


def test_few_draws_may_borrow_nothing(designer: RecipeDesigner) -> None:
    for seed in range(6):
        assert len(next(designer.sample(designer.table.frame.iloc[:1], borrowed=0.5, seed=seed))) == 1


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_no_share_is_refused(designer: RecipeDesigner, share: float) -> None:
    with pytest.raises(InputError, match="share from 0 to 1"):
        next(designer.sample(designer.table.frame.iloc[:1], borrowed=share))
