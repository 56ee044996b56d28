"""Completions: given cells are kept, open ones follow the model's own conditional distribution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid, structural_problems
from pyro_hcvae.data.written import Recurring, WrittenValues
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.partial import Completion, complete_rows
from pyro_hcvae.posterior.predictive import draw_recipes
from tests.laboratories import tiny_codec, tiny_model, tiny_schema, tiny_table


def partial(**cells: object) -> RecipeTable:
    frame = pd.DataFrame([{"T": 600.0, "Yield": 50.0, **cells}])
    return RecipeTable.from_frame(frame, tiny_schema(), source="partial.csv", purpose="partial")


def rounded_only(codec: RecipeCodec) -> WrittenValues:
    """Open cells on the grid; no value draws others to itself."""
    table = tiny_table()
    return WrittenValues.fit(codec, table.frame, table.recipe_ids(), noise=1e-9)


def complete(table: RecipeTable, n: int = 400, proposals: int = 4000, seed: int = 0) -> Completion:
    model, _, codec = tiny_model(stir=0.12)
    return next(complete_rows(model, codec, table, n, proposals=proposals, seed=seed, written=rounded_only(codec)))


def prior_draws(count: int = 30_000) -> pd.DataFrame:
    model, _, codec = tiny_model(stir=0.12)
    frame = pd.DataFrame([{"T": 600.0, "Yield": 50.0}])
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, codec.encode(frame), count, seed=9)])
    frame = codec.decode(drawn)
    return frame[is_valid(frame, tiny_schema())]


@pytest.mark.parametrize(
    "given",
    [
        {"A": 0.0},
        {"A": 0.0, "B": 0.0},
        {"Method": "dry"},
        {"Red T": 0.0},
        {"Red H2": 0.0},
        {"X": 0.0, "Method": "wet"},
        {"A": 0.0, "B": 0.0, "C": 0.0, "Red T": 0.0},
    ],
)
def test_completions_agree_with_rejection_from_the_prior(given: dict[str, object]) -> None:
    """With only structures given, rejection sampling is exact: keep the prior draws that agree."""
    kept = prior_draws()
    for name, value in given.items():
        kept = kept[kept[name] == value]
    assert len(kept) > 300
    # The guide of this model is not trained: many weighted draws make up for it.
    done = complete(partial(**given), n=3000, proposals=100_000)
    for name, value in given.items():
        assert (done.frame[name] == value).all()
    for column in "ABCXYZ":
        expected, found = (kept[column] > 0).mean(), (done.frame[column] > 0).mean()
        assert found == pytest.approx(expected, abs=0.07), column
    assert (done.frame["Method"] == "wet").mean() == pytest.approx((kept["Method"] == "wet").mean(), abs=0.07)
    assert (done.frame["Red T"] > 0).mean() == pytest.approx((kept["Red T"] > 0).mean(), abs=0.07)
    assert done.effective > 200


def test_a_given_amount_moves_what_is_open_as_rejection_says() -> None:
    prior = prior_draws()
    near = prior[(prior["A"] > 1.8) & (prior["A"] < 2.2)]
    done = complete(partial(A=2.0), n=3000, proposals=60_000).frame
    assert (done["A"] == 2.0).all()
    assert (done["B"] > 0).mean() == pytest.approx((near["B"] > 0).mean(), abs=0.08)


def test_open_numbers_stand_at_usual_values_and_given_ones_as_given() -> None:
    model, _, codec = tiny_model(stir=0.12)
    none = Recurring(np.empty(0), np.empty(0))
    to = WrittenValues(
        codec,
        {"metals": Recurring(np.array([5.0]), np.ones(1)), "supports": none, "Red T": none, "Red H2": none},
        noise=25.0,
    )
    done = next(complete_rows(model, codec, partial(A=4.2), 200, proposals=2000, seed=0, written=to)).frame
    assert (done["A"] == 4.2).all()
    assert set(done["B"]) | set(done["C"]) == {0.0, 5.0}
    # Given 15.2, nothing but 4.8 is left: the usual 5 does not fit, and what is open stands on the grid.
    done = next(complete_rows(model, codec, partial(A=15.2), 200, proposals=20_000, seed=0, written=to)).frame
    others = done[["B", "C"]].to_numpy()
    assert 0 < others.max() <= 4.5
    assert np.allclose(others % 0.5, 0)


def test_a_guide_that_is_too_narrow_loses_few_draws() -> None:
    """Half of the draws come from the prior: with the guide's own, the effective size would hang on a few of them."""
    model, _, codec = tiny_model((0,), stir=0.12)
    with torch.no_grad():
        for part in model.stages:
            part.latent.residual_network.head.bias[..., part.latent.size :] -= 2.5  # its standard deviations
    table = partial(**{"A": 0.0, "B": 0.0, "C": 2.0})
    done = next(complete_rows(model, codec, table, 3000, proposals=20_000, seed=0, written=rounded_only(codec)))
    assert done.effective > 5000
    plain, _, _ = tiny_model((0,), stir=0.12)
    expected = next(complete_rows(plain, codec, table, 3000, proposals=20_000, seed=1, written=rounded_only(codec)))
    for column in "XYZ":
        assert (done.frame[column] > 0).mean() == pytest.approx((expected.frame[column] > 0).mean(), abs=0.05)


