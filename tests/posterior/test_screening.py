"""`Screen`: its pieces are pure functions of their number, and what they keep may be proposed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.posterior.screening import Screen
from tests.laboratories import SMALL, tiny_table

PREDICTED, PROBABILITY = "proposal: predicted Yield [%]", "proposal: probability to reach the target"


@pytest.fixture(scope="module")
def designer() -> RecipeDesigner:
    train = TrainConfig(members=2, steps=60, batch_size=16, compile="never")
    return RecipeDesigner("drm", model=SMALL, train=train).fit(tiny_table(), device="cpu")


def small(designer: RecipeDesigner, n: int = 700, **more: Any) -> Screen:
    return replace(designer.screen({"T": 700}, 80, n, **more), piece_draws=300)


def test_pieces_are_pure_and_cover_all_draws(designer: RecipeDesigner) -> None:
    screen = small(designer)
    assert screen.pieces == 3
    done = [screen.piece(number) for number in range(3)]
    assert [piece.drawn for piece in done] == [300, 300, 100]
    again = small(designer).piece(1)
    pd.testing.assert_frame_equal(again.frame, done[1].frame)
    assert not done[0].frame.head(50).equals(done[1].frame.head(50))
    assert not small(designer, seed=1).piece(0).frame.head(50).equals(done[0].frame.head(50))
    for piece in done:
        assert piece.drawn >= piece.valid >= piece.novel >= piece.allowed >= len(piece.frame) > 0


def test_what_is_kept_is_new_valid_rounded_distinct_and_judged(designer: RecipeDesigner) -> None:
    schema = designer.schema
    columns = list(schema.recipe_columns)
    pending = small(designer).piece(0).frame[columns].head(5)
    frame = small(designer, pending=pending).piece(0).frame
    recipes = frame[columns]
    assert is_valid(recipes, schema).all()
    pd.testing.assert_frame_equal(round_to_grid(recipes, schema), recipes)
    hashes = row_hashes(recipes, columns)
    assert len(np.unique(hashes)) == len(hashes)
    assert not np.isin(hashes, row_hashes(designer.table.frame, columns)).any()
    assert not np.isin(hashes, row_hashes(pending, columns)).any()
    assert frame["T"].eq(700).all()
    assert frame["Yield"].isna().all()
    at = frame[list(schema.condition_columns)]
    predicted = designer.predictor.predict(recipes, at)
    np.testing.assert_allclose(frame[PREDICTED], predicted["mean"], atol=0.005)
    met = designer.predictor.probability_of(predicted, 80)
    np.testing.assert_allclose(frame[PROBABILITY], met, atol=0.0005)


def test_constraints_and_the_least_probability_hold(designer: RecipeDesigner) -> None:
    everything = small(designer).piece(0).frame
    assert everything["B"].gt(0).any()
    assert everything["Method"].eq("dry").any()
    texts = ["exclude B", "A 2..8", "Method = wet"]
    frame = small(designer, constraints=texts).piece(0).frame
    assert len(frame) > 20
    assert frame["B"].eq(0).all()
    assert frame.loc[frame["A"] > 0, "A"].between(2, 8).all()
    assert frame["Method"].eq("wet").all()
    least = float(frame[PROBABILITY].median())
    likely = small(designer, constraints=texts, least_probability=least).piece(0).frame
    assert 0 < len(likely) < len(frame)
    assert likely[PROBABILITY].min() >= least - 0.0005  # as rounded in the file


def test_a_piece_of_which_nothing_is_allowed_is_empty(designer: RecipeDesigner) -> None:
    whole = small(designer).piece(0)
    piece = small(designer, constraints=["novelty >= 500"]).piece(0)
    assert piece.drawn == whole.drawn
    assert piece.allowed == 0
    assert list(piece.frame.columns) == list(whole.frame.columns)
    assert piece.frame.empty


def test_settings_tell_screenings_apart(designer: RecipeDesigner) -> None:
    same = small(designer).settings()
    assert small(designer).settings() == same
    for other in (
        small(designer, n=701),
        small(designer, seed=1),
        small(designer, constraints=["exclude B"]),
        small(designer, allow_known=True),
        small(designer, within=5),
        replace(small(designer), piece_draws=200),
    ):
        assert other.settings() != same


def test_requests_that_make_no_sense(designer: RecipeDesigner) -> None:
    with pytest.raises(InputError, match="draws must be at least 1"):
        small(designer, n=0)
    with pytest.raises(InputError, match="'same Red T' is about a short list.*'Red T = "):
        small(designer, constraints=["same Red T"])
    with pytest.raises(InputError, match="within must be above 0"):
        small(designer, within=0)
    with pytest.raises(InputError, match="least probability"):
        small(designer, least_probability=1)
    with pytest.raises(InputError, match="exclude A"):
        small(designer, constraints=["exclude A", "require A"])
