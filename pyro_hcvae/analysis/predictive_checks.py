r"""Posterior predictive checks: what a chemist would count in a table, counted in replicated tables too.

A replicated table holds one drawn recipe for each observed one, at its conditions. With a statistic :math:`T` of a table of
recipes and :math:`S` replicated tables,

.. math::

    p = 2 \min(p_-, 1 - p_-), \qquad
    p_- = \frac{\#\{T(x^{(s)}) < T(x)\} + \tfrac12 \#\{T(x^{(s)}) = T(x)\} + \tfrac12}{S + 1}

is small where the model's tables do not look like the observed one in this respect (Gelman, Meng and Stern 1996).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.codec import step_settings, step_states
from pyro_hcvae.data.schema import Amounts, Block, Category, Column, Fractions, RecipeSchema, Step
from pyro_hcvae.errors import InputError

Floats = NDArray[np.float64]
Statistics = dict[tuple[str, str, str], float]
_QUANTILES = (0.1, 0.5, 0.9)
_FEWEST = 5
"""Recipes that must hold a component before anything is said of its amounts."""
_PAIRS = 15
_BINS = 5


def predictive_checks(
    schema: RecipeSchema,
    observed: pd.DataFrame,
    draws: pd.DataFrame,
    *,
    predict: Callable[[pd.DataFrame], Floats] | None = None,
) -> pd.DataFrame:
    """Compare an observed table with replicated ones.

    Counted are: how many components there are of each kind and in all how much; which are there, and which pairs; amounts and
    shares of the frequent ones; codes; how steps were done, and their settings; and, with ``predict``, the performance against
    each tested range of the first condition (the temperature, in the built-in schema).

    Args:
        schema: Meaning of the columns.
        observed: Rows of a table, one a recipe.
        draws: ``S`` recipes for each of its rows with their conditions, indexed by it, in any order of the rows.
        predict: Performance of recipes under their conditions, ``rows -> (B,)``, from a predictor that is independent of the
            generator; None: the performance is left out.

    Returns:
        One row a statistic: ``check``, ``item``, ``unit``, ``observed``, ``mean`` and ``low 5 %``, ``high 95 %`` of the
        replicated tables, ``p``, and ``z``, how many standard deviations of the replicated tables the observed one lies above
        their mean (NaN where they all agree).

    Raises:
        InputError: If there are not at least two draws, and as many for each row.
    """
    counts = draws.index.value_counts()
    size = int(counts.max()) if len(counts) else 0
    if size < 2 or set(counts) != {size} or set(counts.index) != set(observed.index):
        raise InputError("predictive checks need as many draws for every observed row, and at least two")
    names = [*schema.recipe_columns, *schema.condition_columns, schema.performance.name]
    drawn = draws[names].loc[observed.index]  # row by row, S in succession
    # Of measured recipes the performance is the measured one; of drawn ones it can only be predicted.
    performance = None if predict is None else predict(drawn)
    count = _Counter(schema, observed)
    truth = count(observed, observed[schema.performance.name].to_numpy(np.float64) if predict else None)
    replicated: list[Statistics] = []
    for s in range(size):
        table = drawn.iloc[s::size]
        replicated.append(count(table, None if performance is None else performance[s::size]))
    rows = [_compare(key, value, np.array([r.get(key, np.nan) for r in replicated])) for key, value in truth.items()]
    return pd.DataFrame([row for row in rows if row is not None])


class _Counter:
    """The statistics of a table; which components and pairs are worth counting was seen in the observed one."""

    def __init__(self, schema: RecipeSchema, observed: pd.DataFrame) -> None:
        self._schema = schema
        self._pairs: dict[str, list[tuple[int, int]]] = {}
        self._order: dict[str, list[int]] = {}
        for block in schema.blocks:
            if isinstance(block, Amounts | Fractions):
                present = _values(block, observed) > 0
                self._order[block.name] = np.argsort(-present.sum(axis=0), kind="stable").tolist()
                both = (present.T.astype(np.int64) @ present).astype(np.int64)
                pairs = [p for p in combinations(range(len(block.columns)), 2) if both[p] > 0]
                pairs.sort(key=lambda p: -both[p])
                self._pairs[block.name] = pairs[:_PAIRS]
        self._condition, self._edges = _edges(schema, observed)

    def __call__(self, frame: pd.DataFrame, performance: Floats | None) -> Statistics:
        out: Statistics = {}
        for block in self._schema.blocks:
            match block:
                case Amounts() | Fractions():
                    out |= dict(self._components(block, frame))
                case Category():
                    for code in block.codes:
                        label = block.labels.get(str(code), str(code))
                        out[f"{block.name}", label, "share of recipes"] = float((frame[block.column] == code).mean())
                case Step():
                    out |= dict(_step(block, frame))
        if performance is not None and self._condition is not None:
            out |= dict(self._performance(frame, performance))
        return out

    def _components(
        self, block: Amounts | Fractions, frame: pd.DataFrame
    ) -> Iterator[tuple[tuple[str, str, str], float]]:
        values, columns = _values(block, frame), block.columns
        present = values > 0
        sizes = present.sum(axis=1)
        for k in block.set_sizes:
            yield (f"number of {block.name}", str(k), "share of recipes"), float((sizes == k).mean())
        if isinstance(block, Amounts):  # shares of a whole always have the same total
            for q in _QUANTILES:
                total = float(np.quantile(values.sum(axis=1), q))
                yield (f"total {block.name}", f"{100 * q:.0f} % quantile", block.unit), total
        for j in self._order[block.name]:
            column = columns[j]
            yield (f"{block.name}: present", column, "share of recipes"), float(present[:, j].mean())
            if present[:, j].sum() >= _FEWEST:
                yield (
                    (f"{block.name}: median where present", column, block.unit),
                    float(np.median(values[present[:, j], j])),
                )
        for i, j in self._pairs[block.name]:
            share = float((present[:, i] & present[:, j]).mean())
            yield (f"{block.name}: pairs", f"{columns[i]} + {columns[j]}", "share of recipes"), share

    def _performance(self, frame: pd.DataFrame, performance: Floats) -> Iterator[tuple[tuple[str, str, str], float]]:
        assert self._condition is not None
        here, measured = self._condition, self._schema.performance
        bins = np.searchsorted(self._edges, frame[here.name].to_numpy(np.float64), side="right")
        limits = [
            f"below {self._edges[0]:g}",
            *(f"{a:g} to {b:g}" for a, b in zip(self._edges, self._edges[1:], strict=False)),
        ]
        limits += [f"from {self._edges[-1]:g}"]
        for number, label in enumerate(limits):
            inside = bins == number
            if inside.sum() >= _FEWEST:
                yield (
                    (f"mean {measured.name} against {here.name}", f"{label} {here.unit}".rstrip(), measured.unit),
                    float(performance[inside].mean()),
                )


def _step(block: Step, frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], float]]:
    states, settings = step_states(frame, block), step_settings(block, frame)
    for number, state in enumerate(block.states):
        if len(block.states) > 1:
            yield (block.name, state, "share of recipes"), float((states == number).mean())
    for column, values in zip(block.columns, settings.T, strict=True):
        known = values[np.isfinite(values)]
        if len(known) >= _FEWEST:
            for q in _QUANTILES:
                yield (column.name, f"{100 * q:.0f} % quantile", column.unit), float(np.quantile(known, q))


def _values(block: Block, frame: pd.DataFrame) -> Floats:
    values: Floats = np.nan_to_num(frame[list(block.names())].to_numpy(np.float64))
    return values


def _edges(schema: RecipeSchema, observed: pd.DataFrame) -> tuple[Column | None, Floats]:
    """The condition against which performance is looked at, and the limits of its ranges."""
    named = schema.reaction.temperature if schema.reaction is not None else None
    columns = [c for c in schema.conditions if c.name == named] or list(schema.conditions[:1])
    if not columns:
        return None, np.empty(0)
    values = observed[columns[0].name].dropna().to_numpy(np.float64)
    edges: Floats = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS)) if len(values) else values
    return (columns[0], edges) if len(edges) else (None, edges)


def _compare(key: tuple[str, str, str], value: float, replicated: Floats) -> dict[str, object] | None:
    """One row of the result; None where fewer than two replicated tables have the statistic, or nothing was counted."""
    replicated = replicated[np.isfinite(replicated)]
    if len(replicated) < 2 or (value == 0 and not replicated.any()):
        return None
    below = float((replicated < value).sum() + 0.5 * (replicated == value).sum() + 0.5) / (len(replicated) + 1)
    low, high = np.quantile(replicated, (0.05, 0.95))
    check, item, unit = key
    return {
        "check": check, "item": item, "unit": unit, "observed": value, "mean": float(replicated.mean()),
        "low 5 %": float(low), "high 95 %": float(high), "p": min(1.0, 2 * min(below, 1 - below)),
        "z": (value - replicated.mean()) / sd if (sd := float(replicated.std(ddof=1))) > 0 else np.nan,
    }  # fmt: skip
