"""How much draws look like recipes that laboratories made: classifiers, neighbourhoods, distances, marginals.

Held-out rows are real, one a recipe; draws are indexed by the held-out row whose conditions they were drawn for. No score
means much by itself: each has a counterpart in which training recipes take the place of the draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from pyro_hcvae.data.columns import row_chunks
from pyro_hcvae.data.features import LEVELS, RecipeFeatures, indicator_variables

Floats = NDArray[np.float64]
SETS = 3
"""Disjoint sets of draws, one draw a row each, that scores are averaged over."""
TREES = 100
"""Trees of a forest; with 300 the AUC on the DRM table differs by less than 0.02, at three times the cost."""
FOLDS = 5
NEIGHBOURS = 5
NEIGHBOURHOODS = ("precision", "recall", "density", "coverage")


def realism(
    features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame, seen: pd.DataFrame, *, seed: int = 0
) -> dict[str, float]:
    """All scores of this module.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe, with recipes, conditions and performance.
        draws: Draws for these rows, indexed by the label of the row.
        seen: Training rows, one a recipe.
        seed: Fixes folds, forests, jitter, and which draws are the many.
    """
    return {
        **classifier_two_sample(features, held, draws, seed=seed),
        **precision_recall(features, held, draws),
        **precision_recall_of_many(features, held, in_turns(draws, len(seen), seed=seed)),
        **energy_ratios(features, held, draws, seen),
        **marginals(features, held, draws),
    }


def real_against_real(
    features: RecipeFeatures, held: pd.DataFrame, seen: pd.DataFrame, *, seed: int = 0
) -> dict[str, float]:
    """The scores that training recipes get in the place of draws: what a perfect generator can hope for.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        seen: Training rows, one a recipe, with their own conditions.
        seed: Fixes which training rows stand for draws, folds, forests and jitter.
    """
    order = np.random.default_rng(seed).permutation(len(seen))
    sets = max(len(seen) // max(len(held), 1), 1)
    size = min(len(held), len(seen))
    drawn = seen.iloc[order[: sets * size]].set_axis(np.tile(held.index[:size], sets), axis=0)
    # Labels here are places only: a training row has conditions of its own, so no pair is kept together.
    return {
        **classifier_two_sample(features, held, drawn, paired=False, seed=seed),
        **precision_recall(features, held, drawn),
        **precision_recall_of_many(features, held, seen),
        **marginals(features, held, drawn),
    }


def classifier_two_sample(
    features: RecipeFeatures,
    held: pd.DataFrame,
    draws: pd.DataFrame,
    *,
    paired: bool = True,
    seed: int = 0,
    sets: int = SETS,
    trees: int = TREES,
) -> dict[str, float]:
    r"""Area under the ROC curve with which a random forest tells real rows from draws, at each level of `features`.

    0.5: cannot be told apart; 1: always. Each set takes one draw for each row; rows and draws are classified by forests that saw
    neither the row nor its draw, in 5 folds. A value below 0.5 is chance and stays as it is.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        draws: Draws for these rows, indexed by the label of the row.
        paired: Whether a row and its draw share their conditions; then no fold parts them.
        seed: Fixes folds, forests and jitter.
        sets: Largest number of disjoint sets of draws.
        trees: Trees of a forest.

    Returns:
        Mean over sets and folds, of level ``raw``, ``jittered`` and ``structure``; NaN if there are fewer than two pairs.

    References:
        Lopez-Paz & Oquab (2017), Revisiting Classifier Two-Sample Tests, arXiv:1610.06545
    """
    rng = np.random.default_rng(seed)
    out = {}
    for level in LEVELS:
        areas: list[float] = []
        for real, drawn in disjoint_sets(held, draws, sets):
            x = np.vstack([features.matrix(frame, level, rng) for frame in (real, drawn)])
            y = np.repeat([1, 0], len(real))
            groups = np.tile(np.arange(len(real)), 2) if paired else _stratified_groups(len(real), rng)
            areas += _areas(x, y, groups, trees, int(rng.integers(2**31)))
        out[f"C2ST AUC, {level}"] = float(np.mean(areas)) if areas else float("nan")
    return out


def disjoint_sets(held: pd.DataFrame, draws: pd.DataFrame, count: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Pair held-out rows with their first draw, then with their second one, and so on; rows that have none are left out.

    Args:
        held: Held-out rows with an index of distinct labels.
        draws: Draws, indexed by these labels.
        count: Largest number of sets.

    Yields:
        Rows and draws, equally many, in the same order.
    """
    draws = draws[draws.index.isin(held.index)]
    turn = draws.groupby(level=0, sort=False).cumcount().to_numpy()
    for i in range(min(count, int(turn.max(initial=-1)) + 1)):
        drawn = draws[turn == i]
        yield held.loc[drawn.index], drawn