def linked_model() -> tuple[HierarchicalCVAE, RecipeCodec]:
    """Every amount stands on one of two narrow levels, and says much to the one after it."""
    model, _, codec = tiny_model(stir=0.12)
    head = next(next(model.stages).blocks).numbers_head
    levels = torch.tensor([-1.0, 1.0]).expand(3, 2)
    head.start_at(Levels(torch.zeros(3, 2), levels, torch.zeros(3, 2)))
    with torch.no_grad():
        head.chain.levels.weight *= 2.0
        head.head.weight *= 2.0
    return model, codec


def high(codec: RecipeCodec, frame: pd.DataFrame, name: str) -> pd.Series:
    """Whether an amount stands on the upper of its levels."""
    amount = frame[name]
    return (amount > 0) & (amount > np.exp(codec.scalers[name].loc))


@pytest.mark.parametrize("upper", [False, True])
def test_an_open_amount_before_a_known_one_follows_the_joint(upper: bool) -> None:
    """Amounts are drawn A, B, C: given B, an open A is known by what B owes to it. Rejection: prior draws with B on its level."""
    model, codec = linked_model()
    condition = codec.encode(pd.DataFrame([{"T": 600.0, "Yield": 50.0}]))
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, condition, 30_000, seed=9)])
    prior = codec.decode(drawn)
    prior = prior[is_valid(prior, tiny_schema()) & (prior["B"] > 0)]
    on_level = high(codec, prior, "B") == upper
    kept = prior[on_level]
    both, others = kept[kept["A"] > 0], prior[~on_level & (prior["A"] > 0)]
    assert min(len(both), len(others)) > 300
    expected = high(codec, both, "A").mean()
    assert abs(high(codec, others, "A").mean() - expected) > 0.2  # B says something of A

    scaler = codec.scalers["B"]
    given = partial(B=float(np.exp(scaler.loc + scaler.scale * (1.0 if upper else -1.0))))
    done = next(complete_rows(model, codec, given, 3000, proposals=60_000, seed=0, written=None))
    assert (done.frame["B"] == given.frame["B"].iloc[0]).all()
    assert (done.frame["A"] > 0).mean() == pytest.approx((kept["A"] > 0).mean(), abs=0.05)
    assert high(codec, done.frame[done.frame["A"] > 0], "A").mean() == pytest.approx(expected, abs=0.07)
    # And a C after it follows it.
    after, found = kept[kept["C"] > 0], done.frame[done.frame["C"] > 0]
    assert high(codec, found, "C").mean() == pytest.approx(high(codec, after, "C").mean(), abs=0.07)


