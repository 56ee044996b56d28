"""Proposals: recipes that were searched for, checked, compared with what is known, ranked, and explained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.chemistry import verdicts
from pyro_hcvae.chemistry.prices import total_cost
from pyro_hcvae.chemistry.rules import FeasibilityRule, broken_rules, feasibility_rules, judge
from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.feasibility import feasible
from pyro_hcvae.constraints.language import Fix, Shared
from pyro_hcvae.constraints.repair import changes, pick_shared, repair
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.conditions import Conditions
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import PROPOSAL_PREFIX
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.annotations import (
    change_columns,
    nearest_columns,
    predicted_columns,
    rule_columns,
)
from pyro_hcvae.posterior.asked import Asked
from pyro_hcvae.posterior.candidates import Candidates, Goal
from pyro_hcvae.posterior.intervals import in_words, intervals, log_density
from pyro_hcvae.posterior.performance import PerformancePredictor
from pyro_hcvae.posterior.ranking import varied
from pyro_hcvae.posterior.reasons import KnownRecipes
from pyro_hcvae.posterior.search import Search, SearchConfig, search

PENALTY = 0.05
"""Share of its utility that a recipe loses by a broken rule of weight 1 (a warning)."""
_SHARING = 20
"""Candidates that choose a value for all to share, for each proposal that is asked for."""
_FITTED = 4
"""Draws that are brought to satisfy the constraints where too few do by themselves, for each proposal that is asked for."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        conditions: One complete set of conditions, with the target.
        n: Number of distinct recipes.
        constraints: What every proposal satisfies, as it is exported.
        within: Largest wanted distance from the target, in its unit; None: the target or better.
        pending: Recipes under way, which are not proposed again.
        allow_known: Whether recipes of the table may be proposed.
        search: How much is searched.
        variety: Weight of not being alike in the choice, from 0 to 1.
        costs: USD per kg of catalyst for each wt% of a component, by column; NaN: not known. Empty: no costs.
        seed: Fixes everything.
    """

    conditions: Conditions
    n: int
    constraints: Constraints
    within: float | None = None
    pending: pd.DataFrame | None = None
    allow_known: bool = False
    search: SearchConfig = field(default_factory=SearchConfig)
    variety: float = 0.3
    costs: dict[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Proposals:
    """Proposed recipes with their uncertainty and reasons.

    Attributes:
        conditions: What they are made for.
        frame: One row a recipe, best first: schema columns (the performance is left empty: it is not measured), then columns
            that begin with ``proposal:``.
        intervals: One row a recipe and column: presence probability and 90 % credible interval, in the column's unit. They are
            of ``p(x' | z, c)`` with ``z ~ q(z | x, c)``, what the model expects of recipes like this one: a number outside of
            its interval is unusual for its kind.
        drawn: Draws made.
        valid: Of these, structurally valid ones.
        novel: Of these, recipes that are neither in the table nor pending.
        allowed: Of these, ones that satisfy the constraints and break no hard rule.
        search: How the search went.
        equilibrium: Whether the target can exist at all under the conditions; None where the schema declares no reaction.
    """

    conditions: Conditions
    frame: pd.DataFrame
    intervals: pd.DataFrame
    drawn: int
    valid: int
    novel: int
    allowed: int
    search: Search
    equilibrium: verdicts.EquilibriumVerdict | None


def propose_recipes(
    model: HierarchicalCVAE, codec: RecipeCodec, known: KnownRecipes, predictor: PerformancePredictor, request: Request
) -> Proposals:
    """Search, filter, rank and explain.

    Args:
        model: Trained members.
        codec: Table <-> tensors.
        known: The table that the model was fitted on.
        predictor: Of the performance.
        request: What is asked for.

    Raises:
        InputError: If the request makes no sense, if nothing can satisfy it (names the conflict), or nothing was found.
    """
    if request.n < 1:
        raise InputError(f"the number of proposals must be at least 1, got {request.n}")
    if request.within is not None and not request.within > 0:
        raise InputError(f"within must be above 0, got {request.within:g}")
    if not 0 <= request.variety <= 1:
        raise InputError(f"variety must lie between 0 and 1, got {request.variety:g}")
    if (conflict := feasible(request.constraints)) is not None:
        raise InputError(str(conflict))
    schema, conditions = codec.schema, request.conditions
    goal = Goal(conditions.row[schema.performance.name], request.within)
    judged = verdicts.judge(schema, conditions.frame(), goal.target)
    look = partial(_look, model, codec, known, predictor, goal)
    items = request.constraints.items
    each = tuple(item for item in items if not isinstance(item, Shared))
    own = replace(request, constraints=replace(request.constraints, items=each))
    found = look(own)
    if len(each) < len(items) and len(found.recipes):
        best = found.recipes.iloc[np.argsort(-found.predicted["probability"].to_numpy())[: _SHARING * request.n]]
        picked = pick_shared(best, request.constraints)
        own = replace(own, constraints=own.constraints.adding(*(Fix(column=c, value=v) for c, v in picked.items())))
        found = look(own)
    candidates, asked, recipes, predicted = found.candidates, found.asked, found.recipes, found.predicted
    if recipes.empty:
        raise InputError(_nothing_found(candidates))
    at = pd.DataFrame(dict(conditions.row), index=recipes.index)
    against = judge(pd.concat([recipes, at], axis=1), schema, known.table.frame)
    utility = predicted["probability"].to_numpy(np.float64) * (1 - PENALTY) ** against.score
    points = known.scale.points(recipes)
    order = varied(utility, points, request.n, variety=request.variety, length=known.spacing)
    order = order[np.argsort(-utility[order], kind="stable")]
    chosen, at = recipes.iloc[order].reset_index(drop=True), at.iloc[: len(order)]
    batch = codec.layout.unpack(codec.encode(pd.concat([chosen, at], axis=1))[None])
    presence, table = intervals(model, codec, chosen, batch, request.seed)
    made = [found.fitted.get(int(key), "") for key in row_hashes(chosen, list(schema.recipe_columns))]
    whole = pd.concat([chosen, at], axis=1)
    notes: list[pd.DataFrame] = [
        predicted_columns(schema.performance, goal, predicted.iloc[order].reset_index(drop=True)),
        pd.DataFrame({"utility": utility[order].round(4)}),
        pd.DataFrame({"log density [nats]": log_density(model, batch, request.seed).round(3)}),
        rule_columns(judge(whole, schema, known.table.frame)),
        nearest_columns(known, chosen, conditions),
        change_columns(known, asked, goal, predictor, found.allowed, chosen, at),
    ]
    if judged is not None:
        notes.append(pd.DataFrame({"equilibrium": [f"{judged[0].level}: {judged[0].reason}"] * len(chosen)}))
    if any(map(math.isfinite, request.costs.values())):
        notes.append(pd.DataFrame({"metal cost [USD/kg]": total_cost(chosen, request.costs).round(4)}))
    if any(made):
        notes.append(pd.DataFrame({"changed to satisfy the constraints": made}))
    notes.append(
        pd.DataFrame({"presence probabilities": presence, "90 % credible intervals": in_words(table, len(chosen))})
    )
    extra = pd.concat([pd.DataFrame({"rank": np.arange(1, len(chosen) + 1)}), *notes], axis=1)
    at = at.assign(**{schema.performance.name: np.nan})
    frame = pd.concat([chosen, at, extra.add_prefix(PROPOSAL_PREFIX)], axis=1)
    counts = (candidates.drawn, candidates.valid, candidates.novel, candidates.allowed_count)
    return Proposals(conditions, frame, table, *counts, found.search, judged[0] if judged else None)


@dataclass(frozen=True)
class _Found:
    """What one search has found; `fitted` says by hash of a recipe what was changed to satisfy the constraints."""

    asked: Asked
    allowed: Callable[[pd.DataFrame], NDArray[np.bool_]]
    candidates: Candidates
    search: Search
    fitted: dict[int, str]
    recipes: pd.DataFrame
    predicted: pd.DataFrame


def _look(
    model: HierarchicalCVAE,
    codec: RecipeCodec,
    known: KnownRecipes,
    predictor: PerformancePredictor,
    goal: Goal,
    request: Request,
) -> _Found:
    asked = Asked(codec, request.conditions, request.constraints, known.written)
    excluded = excluded_recipes(known, request, asked)
    hard = hard_rules(codec.schema, known.table.frame)
    allowed = partial(allowed_recipes, request, hard)
    candidates = Candidates(codec, asked.settle, predictor, request.conditions, goal, excluded, allowed)
    went = search(model, asked.given(), codec.layout.pack, candidates.weigh, request.search, seed=request.seed)
    short = request.constraints.items and len(candidates.found()[0]) < request.n
    fitted = _fitted(candidates, known, request) if short else {}
    return _Found(asked, allowed, candidates, went, fitted, *candidates.found())


def hard_rules(schema: RecipeSchema, experiments: pd.DataFrame) -> list[FeasibilityRule]:
    """Rules that no proposal may break; fitted once, because those on what the table has observed look at all of its rows."""
    return [rule for rule in feasibility_rules(schema, experiments) if rule.severity == "hard"]


def excluded_recipes(known: KnownRecipes, request: Request, asked: Asked) -> pd.DataFrame:
    """Recipes that must not be proposed, as they stand on the grid."""
    schema = known.table.schema
    columns = list(schema.recipe_columns)
    recipes = known.table.frame[columns].drop_duplicates()
    parts = [recipes.iloc[:0] if request.allow_known else recipes]
    if request.pending is not None:
        parts.append(_whole(request.pending, columns))
    # As they stand or as a draw of them would be written; as rounded, but perhaps for fixed cells, which may lie off the grid.
    parts += [known.written(part) for part in parts]
    rounded = [round_to_grid(part, schema, keep) for part in parts for keep in ((), asked.fixed)]
    return pd.concat([*parts, *rounded], ignore_index=True)


def _whole(pending: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Recipe columns of recipes under way, none of whose cells may be open: an open one could be any recipe."""
    if missing := [name for name in columns if name not in pending.columns]:
        raise InputError(f"pending recipes lack the columns {', '.join(missing[:5])}: give all recipe columns")
    cells = pending[columns].isna()
    if cells.to_numpy().any():
        row = cells.index[cells.any(axis=1)][0]
        column = cells.columns[cells.loc[row].to_numpy().ravel()[: len(columns)]][0]
        raise InputError(f"pending recipes: row {row}, column {column!r} is open: fill it in, or leave the recipe out")
    return pending[columns]


def allowed_recipes(request: Request, hard: Sequence[FeasibilityRule], recipes: pd.DataFrame) -> NDArray[np.bool_]:
    """Which recipes satisfy the constraints and break no hard rule, shape ``(B,)``."""
    good = request.constraints.satisfied(recipes)
    at = pd.DataFrame(dict(request.conditions.row), index=recipes.index)
    return np.asarray(good & ~broken_rules(pd.concat([recipes, at], axis=1), hard).to_numpy(dtype=bool).any(axis=1))


def _fitted(candidates: Candidates, known: KnownRecipes, request: Request) -> dict[int, str]:
    """Bring refused draws to satisfy the constraints; says by hash of the recipe what was changed."""
    columns = list(request.constraints.schema.recipe_columns)
    refused = candidates.refused(_FITTED * request.n)
    if refused.empty:
        return {}
    mended, _ = repair(refused, request.constraints, scale=known.scale)
    at, _ = candidates.add(mended)
    said = changes(refused.iloc[at], mended.iloc[at])
    return dict(zip(map(int, row_hashes(mended.iloc[at], columns)), said, strict=True))


def _nothing_found(candidates: Candidates) -> str:
    if not candidates.valid:
        return f"none of {candidates.drawn} draws is a valid recipe for these conditions: ask for other ones, or train longer"
    if not candidates.novel:
        return f"all {candidates.valid} valid draws are recipes of the table or pending: propose those too with --allow-known"
    return (
        f"none of {candidates.novel} new valid recipes satisfies all constraints together with the hard rules, and none could be "
        "made to: relax a constraint"
    )