def in_turns(draws: pd.DataFrame, count: int, *, seed: int = 0) -> pd.DataFrame:
    """Take a random draw of every row, then a second one of every row, and so on, until there are enough.

    Args:
        draws: Draws, indexed by the label of their row.
        count: How many are wanted.
        seed: Fixes which draws are taken, and which rows come last.

    Returns:
        As many draws as wanted; all of them if there are fewer.
    """
    draws = draws.sample(frac=1, random_state=seed)
    turn = draws.groupby(level=0).cumcount().to_numpy()
    return draws.iloc[np.argsort(turn, kind="stable")[:count]]


def _stratified_groups(pairs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Pair real rows with random others: folds over such pairs are random and hold as many of either kind."""
    return np.concatenate([np.arange(pairs), rng.permutation(pairs)])


def _areas(x: Floats, y: NDArray[np.int64], groups: NDArray[np.int64], trees: int, seed: int) -> list[float]:
    pairs = len(y) // 2
    if pairs < 2:
        return []
    areas = []
    for train, test in GroupKFold(min(FOLDS, pairs), shuffle=True, random_state=seed).split(x, y, groups):
        forest = RandomForestClassifier(trees, random_state=seed).fit(x[train], y[train])
        areas.append(float(roc_auc_score(y[test], forest.predict_proba(x[test])[:, 1])))
    return areas


def precision_recall(
    features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame, *, k: int = NEIGHBOURS, sets: int = SETS
) -> dict[str, float]:
    """Precision, recall, density and coverage of recipes (without their conditions), as many draws as held-out rows.

    A ball around each real recipe reaches its k-th nearest real neighbour. Precision: share of draws in some ball; density:
    number of balls a draw lies in, over k; coverage: share of balls that hold a draw; recall: share of real recipes within the
    balls of the draws. A repeated recipe would be a ball of radius 0: balls stand around distinct ones only.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        draws: Draws for these rows, indexed by the label of the row.
        k: Neighbours.
        sets: Largest number of disjoint sets of draws, which the scores are averaged over.

    References:
        Kynkaanniemi et al. (2019), Improved Precision and Recall, arXiv:1904.06991;
        Naeem et al. (2020), Reliable Fidelity and Diversity Metrics, arXiv:2002.09797
    """
    scores = [
        _neighbourhoods(features.recipe(real), features.recipe(drawn), k)
        for real, drawn in disjoint_sets(held, draws, sets)
    ]
    means = np.mean(scores, axis=0) if scores else np.full(len(NEIGHBOURHOODS), np.nan)
    return {name: float(mean) for name, mean in zip(NEIGHBOURHOODS, means, strict=True)}


def precision_recall_of_many(
    features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame, *, k: int = NEIGHBOURS
) -> dict[str, float]:
    """The scores of `precision_recall`, with all draws at once, however many.

    The balls around a few draws leave gaps: with as many draws as held-out rows even real recipes do not reach all of them. With
    more draws recall says less of their number and more of where they lie. Compare equal numbers of draws only.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        draws: Recipes; their index means nothing.
        k: Neighbours.

    Returns:
        ``precision, many draws`` and so on; NaN without draws.
    """
    scores = (float("nan"),) * len(NEIGHBOURHOODS)
    if len(held) and len(draws):
        scores = _neighbourhoods(features.recipe(held), features.recipe(draws), k)
    return {f"{name}, many draws": score for name, score in zip(NEIGHBOURHOODS, scores, strict=True)}


def _neighbourhoods(real: Floats, drawn: Floats, k: int) -> tuple[float, float, float, float]:
    real, distinct = np.unique(real, axis=0), np.unique(drawn, axis=0)
    distances, k = cdist(real, drawn), min(k, max(len(real) - 1, 1))
    inside = distances <= _radii(real, k)[:, None]
    reached = cdist(real, distinct) <= _radii(distinct, k)
    return (
        float(inside.any(axis=0).mean()),
        float(reached.any(axis=1).mean()),
        float(inside.sum(axis=0).mean() / k),
        float(inside.any(axis=1).mean()),
    )


def _radii(points: Floats, k: int) -> Floats:
    """Distance of each point to its k-th nearest other, shape ``(points,)``; to the furthest if there are fewer."""
    k = min(k, len(points) - 1)
    return np.concatenate([np.sort(cdist(points[rows], points), axis=1)[:, k] for rows in row_chunks(len(points))])


def energy_ratios(
    features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame, seen: pd.DataFrame
) -> dict[str, float]:
    """Energy distance of draws to held-out rows over that of training rows: 1 is as close as the training set.

    Counted on recipes, and on recipes with their conditions, which the draws have in common with the held-out rows. All draws
    take part: then training rows, drawn at random, have a ratio near 1.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        draws: Draws for these rows, indexed by the label of the row.
        seen: Training rows, one a recipe.
    """
    points = [(features.recipe(frame), features.conditions(frame)) for frame in (draws, seen, held)]
    out = {}
    for name, spaces in (
        ("recipe", [recipe for recipe, _ in points]),
        ("recipe and conditions", [np.column_stack(both) for both in points]),
    ):
        drawn, known, real = spaces
        floor = energy_distance(known, real)
        enough = len(drawn) > 0 and floor > 0
        out[f"energy ratio, {name}"] = energy_distance(drawn, real) / floor if enough else float("nan")
    return out


def energy_distance(x: Floats, y: Floats) -> float:
    r"""Energy distance of two samples, in the unit of the features; 0 if they are the same.

    .. math:: 2 E|X - Y| - E|X - X'| - E|Y - Y'|

    Args:
        x: Points, shape ``(A, F)``.
        y: Points, shape ``(B, F)``.

    References:
        Szekely & Rizzo (2013), Energy statistics, J. Stat. Plan. Inference 143, 1249
    """
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def _mean_distance(x: Floats, y: Floats) -> float:
    return float(sum(cdist(x[rows], y).sum() for rows in row_chunks(len(x)))) / (len(x) * len(y))


def marginals(features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame) -> dict[str, float]:
    """How far single columns of the draws are from those of held-out recipes.

    Args:
        features: Fitted on the training rows.
        held: Held-out rows, one a recipe.
        draws: All draws.

    Returns:
        Mean total variation of presences, codes and states; and mean Wasserstein-1 distance of the numbers that exist, in
        standard deviations, each column weighted by how often the held-out recipes have the number: most components are rare. A
        number that the draws never have is not counted: its presence is.
    """
    variation = _total_variation(features, held, draws)
    distances, weights = [], []
    for x, y in zip(features.numbers(held).T, features.numbers(draws).T, strict=True):
        real, drawn = x[~np.isnan(x)], y[~np.isnan(y)]
        if len(real) and len(drawn):
            distances.append(wasserstein_distance(real, drawn))
            weights.append(len(real))
    return {
        "marginals, total variation": float(variation.mean()),
        "marginals, Wasserstein-1 [sd]": float(np.average(distances, weights=weights)) if weights else float("nan"),
    }


def _total_variation(features: RecipeFeatures, held: pd.DataFrame, draws: pd.DataFrame) -> Floats:
    """Half the summed change of the probabilities of a variable's values, shape ``(variables,)``; NaN without draws."""
    variables = pd.factorize(np.array(indicator_variables(features.schema), dtype=object))[0]
    real, drawn = features.indicators(held), features.indicators(draws)
    changes, told = np.zeros((2, variables.max() + 1))
    for value in (-1.0, 1.0):
        share = (drawn == value).sum(axis=0) / (len(drawn) or np.nan)
        change = share - (real == value).mean(axis=0)
        np.add.at(changes, variables, np.abs(change))
        np.add.at(told, variables, change)
    variation: Floats = 0.5 * (changes + np.abs(told))  # the last term: absent components, unknown codes and states
    return variation
