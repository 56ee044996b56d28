"""Proposals keep what was asked of them, to the last digit, after a way through a file; and carry their reasons."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.conditions import resolve_conditions
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.data.written import Recurring, WrittenValues
from pyro_hcvae.posterior.asked import Asked
from pyro_hcvae.posterior.candidates import Goal
from pyro_hcvae.posterior.proposals import Request, propose_recipes
from pyro_hcvae.posterior.search import SearchConfig
from tests.laboratories import SMALL, tiny_schema, tiny_table

SHORT = SearchConfig(proposals=400, chains=60, moves=10)


@pytest.fixture(scope="module")
def designer() -> RecipeDesigner:
    train = TrainConfig(members=2, steps=150, batch_size=16, compile="never")
    return RecipeDesigner(tiny_schema(), model=SMALL, train=train).fit(tiny_table())


def propose(designer: RecipeDesigner, n: int = 6, **asked: object) -> pd.DataFrame:
    options = {"search": SHORT} | asked
    return designer.propose({"T": 650}, 80, n, **options).frame  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "texts",
    [
        ["exclude A"],
        ["require A", "A 2..4.5"],
        ["A+B <= 1.5", "require metals"],
        ["metals at most 1", "supports at most 1"],
        ["supports in Y, Z", "Method = dry"],
        ["A = 2.75", "no reduction"],
        ["X = 0.35", "require reduction", "Red T 500..600"],
        ["same Red T", "same Method", "require reduction"],
        ["A exactly 1", "B exactly 1", "Red H2 = 0", "require reduction"],
        ["novelty >= 1"],
    ],
    ids=" & ".join,
)
def test_constraints_hold_in_the_file(designer: RecipeDesigner, texts: list[str]) -> None:
    frame = propose(designer, constraints=texts)
    assert len(frame) > 0
    back = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    asked = Constraints.from_texts(texts, designer.schema, distance=designer.known.distance)
    assert asked.satisfied(back).all(), asked.violations(back)
    recipes = back[list(designer.schema.recipe_columns)]
    assert is_valid(recipes, designer.schema).all()
    assert not recipes.duplicated().any()


def test_where_no_draw_satisfies_them_draws_are_made_to_fit_and_say_so(designer: RecipeDesigner) -> None:
    texts = ["A = 1.25", "C = 3.75", "X = 0.3", "Y = 0.3", "Z = 0.4", "Red T = 130", "Red H2 = 77", "Method = wet"]
    asked = designer.constraints(texts[:6])
    frame = propose(designer, n=4, constraints=asked, search=SearchConfig(proposals=20, chains=4, moves=2))
    assert asked.satisfied(frame).all()
    every = designer.propose({"T": 650}, 80, 4, constraints=texts, search=SHORT)
    assert len(every.frame) == 1, "everything is pinned: there is one such recipe"


def test_a_contradiction_is_named(designer: RecipeDesigner) -> None:
    with pytest.raises(
        InputError, match="'require A' contradicts 'exclude A, B'|'exclude A, B' contradicts 'require A'"
    ):
        propose(designer, constraints=["exclude A B", "require A", "Method = wet"])
    with pytest.raises(InputError, match="at most 2"):
        propose(designer, constraints=["require A B C"])


def test_known_and_pending_recipes_are_not_proposed_again(designer: RecipeDesigner) -> None:
    columns = list(designer.schema.recipe_columns)
    first = propose(designer)
    again = propose(designer, pending=first[columns])
    assert len(again) == len(first) == 6
    assert len(pd.concat([first, again])[columns].drop_duplicates()) == 12
    known = designer.table.frame[columns].drop_duplicates()
    assert len(pd.concat([known, first[columns]]).drop_duplicates()) == len(known) + 6


def test_near_the_target_is_another_wish_than_beyond_it(designer: RecipeDesigner) -> None:
    beyond = designer.propose({"T": 750}, 30, 6, search=SHORT).frame
    near = designer.propose({"T": 750}, 30, 6, within=10, search=SHORT).frame
    column = "proposal: predicted Yield [%]"
    assert (near[column] - 30).abs().mean() < (beyond[column] - 30).abs().mean()
    assert near["proposal: probability to come near the target"].between(0, 1).all()


def test_nothing_outside_the_trust_region_is_proposed(designer: RecipeDesigner) -> None:
    with pytest.raises(InputError, match="draws"):
        propose(designer, search=SearchConfig(proposals=200, chains=20, moves=5, trust=1e-12))
    with pytest.raises(InputError, match="draws"):  # nothing was even refused, so nothing can be made to fit
        propose(
            designer, search=SearchConfig(proposals=200, chains=20, moves=5, trust=1e-12), constraints=["exclude A"]
        )


def test_a_given_share_weighs_by_how_much_it_is(designer: RecipeDesigner) -> None:
    asked = Asked(designer.codec, designer.conditions({"T": 650}, 80), designer.constraints(["X = 0.3"]))
    assert asked.given().shares


def test_a_share_just_below_the_whole_stays_what_was_asked() -> None:
    raw = VirtualLab().experiments(30, seed=0)
    table = RecipeTable.from_frame(raw, RecipeSchema.load("drm"))
    codec = RecipeCodec.fit(table.schema, table.frame, table.recipe_weights())
    asked = Asked(
        codec,
        resolve_conditions(table.schema, table.frame, {}, 50.0),
        Constraints.from_texts(["MgO = 0.98", "require SiO2"], table.schema),
    )
    assert asked.row["MgO"].iloc[0] == 0.98
    assert np.isnan(asked.row["SiO2"].iloc[0])
    settled = asked.settle(table.frame[list(table.schema.recipe_columns)].assign(MgO=0.5, SiO2=0.5))
    assert (settled["MgO"] == 0.98).all()


NOTHING = Recurring(np.empty(0), np.empty(0))
RECIPE = dict.fromkeys("ABCXYZ", 0.0) | {"X": 1.0, "Method": "wet", "Red T": 0.0, "Red H2": 0.0}


def usual(codec: RecipeCodec, **recurring: float) -> WrittenValues:
    """One value each that numbers of a block or column are brought to, from however far away."""
    values = {name: Recurring(np.array([x]), np.array([9.0])) for name, x in recurring.items()}
    names = dict.fromkeys(("metals", "supports", "Red T", "Red H2"), NOTHING)
    return WrittenValues(codec, names | values, noise=25.0)


@pytest.mark.parametrize(
    ("texts", "drawn", "settled"),
    [
        ([], 5.4, 5.0),
        (["A >= 5.5"], 5.4, 5.5),  # the usual value would break it
        (["A 4..6"], 5.4, 5.0),
        (["A = 5.25"], 5.4, 5.25),
        (["B = 0.5"], 5.4, 5.0),
        (["B = 15.5"], 4.4, 4.5),  # with the usual value there would be too much
    ],
)
def test_usual_values_give_way_to_what_is_asked_for(
    designer: RecipeDesigner, texts: list[str], drawn: float, settled: float
) -> None:
    asked = Asked(
        designer.codec,
        designer.conditions({"T": 650}, 80),
        designer.constraints(texts),
        usual(designer.codec, metals=5.0),
    )
    assert asked.settle(pd.DataFrame([{**RECIPE, "A": drawn}]))["A"].iloc[0] == settled


def test_proposals_stand_at_usual_values_and_known_recipes_near_them_are_not_new(designer: RecipeDesigner) -> None:
    known = replace(designer.known)
    known.__dict__["written"] = usual(designer.codec, metals=3.0)
    conditions, constraints = designer.conditions({"T": 650}, 80), designer.constraints(["metals exactly 1"])
    request = Request(conditions, 5, constraints, search=SHORT)
    made = propose_recipes(designer.network, designer.codec, known, designer.predictor, request).frame
    amounts = made[list("ABC")].to_numpy()
    assert set(amounts[amounts > 0]) == {3.0}
    one_metal = designer.table.frame[(designer.table.frame[list("ABC")] > 0).sum(axis=1) == 1]
    columns = list(designer.schema.recipe_columns)
    would_be = round_to_grid(known.written(one_metal[columns]), designer.schema)
    assert not pd.concat([would_be.drop_duplicates(), made[columns]]).duplicated().any()


@pytest.mark.parametrize(("change", "said"), [({"Red T": np.nan}, "row 3, column 'Red T'"), (None, "lack the columns")])
def test_pending_recipes_must_be_whole(designer: RecipeDesigner, change: dict[str, float] | None, said: str) -> None:
    rows = propose(designer)[list(designer.schema.recipe_columns)].set_index(pd.Index([3, 4, 5, 6, 7, 8]))
    pending = rows.drop(columns="Red T") if change is None else rows.assign(**change)
    with pytest.raises(InputError, match=said):
        propose(designer, pending=pending)


def test_near_a_bound_the_rest_of_the_range_counts(designer: RecipeDesigner) -> None:
    conditions = designer.table.frame.iloc[:5]
    recipes = conditions[list(designer.schema.recipe_columns)]
    predicted = designer.predictor.predict(recipes, conditions[["T"]])
    np.testing.assert_allclose(
        Goal(99.0, 5.0).probability(designer.predictor, predicted), designer.predictor.probability_of(predicted, 94.0)
    )
    assert (Goal(50.0, 60.0).probability(designer.predictor, predicted) == 1.0).all()


def test_variety_spreads_the_batch(designer: RecipeDesigner) -> None:
    def spread(variety: float) -> float:
        points = designer.known.scale.points(propose(designer, n=8, variety=variety))
        return float(np.abs(points[:, None] - points[None]).sum(-1).mean())

    assert spread(0.9) > spread(0.0)


def test_reasons_stand_beside_each_recipe(designer: RecipeDesigner) -> None:
    frame = propose(designer)
    assert frame["proposal: rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert frame["proposal: utility"].is_monotonic_decreasing
    nearest = frame["proposal: nearest known recipe [row]"]
    assert nearest.isin(designer.table.frame.index).all()
    np.testing.assert_allclose(
        frame["proposal: distance to it [sd]"], designer.known.distance(frame).round(3), atol=1e-9
    )
    said = frame["proposal: its Yield"].iloc[0]
    assert said.startswith(f"{designer.table.frame.loc[nearest.iloc[0], 'Yield']:g} % at T ")
    assert (frame["proposal: rules broken"] == "").all()  # this schema has no rules but validity
    assert "proposal: equilibrium" not in frame  # nor a reaction
    assert "proposal: metal cost [USD/kg]" not in frame  # nor weights


@pytest.mark.parametrize(("name", "value"), [("n", 0), ("within", 0.0), ("within", float("nan")), ("variety", 2.0)])
def test_impossible_wishes_are_refused(designer: RecipeDesigner, name: str, value: float) -> None:
    with pytest.raises(InputError, match="within|number of proposals|variety"):
        propose(designer, **{name: value})