def test_a_whole_recipe_comes_back_as_it_is() -> None:
    table = partial(A=2.0, B=0.0, C=0.5, X=0.3, Y=0.7, Z=0.0, Method="dry", **{"Red T": 500.0, "Red H2": 40.0})
    done = complete(table, n=5)
    for name in table.schema.recipe_columns:
        assert (done.frame[name] == table.frame[name].iloc[0]).all()


def test_nothing_given_is_a_draw_of_the_valid_part_of_the_prior_with_equal_weights() -> None:
    done = complete(partial(), n=100, proposals=30_000)
    assert done.effective == pytest.approx(len(prior_draws(30_000)), rel=0.02)
    assert len(done.frame) == 100


def test_given_shares_are_kept_and_the_open_ones_take_up_the_rest() -> None:
    done = complete(partial(X=0.4), n=200)
    shares = done.frame[["X", "Y", "Z"]].to_numpy()
    assert (shares[:, 0] == 0.4).all()
    assert np.allclose(shares.sum(axis=1), 1.0)
    problems = structural_problems(done.frame, tiny_schema())
    assert not problems[[c for c in problems if c.startswith("supports")]].to_numpy().any()


@pytest.mark.parametrize("given", [{"A": 19.8}, {"X": 0.25}, {"X": 0.25, "B": 1.3}, {"A": 18.0, "Z": 0.95}, {}])
def test_completions_are_valid_on_the_grid_with_the_given_cells_as_they_are(given: dict[str, object]) -> None:
    done = complete(partial(**given), n=200).frame
    assert is_valid(done, tiny_schema()).all()
    for name, value in given.items():
        assert (done[name] == value).all()
    free = [c for c in "ABC" if c not in given]
    assert np.allclose(done[free] * 2, (done[free] * 2).round())
    assert np.allclose(done["Red T"] % 10, 0)


def test_shares_that_are_whole_leave_nothing_open() -> None:
    done = complete(partial(X=0.4, Y=0.6), n=50)
    assert (done.frame["Z"] == 0).all()


def test_too_large_shares_are_refused() -> None:
    with pytest.raises(InputError, match="row 0.*exceed"):
        complete(partial(X=0.8, Y=0.7))


def test_a_contradiction_names_the_row() -> None:
    # Only one kind of component is left open, but two more metals than allowed are given.
    with pytest.raises(InputError, match="row 0"):
        complete(partial(A=1.0, B=1.0, C=1.0))


def test_unknown_conditions_are_allowed() -> None:
    frame = pd.DataFrame([{"A": 2.0}])
    table = RecipeTable.from_frame(frame, tiny_schema(), purpose="partial")
    done = complete(table, n=20)
    assert (done.frame["A"] == 2.0).all()
    assert done.frame["T"].isna().all()


def test_the_codec_of_the_tests_knows_the_schema() -> None:
    assert tiny_codec()[0].schema == tiny_schema()


def test_what_names_a_row_comes_back_with_each_of_its_completions() -> None:
    schema = tiny_schema().model_copy(update={"identifiers": ("No.", "Note")})
    frame = pd.DataFrame(
        [{"No.": "007", "Note": "first", "A": 2.0}, {"No.": "8", "Note": None, "B": 1.0}], index=[5, 9]
    )
    table = RecipeTable.from_frame(frame, schema, purpose="partial")
    model, _, codec = tiny_model(stir=0.12)
    first, second = complete_rows(model, codec, table.select(np.array([1, 0])), 3, proposals=200, seed=0, written=None)
    assert (first.row, second.row) == (9, 5)
    assert first.frame["No."].tolist() == ["8"] * 3
    assert first.frame["Note"].isna().all()
    assert second.frame["No."].tolist() == ["007"] * 3
    assert second.frame["Note"].tolist() == ["first"] * 3


def test_a_component_that_the_table_passes_over_is_open() -> None:
    frame = pd.DataFrame([{"A": 2.0, "X": 0.5}])
    table = RecipeTable.from_frame(frame, tiny_schema(), purpose="partial", drop_columns=["X"])
    done = complete(table, n=50).frame
    assert (done["A"] == 2.0).all()
    assert {0.0, 1.0} < set(done["X"])
