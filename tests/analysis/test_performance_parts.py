"""Parts of the performance: noise comes out as noise, and tables drawn anew differ most where there are few rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import InputError, RecipeDesigner, TrainConfig
from pyro_hcvae.analysis.decomposition import PARTS
from pyro_hcvae.analysis.performance_parts import Refits, performance_parts, performance_uncertainty
from tests.laboratories import SMALL, tiny_table


@pytest.fixture(scope="module")
def refits(designer: RecipeDesigner) -> Refits:
    table = designer.table
    return Refits.fit(designer.predictor, table, table.recipe_ids(), 4, seed=0)


def test_a_given_recipe_has_noise_and_epistemic_parts(designer: RecipeDesigner, refits: Refits) -> None:
    rows = designer.table.frame.iloc[[0, 3, 6]]
    found = performance_uncertainty(designer, rows, refits)
    assert list(found["recipe"]) == list(rows.index)
    assert (found["value"] == rows["Yield"].to_numpy()).all()
    assert (found["column"] == "Yield").all()
    assert (found["latent"] == 0).all()
    assert (found["epistemic"] > 0).all()
    np.testing.assert_allclose(found[list(PARTS)].sum(axis=1), found["variance"])
    # Together they are the errors that intervals are made of, within the bounds of the performance.
    said, errors = predicted(designer, rows), designer.predictor.errors
    for loc, scale, variance in zip(said["mean"], said["scale"], found["variance"], strict=True):
        measured = (loc + scale * errors.errors).clip(0, 100)
        true = errors.masses @ (measured - errors.masses @ measured) ** 2
        assert variance == pytest.approx(true, rel=0.05)


def predicted(designer: RecipeDesigner, rows: pd.DataFrame) -> pd.DataFrame:
    columns = list(designer.schema.recipe_columns), list(designer.schema.condition_columns)
    return designer.predictor.predict(rows[columns[0]], rows[columns[1]])


def test_for_conditions_the_draws_of_the_generator_are_a_part(designer: RecipeDesigner, refits: Refits) -> None:
    rows = designer.table.frame.iloc[[0, 30]].assign(**dict.fromkeys(designer.schema.recipe_columns, np.nan))
    found = performance_uncertainty(designer, rows, refits, draws=60, seed=1)
    mean = predicted(designer, pd.concat(designer.sample(rows, 60, seed=1)))["mean"].to_numpy().reshape(2, 60)
    np.testing.assert_allclose(found["latent"], mean.var(axis=1, ddof=1), rtol=0.2)  # but for the bounds
    np.testing.assert_allclose(found[list(PARTS)].sum(axis=1), found["variance"])
    with pytest.raises(InputError, match="at least 2 draws"):
        performance_uncertainty(designer, rows, refits, draws=1)


def test_refits_differ_more_where_less_was_measured(designer: RecipeDesigner) -> None:
    """One metal was measured in two recipes only, which a table drawn anew may lack."""
    frame = designer.table.frame
    ids = designer.table.recipe_ids()
    few = np.isin(ids, np.unique(ids[frame["A"] > 0])[:2])
    sparse = designer.table.select(np.flatnonzero((frame["A"] == 0) | few))
    found = Refits.fit(designer.predictor, sparse, sparse.recipe_ids(), 8, seed=0)
    variance = pd.Series(found.variance(frame), index=frame.index)
    assert variance[frame["A"] > 0].mean() > variance[frame["A"] == 0].mean()
    assert found.predict(frame).shape == (8, len(frame))
    again = Refits.fit(designer.predictor, sparse, sparse.recipe_ids(), 8, seed=0)
    np.testing.assert_array_equal(again.variance(frame), variance)


def test_parts_never_exceed_the_errors(designer: RecipeDesigner, refits: Refits) -> None:
    found = performance_parts(refits, designer.table.frame)
    assert (found["aleatoric"] >= 0).all()
    assert found["mean"].between(0, 100).all()


def test_one_refit_is_too_few(designer: RecipeDesigner) -> None:
    table = designer.table
    with pytest.raises(InputError, match="at least 2 refits"):
        Refits.fit(designer.predictor, table, table.recipe_ids(), 1)


def test_intervals_reckon_with_what_is_said_to_be_new() -> None:
    table = tiny_table(recipes=24)
    train = TrainConfig(members=1, steps=2, batch_size=8, compile="never")
    one = RecipeDesigner(table.schema, model=SMALL, train=train).fit(table)
    before = one.predictor
    assert one.reckon_with("recipe").predictor is before
    r2 = one.reckon_with("laboratory").predictor.r2
    assert r2 != before.r2
    assert one.reckon_with("recipe").predictor.r2 == before.r2
    rows = table.frame.head(2)
    few = Refits.fit(before, table, table.recipe_ids(), 2)
    one.reckon_with("laboratory")
    again = Refits.fit(one.predictor, table, table.recipe_ids(), 2)
    pd.testing.assert_frame_equal(performance_uncertainty(one, rows, few), performance_uncertainty(one, rows, again))
    with pytest.raises(InputError, match="recipe, composition or laboratory"):
        one.reckon_with("planet")  # type: ignore[arg-type]
