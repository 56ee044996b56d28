"""Cross-validation by recipe, composition or laboratory, of the designer and of whatever else generates recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import process_time

import pandas as pd

from pyro_hcvae.data.splits import Grouping, Part, folds, groups_of, in_part
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.fold import Fold
from pyro_hcvae.evaluation.generators import Designer, Generator

Score = float | int | str
REAL = "real recipes"
"""Name of the row that holds what real recipes reach."""


def split_folds(
    table: RecipeTable, by: Grouping, count: int, seeds: Sequence[int], part: Part = "all"
) -> Iterator[tuple[int, int, Fold]]:
    """Seed, number and contents of every fold; each seed shuffles the groups anew.

    Args:
        table: All rows.
        by: What is never cut in two.
        count: Folds of each seed.
        seeds: Repetitions.
        part: Which of the held-out rows are scored (`in_part`); the others of a fold are neither learned from nor scored.

    Raises:
        InputError: If there are fewer groups than folds, or if a fold holds fewer than two rows to score.
    """
    groups, scored = groups_of(table, by), in_part(table, part)
    split = [(seed, *fold) for seed in seeds for fold in enumerate(folds(groups, count, seed=seed))]
    for seed, number, (_, test) in split:  # all of them, before anything is fitted on one
        if (left := int(scored[test].sum())) < 2:
            raise InputError(
                f"fold {number} of seed {seed} holds {left} row(s) of part {part!r}: too few to score; "
                "use fewer folds, or part 'all'"
            )
    for seed, number, (train, test) in split:
        yield seed, number, Fold(table.select(train), table.select(test[scored[test]]), table, 1000 * seed + number)


def cross_validate(
    table: RecipeTable,
    generators: Mapping[str, Callable[[], Generator]],
    *,
    by: Grouping = "recipe",
    folds_count: int = 5,
    seeds: Sequence[int] = (0,),
    part: Part = "all",
    draws_per_row: int = 20,
    repaired: bool = False,
) -> Iterator[dict[str, Score]]:
    """Fit every generator on all folds but one, and score its unfiltered draws for the conditions of that one.

    Nothing about a test fold enters scales, early stopping or settings of a fit.

    Args:
        table: All rows.
        generators: Makes each generator anew, by name.
        by: What is never cut in two.
        folds_count: Folds of each seed.
        seeds: Repetitions; each shuffles the folds anew and seeds the fits.
        part: Which of the held-out rows are scored.
        draws_per_row: Draws for each held-out recipe; 0: only what a generator with a density says of the held-out recipes.
        repaired: Whether to score the draws of baselines a second time, as `Repair` leaves them.

    Yields:
        Scores of one generator on one fold, with ``generator``, ``seed`` and ``fold``; and of `REAL`, what real recipes reach.
    """
    for make in generators.values():
        make()  # what a generator lacks is said before anything is fitted
    for seed, number, fold in split_folds(table, by, folds_count, seeds, part):
        here: dict[str, Score] = {"seed": seed, "fold": number}
        if draws_per_row:
            yield {"generator": REAL, **here, **fold.score_real_recipes()}
        for name, make in generators.items():
            started = process_time()
            generator = make().fit(fold.train, seed=1000 * seed)
            scores: dict[str, float] = {"fit [s of one core]": process_time() - started}
            draws = generator.sample(fold.conditions, draws_per_row, seed=fold.seed) if draws_per_row else None
            if draws is not None:
                scores |= fold.score(draws)
            if isinstance(generator, Designer):
                scores |= generator.own_scores(fold)
            yield {"generator": name, **here, **scores}
            if repaired and draws is not None and not isinstance(generator, Designer):
                yield {"generator": f"{name}, repaired", **here, **fold.score(fold.repair(draws))}


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of each score over folds and seeds, for each generator.

    A share that a fold lacks ("broken: ...") counts as 0; any other missing score is left out of the mean.

    Returns:
        Index ``(generator, score)``, columns ``mean`` and ``sd``; generators in the order of their first row.
    """
    values = scores.drop(columns=["seed", "fold", "by", "part"], errors="ignore")
    broken = [name for name in values.columns if str(name).startswith("broken: ")]
    values[broken] = values[broken].fillna(0.0)
    long = values.melt("generator", var_name="score").dropna(subset="value")
    long["value"] = long["value"].astype(float)
    summary = long.groupby(["generator", "score"], sort=False)["value"].agg(["mean", "std"])
    return summary.rename(columns={"std": "sd"})
