"""Proposals: draws that were rounded, checked, compared with what is known, ranked, and explained."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.conditions import Conditions
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema
from pyro_hcvae.data.table import PROPOSAL_PREFIX, RecipeTable, row_groups
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.importance import log_marginal
from pyro_hcvae.posterior.performance import PerformancePredictor
from pyro_hcvae.posterior.predictive import draw_recipes, explain

_ROUNDS, _DRAWS = 8, 2000
"""Rounds of draws at most, and draws of one round."""
_LEVEL = 0.9
_EXPLAIN_DRAWS = 100


@dataclass(frozen=True)
class Proposals:
    """Proposed recipes with their uncertainty.

    Attributes:
        conditions: What they are made for.
        frame: One row a recipe, best first: schema columns (the performance is left empty: it is not measured), then columns
            that begin with ``proposal:``.
        intervals: One row a recipe and column: presence probability and 90 % credible interval, in the column's unit. They are
            of ``p(x' | z, c)`` with ``z ~ q(z | x, c)``, what the model expects of recipes like this one: a number outside of
            its interval is unusual for its kind.
        drawn: Draws made.
        valid: Of these, structurally valid ones.
        novel: Of these, recipes that are not in the table.
    """

    conditions: Conditions
    frame: pd.DataFrame
    intervals: pd.DataFrame
    drawn: int
    valid: int
    novel: int


def propose_recipes(
    model: HierarchicalCVAE,
    codec: RecipeCodec,
    table: RecipeTable,
    predictor: PerformancePredictor,
    conditions: Conditions,
    n: int,
    *,
    seed: int,
    allow_known: bool,
) -> Proposals:
    """Draw, round, filter, remove duplicates, rank and explain. Arguments as for `RecipeDesigner.propose`.

    Raises:
        InputError: If ``n < 1``.
    """
    if n < 1:
        raise InputError(f"the number of proposals must be at least 1, got {n}")
    schema = codec.schema
    asked = conditions.frame()
    packed = codec.encode(asked)
    found = pd.DataFrame(columns=list(schema.recipe_columns))
    drawn = valid = novel = 0
    known = round_to_grid(table.frame[list(schema.recipe_columns)].drop_duplicates(), schema)
    for turn in range(_ROUNDS):
        for _, rows in draw_recipes(model, codec.layout, packed, max(_DRAWS, 20 * n), seed=seed + 1000 * turn):
            recipes = round_to_grid(codec.decode(rows), schema)
            drawn += len(recipes)
            recipes = recipes[is_valid(recipes, schema)]
            valid += len(recipes)
            if not allow_known:
                recipes = recipes[~_in(recipes, known)]
            novel += len(recipes)
            found = pd.concat([found, recipes], ignore_index=True) if len(found) else recipes
        found = found[_first_of_each(found)]
        # Twice as many as asked for leave something to rank.
        if len(found) >= 2 * n:
            break
    found = found.reset_index(drop=True)
    if found.empty:
        if valid:
            raise InputError(f"all {valid} valid draws are recipes of the table: propose those too with --allow-known")
        raise InputError(
            f"none of {drawn} draws is a valid recipe for these conditions: ask for other ones, or train longer"
        )
    at = pd.DataFrame([dict(conditions.row)] * len(found))
    predicted = predictor.predict(found, at, level=_LEVEL)
    target = conditions.row[schema.performance.name]
    reach = predictor.probability_of(predicted["mean"].to_numpy(np.float64), target)
    order = np.lexsort((-predicted["mean"].to_numpy() * (1 if schema.performance.higher_is_better else -1), -reach))
    order = _varied(found, order, schema, n)
    chosen = found.iloc[order].reset_index(drop=True)
    at = at.iloc[: len(chosen)].assign(**{schema.performance.name: target})
    batch = codec.layout.unpack(codec.encode(pd.concat([chosen, at], axis=1))[None])
    density = _density(model, batch, seed)
    presence, intervals = _intervals(model, codec, chosen, batch, seed)
    at[schema.performance.name] = np.nan
    own = schema.performance.unit
    unit = f" [{own}]" if own and own not in schema.performance.name else ""
    name = f"{PROPOSAL_PREFIX}predicted {schema.performance.name}"
    extra = {
        f"{PROPOSAL_PREFIX}rank": np.arange(1, len(chosen) + 1),
        f"{PROPOSAL_PREFIX}target {schema.performance.name}{unit}": target,
        f"{name}{unit}": predicted["mean"].to_numpy()[order].round(2),
        f"{name} low 5 %{unit}": predicted["low"].to_numpy()[order].round(2),
        f"{name} high 95 %{unit}": predicted["high"].to_numpy()[order].round(2),
        f"{PROPOSAL_PREFIX}probability to reach the target": reach[order].round(3),
        f"{PROPOSAL_PREFIX}log density [nats]": density.round(3),
        f"{PROPOSAL_PREFIX}presence probabilities": presence,
        f"{PROPOSAL_PREFIX}90 % credible intervals": _in_words(intervals, len(chosen)),
    }
    frame = pd.concat([chosen, at, pd.DataFrame(extra)], axis=1)
    return Proposals(conditions, frame, intervals, drawn, valid, novel)


def _in(recipes: pd.DataFrame, known: pd.DataFrame) -> NDArray[np.bool_]:
    both = pd.concat([known, recipes], ignore_index=True)
    groups = row_groups(both, list(recipes.columns))
    seen: NDArray[np.bool_] = np.isin(groups[len(known) :], groups[: len(known)])
    return seen


def _first_of_each(recipes: pd.DataFrame) -> NDArray[np.bool_]:
    groups = row_groups(recipes, list(recipes.columns))
    _, first = np.unique(groups, return_index=True)
    keep = np.zeros(len(recipes), dtype=bool)
    keep[first] = True
    return keep


def _varied(recipes: pd.DataFrame, order: NDArray[np.int64], schema: RecipeSchema, n: int) -> NDArray[np.int64]:
    """The best ``n`` in order, varied as far as there are others.

    At most half of them share one block's set of components (one support, say), and at most a quarter share all sets.
    """
    blocks = [list(b.columns) for b in schema.blocks if isinstance(b, Amounts | Fractions)]
    sets = [*blocks, [c for columns in blocks for c in columns]] if blocks else []
    keys = [row_groups(recipes[columns] > 0, columns) for columns in sets]
    most = [math.ceil(n / 2)] * len(blocks) + [max(2, math.ceil(n / 4))]
    taken: Counter[tuple[int, int]] = Counter()
    first: list[int] = []
    rest: list[int] = []
    for row in order:
        mine = [(i, int(key[row])) for i, key in enumerate(keys)]
        if len(first) < n and all(taken[m] < most[m[0]] for m in mine):
            taken.update(mine)
            first.append(int(row))
        else:
            rest.append(int(row))
    return np.array((first + rest)[:n], dtype=np.int64)


def _density(model: HierarchicalCVAE, batch: RecipeBatch, seed: int) -> NDArray[np.float64]:
    """Log density of each recipe under the mixture of the members, in nats, shape ``(B,)``."""
    each = log_marginal(model, batch.expand_members(model.members), draws=128, seed=seed).double()
    mixed: NDArray[np.float64] = (torch.logsumexp(each, 0) - math.log(model.members)).cpu().numpy()
    return mixed


def _intervals(
    model: HierarchicalCVAE, codec: RecipeCodec, recipes: pd.DataFrame, batch: RecipeBatch, seed: int
) -> tuple[list[str], pd.DataFrame]:
    """Presence probabilities in words, and the long table of probabilities and intervals."""
    schema = codec.schema
    free, given = explain(model, batch, _EXPLAIN_DRAWS, seed=seed)
    numbers = _decoded(codec, given, batch)
    records: list[dict[str, object]] = []
    words: list[str] = []
    units = schema.units()
    tail = (1 - _LEVEL) / 2
    for row in range(len(recipes)):
        parts: list[str] = []
        mine, recipe = numbers[row], dict(recipes.iloc[row])
        for block in schema.blocks:
            structure = next(iter(sites.of_block(block)))
            draws = free[structure][:, :, row]
            if isinstance(block, Amounts | Fractions):
                probability = dict(zip(block.columns, draws.mean(dim=(0, 1)).tolist(), strict=True))
                shown = [c for c in block.columns if recipe[c] > 0]
                parts += [f"{c} {probability[c]:.2f}" for c in shown]
            elif isinstance(block, Category):
                code = recipe[block.column]
                share = (draws == block.codes.index(code)).float().mean().item()
                records.append(
                    {"rank": row + 1, "column": block.column, "value": code, "unit": "", "probability": share}
                )
                parts.append(f"{block.column}={code} {share:.2f}")
                continue
            else:
                own = batch.values[structure][0, row]
                share = (draws == own).float().mean().item()
                probability = dict.fromkeys(block.names(), share)
                shown = [c for c, on in zip(block.names(), block.applies()[int(own)], strict=True) if on]
                parts.append(f"{block.name} {block.states[int(own)]} {share:.2f}")
            for column in shown:
                low, middle, high = np.quantile(mine[column].to_numpy(np.float64), [tail, 0.5, 1 - tail])
                records.append(
                    {
                        "rank": row + 1,
                        "column": column,
                        "value": recipe[column],
                        "unit": units[column],
                        "probability": probability[column],
                        "low": low,
                        "median": middle,
                        "high": high,
                    }
                )
        words.append("; ".join(parts))
    return words, pd.DataFrame(records)


def _decoded(codec: RecipeCodec, draws: dict[str, Tensor], batch: RecipeBatch) -> list[pd.DataFrame]:
    """Draws ``(S, M, B, ...)`` -> for each recipe, its draws as rows of the table."""
    count, members = next(iter(draws.values())).shape[:2]
    conditions = batch.conditions.expand(count, members, *batch.conditions.shape[1:])
    packed = codec.layout.pack(draws, conditions).flatten(0, 1)
    return [codec.decode(packed[:, row]) for row in range(packed.shape[1])]


def _in_words(intervals: pd.DataFrame, count: int) -> list[str]:
    words = []
    for rank in range(1, count + 1):
        mine = intervals[(intervals["rank"] == rank) & intervals["low"].notna()]
        words.append("; ".join(f"{r.column} {r.low:.3g}-{r.high:.3g} {r.unit}".rstrip() for r in mine.itertuples()))
    return words
