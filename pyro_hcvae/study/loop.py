"""The closed loop: propose, measure, learn, and propose again, on a laboratory whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.errors import InputError
from pyro_hcvae.study.space import RecipeSpace
from pyro_hcvae.study.strategies import Strategy

Floats = NDArray[np.float64]
COLUMNS = (
    "round", "experiments", "best true", "regret", "batch mean true", "batch best true", "best measured", "valid", "cpu_s",
)  # fmt: skip
"""Of a record. ``best true`` so far, among all recipes of the table at the conditions; ``regret``: what it lacks of the
optimum; ``best measured`` among the proposals; ``valid``: share of the batch that could be measured; ``cpu_s``: processor time
of a proposal. In the unit of the performance; NaN where there is none."""


class Laboratory(Protocol):
    """Whatever measures recipes."""

    def measure(self, frame: pd.DataFrame, *, seed: np.random.Generator) -> Floats:
        """Measured performance of rows of recipe and condition columns, with noise, shape ``(rows,)``."""
        ...

    def truth(self, frame: pd.DataFrame) -> Floats:
        """The same without noise, by which a loop is judged and which no strategy sees; NaN where nobody knows."""
        ...


def run_loop(
    strategy: Strategy,
    laboratory: Laboratory,
    start: RecipeTable,
    conditions: Mapping[str, float],
    *,
    rounds: int,
    batch: int,
    seed: int,
    optimum: float = np.nan,
) -> Iterator[dict[str, float]]:
    """Run rounds of proposing, measuring and learning.

    What a strategy proposes against the rules of `Strategy.propose` is not measured, and its place in the batch is lost.

    Args:
        strategy: Proposes, from the table alone.
        laboratory: Measures.
        start: Experiments before the first round.
        conditions: Value of every condition column at which proposals are measured.
        rounds: Number of rounds.
        batch: Recipes measured in each.
        seed: Fixes proposals and noise.
        optimum: Best true performance that there is, or an estimate of it (`estimate_optimum`).

    Yields:
        One record a round with `COLUMNS`, round 0 being the start.

    Raises:
        InputError: If a count is below 1.
    """
    for name, value in (("rounds", rounds), ("batch", batch)):
        if value < 1:
            raise InputError(f"{name} is {value}: give a whole number of 1 or more")
    schema = start.schema
    space, performance = RecipeSpace(schema, dict(conditions)), schema.performance
    best_of = np.fmax.reduce if performance.higher_is_better else np.fmin.reduce
    noise = np.random.default_rng([seed, 1])
    table = start

    def record(number: int, **values: float) -> dict[str, float]:
        everything = {
            "round": number,
            "experiments": len(table),
            "best true": best,
            "regret": abs(optimum - best),
            **values,
        }
        return {name: everything.get(name, np.nan) for name in COLUMNS}

    best = float(best_of(laboratory.truth(space.at_conditions(start.frame.drop_duplicates(space.columns)))))
    best_measured = np.nan
    yield record(0)
    for number in range(1, rounds + 1):
        began = time.process_time()
        proposed = strategy.propose(table, conditions, batch, seed=1000 * seed + number)
        cpu_s = time.process_time() - began
        accepted = space.new(proposed[is_valid(proposed, schema)], table.frame).head(batch)
        values = {"valid": len(accepted) / batch, "cpu_s": cpu_s}
        if len(accepted):
            rows = space.at_conditions(accepted)
            true = laboratory.truth(rows)
            rows[performance.name] = laboratory.measure(rows, seed=noise)
            frame = pd.concat([table.frame[list(schema.columns)], rows[list(schema.columns)]], ignore_index=True)
            table = RecipeTable.from_frame(frame, schema, source=start.report.source)
            best = float(best_of([best, best_of(true)]))
            best_measured = float(best_of([best_measured, best_of(rows[performance.name].to_numpy(np.float64))]))
            values |= {"batch mean true": float(true.mean()), "batch best true": float(best_of(true))}
        yield record(number, **{"best measured": best_measured}, **values)


def summarise(rounds: pd.DataFrame) -> pd.DataFrame:
    """One row a strategy, the best first: means over seeds, and standard deviations of what matters most.

    Args:
        rounds: Records of `run_loop` with the columns ``strategy`` and ``seed`` beside them.
    """
    last = rounds[rounds["round"] == rounds["round"].max()].groupby("strategy")
    going = rounds[rounds["round"] > 0].groupby("strategy")
    table = pd.DataFrame({
        "seeds": last.size(),
        "best true": last["best true"].mean(),
        "best true, sd": last["best true"].std(),
        "regret": last["regret"].mean(),
        "regret, mean of all rounds": going["regret"].mean(),
        "batch mean true": going["batch mean true"].mean(),
        "valid": going["valid"].mean(),
        "cpu_s a round": going["cpu_s"].mean(),
    })  # fmt: skip
    return table.sort_values("regret")


def estimate_optimum(
    laboratory: Laboratory,
    space: RecipeSpace,
    pool: pd.DataFrame,
    *,
    generations: int = 20,
    parents: int = 100,
    children: int = 600,
    seed: int = 0,
) -> float:
    """Best true performance that a long search in the truth itself finds: an ESTIMATE of the optimum, never above it.

    A large random pool, then generations of mutations and recombinations of the best (`RecipeSpace.mutate`,
    `RecipeSpace.recombine`), each keeping the best of old and new.

    Args:
        laboratory: Knows the truth.
        space: Recipes that count.
        pool: Many recipes to start from.
        generations: Of the search.
        parents: Best recipes that have children.
        children: Of each generation.
        seed: Fixes the search.
    """
    rng, like = np.random.default_rng(seed), pool
    sign = 1 if space.schema.performance.higher_is_better else -1
    best = space.new(pool, pool.iloc[:0])
    value = sign * laboratory.truth(space.at_conditions(best))
    for _ in range(generations):
        order = np.argsort(-value, kind="stable")[:parents]
        best, value = best.iloc[order], value[order]
        drawn = [
            space.mutate(best, 3 * children // 4, rng, like=like),
            space.recombine(best, children - 3 * children // 4, rng),
        ]
        born = space.new(pd.concat(drawn, ignore_index=True), best)
        best = pd.concat([best, born], ignore_index=True)
        value = np.concatenate([value, sign * laboratory.truth(space.at_conditions(born))])
    return float(sign * value.max())
