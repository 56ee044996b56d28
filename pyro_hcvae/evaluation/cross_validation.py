"""Cross-validation by recipe, composition or laboratory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from pyro_hcvae.data.splits import Grouping, folds, groups_of
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import OnInterval, RecipeDesigner
from pyro_hcvae.evaluation.reconstruction import (
    held_out_density,
    one_row_per_recipe,
    rates,
    reconstruction_r2,
    validity_of_draws,
)
from pyro_hcvae.inference.config import RunConfig


def cross_validate(
    table: RecipeTable,
    config: RunConfig,
    *,
    by: Grouping = "recipe",
    folds_count: int = 5,
    seeds: Sequence[int] = (0,),
    draws: int = 256,
    on_interval: OnInterval = lambda trainer: None,
    device: str = "auto",
) -> Iterator[dict[str, float]]:
    """Fit on all folds but one, and score that one; each seed shuffles the folds anew and seeds the training.

    Nothing about a test fold enters scales, early stopping or settings of its fit.

    Args:
        table: All rows.
        config: Settings of every fit (its seed is replaced).
        by: What is never cut in two.
        folds_count: Folds of each seed.
        seeds: Repetitions.
        draws: Importance draws of the densities.
        on_interval: Called after each interval of each training.
        device: ``auto``, ``cpu`` or ``cuda``.

    Yields:
        Scores of one fold, with ``seed`` and ``fold``.
    """
    groups = groups_of(table, by)
    for seed in seeds:
        train_config = config.train.model_copy(update={"seed": 1000 * seed})
        for fold, (train, test) in enumerate(folds(groups, folds_count, seed=seed)):
            designer = RecipeDesigner(table.schema, model=config.model, train=train_config)
            designer.fit(table.select(train), on_interval=on_interval, device=device)
            held = one_row_per_recipe(table.select(test), seed=seed)
            seen = one_row_per_recipe(table.select(train), seed=seed)
            seen_density = held_out_density(designer, seen, draws=draws, seed=seed)["log p recipe [nats]"]
            yield {
                "seed": seed,
                "fold": fold,
                **held_out_density(designer, held, draws=draws, seed=seed),
                "log p recipe, training [nats]": seen_density,
                **rates(designer, held, seed=seed),
                **reconstruction_r2(designer, held, seed=seed),
                **validity_of_draws(designer, held, seed=seed),
            }


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of each score over folds and seeds; a score that a fold lacks counts as 0."""
    values = scores.drop(columns=["seed", "fold"]).fillna(0.0)
    return pd.DataFrame({"mean": values.mean(), "sd": values.std(ddof=1)})
