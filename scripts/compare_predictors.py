"""Which predictor of the performance, and what its intervals hold, on recipes, compositions and laboratories not seen.

`candidates`: out-of-fold R2 and mean absolute error of learners, each at one setting, on what the predictor is told; of its three
learners, with and without the equilibrium; and of their combinations.
`coverage`: everything is fitted and calibrated inside the training folds, and the intervals are looked at on the outer fold.
Beside the predictor stand `global` intervals: one forest, and the same quantiles of its out-of-fold errors added to every
prediction; and, with `--apart`, predictors whose intervals come from folds that keep other groups whole. Shown are the share of
measurements inside (of rows, and with every recipe counting once), the mean width, and the interval score of Gneiting & Raftery
(2007), width plus 2 / (1 - level) times what is missed: lower is better. `thirds` are the
shares inside among the rows with the narrowest, middle and widest intervals: where they differ, the level holds on average only.

Both are given for the development part, by which settings are chosen, and for the reserve, which no choice should have seen.

Examples:
    python scripts/compare_predictors.py candidates --table ours.csv --schema ours.toml --out candidates.csv
    python scripts/compare_predictors.py coverage --by recipe
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pyro_hcvae import InputError, RecipeSchema, RecipeTable
from pyro_hcvae.cli.options import check_out, write_csv
from pyro_hcvae.data.splits import Part, folds, groups_of, in_part
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.posterior.error_distribution import equal_weights
from pyro_hcvae.posterior.learners import LEARNERS, Inputs, Learners, shares_of_learners
from pyro_hcvae.posterior.performance import PerformancePredictor

Floats = NDArray[np.float64]
GROUPINGS = ("recipe", "composition", "laboratory")
LEVELS = (0.5, 0.8, 0.9, 0.95)
PARTS: tuple[Part, ...] = ("all", "development", "reserve")


def forest(x: Floats, y: Floats, weights: Floats, seed: int) -> Any:
    model = ExtraTreesRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
    return model.fit(x, y, weights)


def random_forest(x: Floats, y: Floats, weights: Floats, seed: int) -> Any:
    model = RandomForestRegressor(100, min_samples_leaf=2, max_features=0.33, random_state=seed, n_jobs=1)
    return model.fit(x, y, weights)


def ridge(x: Floats, y: Floats, weights: Floats, seed: int) -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 10))).fit(x, y, ridgecv__sample_weight=weights)


OTHERS: dict[str, Any] = {"ridge": ridge, "random forest": random_forest}
BLIND = " without the equilibrium"
"""Ending of learners that are told nothing of it."""
ALIKE = ", recipes alike"
"""Ending of scores in which every recipe counts once, however many rows it has."""


def candidates(table: RecipeTable, by: Any, count: int, seed: int) -> Iterator[dict[str, object]]:
    """Out-of-fold R2 and mean absolute error of each learner, by part of the table."""
    x, y, recipes = Inputs.of(table.schema, table.frame), _performance(table), table.recipe_ids()
    once = {"": np.ones_like(y), ALIKE: equal_weights(recipes)}
    kinds = (
        {"": x}
        if x.limit_pct is None
        else {"": x, BLIND: Inputs(x.tabular[:, :-1], x.smooth[:, :-1], x.blocks[:-1], None)}
    )
    parts = list(folds(groups_of(table, by), count, seed=seed))
    predicted: dict[str, Floats] = {}
    for name, learner in OTHERS.items():
        values = predicted[name] = np.empty_like(y)
        for train, test in parts:
            values[test] = learner(x.tabular[train], y[train], once[""][train], seed).predict(x.tabular[test])
    for ending, inputs in kinds.items():
        each = np.empty((len(y), len(LEARNERS)))
        for train, test in parts:
            each[test], _ = Learners.fit(inputs[train], y[train], recipes[train], seed=seed).predict(inputs[test])
        predicted |= {name + ending: each[:, i] for i, name in enumerate(LEARNERS)}
        predicted[f"mean of trees and boosting{ending}"] = each[:, :2].mean(axis=1)
        predicted[f"mean of all three{ending}"] = each.mean(axis=1)
        chosen = predicted[f"shares that suit the other folds{ending}"] = np.empty_like(y)
        for train, test in parts:
            chosen[test] = each[test] @ shares_of_learners(each[train], y[train], once[ALIKE][train])
    for name, values in predicted.items():
        error = y - values.clip(*table.schema.performance.bounds)
        scores: dict[str, object] = {"by": by, "seed": seed, "learner": name}
        for part in PARTS[1:]:
            rows = in_part(table, part)
            for suffix, weights in once.items():
                spread = y[rows] - np.average(y[rows], weights=weights[rows])
                left, all_of_it = (np.average(e**2, weights=weights[rows]) for e in (error[rows], spread))
                scores[f"R2, {part}{suffix}"] = 1 - left / all_of_it
                scores[f"MAE, {part}{suffix}"] = np.average(np.abs(error[rows]), weights=weights[rows])
        yield scores


def global_intervals(table: RecipeTable, train: Any, test: Any, seed: int) -> tuple[Floats, Floats]:
    """Prediction of a forest and sorted out-of-fold errors, folds by recipe, every row counting once."""
    x, y, recipes = Inputs.of(table.schema, table.frame).tabular, _performance(table), table.recipe_ids()
    errors = np.empty(len(train))
    for inner, left in folds(recipes[train], 5, seed=seed):
        rows = train[inner]
        errors[left] = y[train[left]] - forest(x[rows], y[rows], np.ones(len(rows)), seed).predict(x[train[left]])
    return forest(x[train], y[train], np.ones(len(train)), seed).predict(x[test]), np.sort(errors)


def coverage(
    table: RecipeTable, by: Any, count: int, seed: int, apart: Sequence[Any] = ()
) -> Iterator[dict[str, object]]:
    """What the intervals hold on outer folds, by kind, level and part of the table."""
    schema, y, weights = table.schema, _performance(table), equal_weights(table.recipe_ids())
    bounds = schema.performance.bounds
    kinds: dict[str, Any] = {"predictor": None, **{f"predictor, {x} apart": groups_of(table, x) for x in apart}}
    limits = {(kind, level): np.empty((2, len(y))) for level in LEVELS for kind in ("global", *kinds)}
    for train, test in folds(groups_of(table, by), count, seed=seed):
        mean, errors = global_intervals(table, train, test, seed)
        recipes, conditions = (
            table.frame.iloc[test][list(c)] for c in (schema.recipe_columns, schema.condition_columns)
        )
        for level in LEVELS:
            tails = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
            limits["global", level][:, test] = (mean + tails[:, None]).clip(*bounds)
        for kind, groups in kinds.items():
            predictor = PerformancePredictor.fit(
                schema, table.frame.iloc[train], table.recipe_ids()[train],
                apart=None if groups is None else groups[train], seed=seed,
            )  # fmt: skip
            for level in LEVELS:
                found = predictor.predict(recipes, conditions, level=level)
                limits[kind, level][:, test] = found[["low", "high"]].to_numpy().T
    for (kind, level), (low, high) in limits.items():
        inside, width = ((low <= y) & (y <= high)).astype(np.float64), high - low
        score = width + 2 / (1 - level) * (np.maximum(low - y, 0) + np.maximum(y - high, 0))
        for part in PARTS:
            rows = in_part(table, part)
            held, w = inside[rows], weights[rows]
            thirds = np.array_split(np.argsort(width[rows], kind="stable"), 3)
            yield {
                "by": by, "seed": seed, "part": part, "intervals": kind, "level": level, "rows inside": held.mean(),
                "recipes inside": np.average(held, weights=w), "width": np.average(width[rows], weights=w),
                "interval score": np.average(score[rows], weights=w),
                "thirds": " ".join(f"{np.average(held[third], weights=w[third]):.2f}" for third in thirds),
            }  # fmt: skip


def _performance(table: RecipeTable) -> Floats:
    return table.frame[table.schema.performance.name].to_numpy(np.float64)


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("what", choices=("candidates", "coverage"))
    out.add_argument("--table", type=Path, help="table of experiments (default: a simulated laboratory)")
    out.add_argument("--schema", default="drm", help="built-in schema or schema file (default: drm)")
    out.add_argument("--by", choices=GROUPINGS, nargs="+", default=list(GROUPINGS), help="what no split cuts in two")
    out.add_argument(
        "--apart",
        choices=GROUPINGS,
        nargs="+",
        default=[],
        help="beside intervals from folds by recipe: from folds that keep these apart",
    )
    out.add_argument("--folds", type=int, default=5, help="outer folds (default: 5)")
    out.add_argument("--seeds", type=int, default=1, help="repetitions with other folds (default: 1)")
    out.add_argument("--recipes", type=int, default=300, help="recipes of the simulated laboratory (default: 300)")
    out.add_argument("--out", type=Path, help="CSV file to write")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, print, and write."""
    options = parser()
    args = options.parse_args(argv)
    try:
        if args.out is not None:
            check_out(args.out, *([] if args.table is None else [args.table]), force=True)
        schema = RecipeSchema.load(args.schema)
        if args.table is None:
            table = RecipeTable.from_frame(VirtualLab().experiments(recipes=args.recipes, seed=0), schema)
        else:
            table = RecipeTable.read(args.table, schema)
        compare = candidates if args.what == "candidates" else partial(coverage, apart=args.apart)
        records = [row for by in args.by for seed in range(args.seeds) for row in compare(table, by, args.folds, seed)]
    except InputError as error:
        options.error(str(error))
    frame = pd.DataFrame(records)
    print(frame.to_string(index=False, float_format="%.3f"))
    if args.out is not None:
        write_csv(frame, args.out)


if __name__ == "__main__":
    main()
