"""Truth beside prediction: PIT values and probabilities belong to the rows and numbers that they say they do."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae import RecipeDesigner
from pyro_hcvae.analysis.held_out import choice_probabilities, epistemic_scores, number_pits
from tests.laboratories import tiny_table


def test_pits_are_of_numbers_that_exist(designer: RecipeDesigner) -> None:
    held = tiny_table(recipes=30, rows_per_recipe=1, seed=7).frame
    pits = number_pits(designer, held, draws=60, seed=0)
    assert pits["pit"].between(0, 1).all()
    assert set(pits["block"]) == {"metals", "supports", "reduction"}
    assert (pits["draws"] >= 1).all()
    metals = pits[pits["block"] == "metals"]
    assert len(metals) == (held[["A", "B", "C"]] > 0).to_numpy().sum()
    for row in metals.itertuples():
        assert held.loc[row.row, row.column] > 0
    # Large amounts lie high among the draws.
    amount = np.array([held.loc[row.row, row.column] for row in metals.itertuples()])
    assert np.corrcoef(amount, metals["pit"])[0, 1] > 0.5


def test_every_choice_has_a_probability(designer: RecipeDesigner) -> None:
    held = tiny_table(recipes=10, rows_per_recipe=1, seed=7).frame
    said = choice_probabilities(designer, held, draws=20, seed=0)
    assert len(said) == len(held) * (3 + 3 + 2 + 3)
    assert said["probability"].between(0, 1 + 1e-6).all()
    for block in ("method", "reduction"):
        each = said[said["block"] == block].groupby("row")
        np.testing.assert_allclose(each["probability"].sum(), 1, atol=1e-5)
        assert (each["happened"].sum() == 1).all()
    a = said[said["outcome"] == "A"].set_index("row")["happened"]
    assert (a == (held["A"] > 0)).all()


def test_members_disagree_more_about_what_is_far_from_the_table(designer: RecipeDesigner) -> None:
    held = tiny_table(recipes=20, rows_per_recipe=1, seed=7).frame
    near = epistemic_scores(designer, held, draws=20)
    far = epistemic_scores(designer, held.assign(T=1500.0, A=19.0, B=0.0, C=0.0), draws=20)
    assert list(near.index) == list(held.index)
    assert (near >= 0).to_numpy().all()
    assert far["choices for the conditions"].mean() > near["choices for the conditions"].mean()
    assert far["log density"].mean() > near["log density"].mean()


def test_a_single_member_has_nobody_to_disagree_with(designer: RecipeDesigner) -> None:
    assert designer.network.members > 1
    scores = epistemic_scores(designer, designer.table.frame.iloc[:2], draws=4)
    assert scores.shape == (2, 4)
    assert not scores.isna().to_numpy().any()
    assert scores.to_numpy() == pytest.approx(
        epistemic_scores(designer, designer.table.frame.iloc[:2], draws=4).to_numpy()
    )
