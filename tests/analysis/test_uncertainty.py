"""Parts of the uncertainty of recipes and conditions: what is split is what the model says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from pyro import poutine

from pyro_hcvae import InputError, RecipeDesigner
from pyro_hcvae.analysis.decomposition import PARTS
from pyro_hcvae.analysis.uncertainty import uncertainty
from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.importance import hide_sites
from pyro_hcvae.posterior.nested import nested_draws
from tests.laboratories import tiny_model, tiny_table


def conditions_of(designer: RecipeDesigner, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**dict.fromkeys(designer.schema.recipe_columns, np.nan))


def test_around_recipes(designer: RecipeDesigner) -> None:
    rows = designer.table.frame.iloc[[0, 3, 6]]
    found = uncertainty(designer, rows, draws=10, repeats=3, seed=1)
    numbers, structures = found.numbers, found.structures
    np.testing.assert_allclose(numbers[list(PARTS)].sum(axis=1), numbers["variance"])
    np.testing.assert_allclose(numbers["sd"] ** 2, numbers["variance"])
    assert list(dict.fromkeys(numbers["recipe"])) == list(rows.index)
    for row in numbers.itertuples():
        assert row.value == pytest.approx(rows.loc[row.recipe, row.column])
        assert row.value > 0  # of the recipe's own structure: what it does not have is not there

    np.testing.assert_allclose(structures[list(PARTS)].sum(axis=1), structures["entropy"], atol=1e-6)
    assert structures["probability"].between(0, 1).all()
    assert len(structures) == len(rows) * (6 + 1 + 1)  # components, code, step
    first = structures[(structures["recipe"] == rows.index[0])].set_index("column")["value"]
    for component in "ABCXYZ":
        assert first[component] == ("present" if rows.iloc[0][component] > 0 else "absent")
    assert first["Method"] == rows.iloc[0]["Method"]

    again = uncertainty(designer, rows, draws=10, repeats=3, seed=1)
    pd.testing.assert_frame_equal(again.numbers, numbers)
    assert not uncertainty(designer, rows, draws=10, repeats=3, seed=2).numbers.equals(numbers)


def test_for_conditions_alone(designer: RecipeDesigner) -> None:
    rows = conditions_of(designer, designer.table.frame.iloc[[0, 5]])
    found = uncertainty(designer, rows, draws=200, repeats=2)
    assert found.numbers["value"].isna().all()
    # What is said of amounts is the mean of what the model draws, absent ones counting as 0.
    drawn = pd.concat(designer.sample(rows, 3000, seed=5)).groupby(level=0, sort=False)
    for column in ("A", "X"):
        mean, expected = (
            found.numbers[found.numbers["column"] == column].set_index("recipe")["mean"], drawn[column].mean(),
        )  # fmt: skip
        np.testing.assert_allclose(mean, expected, atol=0.12 * expected.max() + 0.05)
    present = found.structures[found.structures["column"] == "A"].set_index("recipe")["probability"]
    np.testing.assert_allclose(present, drawn["A"].agg(lambda x: (x > 0).mean()), atol=0.06)
    # A setting counts only among draws that have it, so it lies within its limits.
    reduction = found.numbers[found.numbers["column"] == "Red T"]
    assert reduction["mean"].between(100, 900).all()


def test_what_cannot_be_analysed_is_refused(designer: RecipeDesigner) -> None:
    rows = designer.table.frame.iloc[[0, 3]]
    with pytest.raises(InputError, match="row 3 leaves 'metals' open"):
        uncertainty(designer, rows.assign(A=[rows["A"].iloc[0], np.nan]))
    with pytest.raises(InputError, match="no recipe"):
        uncertainty(designer, rows.iloc[:0])
    with pytest.raises(InputError, match="at least 2"):
        uncertainty(designer, rows, draws=1)


def test_the_number_of_recipes_at_once_changes_no_shape(
    designer: RecipeDesigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = designer.table.frame.iloc[[0, 3, 6]]
    whole = uncertainty(designer, rows, draws=4, repeats=2)
    monkeypatch.setattr("pyro_hcvae.analysis.uncertainty._AT_ONCE", 1)
    parts = uncertainty(designer, rows, draws=4, repeats=2)
    pd.testing.assert_frame_equal(parts.structures[["recipe", "column"]], whole.structures[["recipe", "column"]])


def nested_of_a_tiny_model() -> tuple[HierarchicalCVAE, RecipeBatch]:
    """Two members, and three recipes that are shown to both."""
    model, _, codec = tiny_model(seeds=(0, 1), stir=0.3)
    return model, codec.layout.unpack(codec.encode(tiny_table().frame.iloc[[0, 3, 6]])[None])


def test_nested_draws_are_scored_by_the_unweighted_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shown = nested_of_a_tiny_model()
    monkeypatch.setattr("pyro_hcvae.posterior.nested._CHUNK", 4 * 2 * 3)  # four draws at once, and three at the end
    found = nested_draws(model, shown, 7, 2, seed=3)
    assert found.latents["z_metal"].shape == (7, 2, 3, 3)
    assert found.free["metals.amount"].shape == (7, 2, 2, 3, 3)
    assert (found.own["metals.presence"] == shown.values["metals.presence"]).all()
    batch = shown.expand_members(2)
    for s in range(7):
        latents = {name: x[s] for name, x in found.latents.items()}
        guide, both = (
            poutine.trace(poutine.condition(program, latents)).get_trace(batch)
            for program in (model.guide, model.model)
        )
        scores = {}
        for trace in (guide, both):
            trace.compute_log_prob()
            scores[trace is guide] = {
                name: node["log_prob"]
                for name, node in trace.nodes.items()
                if node["type"] == "sample" and not poutine.util.site_is_subsample(node)
            }
        torch.testing.assert_close(
            found.log_weight[s], sum(scores[False].values()) - sum(scores[True].values()), rtol=1e-4, atol=1e-3
        )
        for name, nats in found.log_likelihood.items():
            torch.testing.assert_close(nats[s], scores[False][name], rtol=1e-4, atol=1e-3)


def test_probabilities_are_those_with_which_structures_are_drawn() -> None:
    model, shown = nested_of_a_tiny_model()
    drawn = nested_draws(model, hide_sites(shown, shown.values), 3000, 1, seed=4)
    assert set(drawn.probabilities) == {next(iter(sites.of_block(block))) for block in model.schema.blocks}
    for site, p in drawn.probabilities.items():
        events = drawn.free[site]
        if events.dim() < p.dim():
            events = torch.nn.functional.one_hot(events.long(), p.shape[-1])
        assert (events.double().mean((0, 1)) - p.double().mean((0, 1))).abs().max() < 0.04, site
    assert not drawn.own
    with pytest.raises(ValueError, match="nothing to weigh"):
        _ = drawn.log_weight
