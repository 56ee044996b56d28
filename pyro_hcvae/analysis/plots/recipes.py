"""What recipes hold, in the table and in the model's draws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_hcvae.analysis.plots.style import DRAWN, REAL, axis_label
from pyro_hcvae.data.schema import Amounts, Column, Fractions, RecipeSchema

Floats = NDArray[np.float64]
_BINS, _MOST = 4, 14


def presence_heatmap(schema: RecipeSchema, observed: pd.DataFrame, draws: pd.DataFrame) -> Figure:
    """How often components are there, by the performance that was asked for: the table beside the model.

    Args:
        schema: Meaning of the columns.
        observed: One row a recipe.
        draws: Recipes for the same conditions, indexed by their row in ``observed``.
    """
    measured = schema.performance
    edges: Floats = np.unique(np.quantile(observed[measured.name].to_numpy(np.float64), np.linspace(0, 1, _BINS + 1)))
    ranges = [f"{a:.0f} to {b:.0f}" for a, b in pairwise(edges)] or [f"{edges[0]:.0f}"]
    blocks = [b for b in schema.blocks if isinstance(b, Amounts | Fractions)]
    shown = {b.name: _most_frequent(b, observed) for b in blocks}
    figure = Figure(figsize=(8.0, 1.6 + 0.22 * sum(map(len, shown.values()))), layout="constrained")
    grid = figure.subplots(
        len(blocks), 2, squeeze=False, gridspec_kw={"height_ratios": [max(1, len(x)) for x in shown.values()]}
    )
    image = None
    for (left, right), block in zip(grid, blocks, strict=True):
        columns = shown[block.name]
        for axes, frame, title in ((left, observed, "table"), (right, draws, "model")):
            share = _shares(frame, columns, frame[measured.name].to_numpy(np.float64), edges)
            image = axes.imshow(share, aspect="auto", cmap="Greys", vmin=0, vmax=1)
            for (i, j), value in np.ndenumerate(share):
                text = "" if np.isnan(value) else f"{100 * value:.0f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if value > 0.55 else "black")
            axes.grid(visible=False)
            axes.set_yticks(range(len(columns)), columns if axes is left else [""] * len(columns))
            axes.set_xticks(range(len(ranges)), ranges)
            axes.set_title(f"{block.name}: {title}")
            axes.tick_params(length=0)
    for axes in grid[-1]:
        axes.set_xlabel(axis_label(measured.name, measured.unit))
    if image is not None:
        figure.colorbar(image, ax=grid, label="recipes that hold it [share; numbers: %]", shrink=0.5)
    return figure


def novelty(known: Floats, drawn: Floats) -> Figure:
    """How far recipes are from the nearest other known one: drawn ones beside those of the table.

    Args:
        known: Distance of each recipe of the table to the nearest other recipe of it, shape ``(B,)``.
        drawn: Distance of each draw to the nearest recipe of the table, shape ``(N,)``; 0: it is one of them.
    """
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for values, label, color, dash in (
        (known, "table: to the nearest other recipe", REAL, "--"),
        (drawn, "model: to the nearest recipe of the table", DRAWN, "-"),
    ):
        x, share = np.sort(values), np.arange(1, len(values) + 1) / len(values)
        axes.step(np.r_[0.0, x], np.r_[0.0, share], where="post", label=label, color=color, ls=dash)
    largest = float(np.quantile(np.r_[known, drawn], 0.98))
    axes.set(
        xlim=(-0.02 * largest, largest or 1.0),
        ylim=(0, 1.01),
        xlabel="distance [1 for each other component, code or step; numbers in sd]",
        ylabel="share of recipes at most so far",
    )
    axes.legend(loc="lower right")
    return figure


def conversion(
    schema: RecipeSchema,
    observed: pd.DataFrame,
    predicted: pd.DataFrame,
    curves: pd.DataFrame | None,
    proposals: pd.DataFrame | None = None,
) -> Figure:
    """Performance against a condition: measured, predicted of drawn recipes, proposed, and what equilibrium allows.

    Args:
        schema: Meaning of the columns.
        observed: Rows of the table.
        predicted: Columns of the condition and ``mean``, one row a draw.
        curves: Columns ``temperature``, ``without carbon``, ``with graphite`` and their ranges over the feeds of the table
            (``... low``, ``... high``), in the units of the schema; None where equilibrium says nothing.
        proposals: The condition, ``mean``, ``low`` and ``high`` of proposed recipes.
    """
    measured, where = schema.performance, shown_condition(schema)
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, frame, column, color, title in (
        (left, observed, measured.name, REAL, "measured"),
        (right, predicted, "mean", DRAWN, "draws of the model, as the independent predictor judges them"),
    ):
        axes.plot(
            frame[where.name], frame[column], ".", color=color, ms=3.5, alpha=min(1.0, max(0.2, 900 / max(1, len(frame)))), mew=0,
            rasterized=len(frame) > 3000,
        )  # fmt: skip
        if curves is not None:
            for name, dash in (("without carbon", "-"), ("with graphite", "--")):
                axes.plot(
                    curves["temperature"], curves[name], color="black", ls=dash, lw=1.3, label=f"equilibrium {name}"
                )
                axes.fill_between(
                    curves["temperature"],
                    curves[f"{name} low"],
                    curves[f"{name} high"],
                    color="black",
                    alpha=0.07,
                    lw=0,
                )
        axes.set_title(title)
        axes.set_xlabel(axis_label(where.name, where.unit))
    if proposals is not None and proposals["mean"].notna().any():
        spread = proposals["mean"].to_numpy(np.float64)
        x = proposals[where.name].to_numpy(np.float64)
        # Proposals share their conditions: side by side, they can be told apart.
        x = x + np.linspace(-0.5, 0.5, len(x)) * 0.03 * float(np.ptp(observed[where.name]) or 1.0)
        bars = np.abs(np.stack([proposals["low"], proposals["high"]]) - spread)
        right.errorbar(
            x, spread, yerr=bars, fmt="D", color="black", mfc="white", ms=4, lw=0.8, label="proposals, 90 % interval"
        )
    left.set_ylabel(axis_label(measured.name, measured.unit))
    right.legend(loc="lower right") if right.get_legend_handles_labels()[0] else None
    return figure


def shown_condition(schema: RecipeSchema) -> Column:
    """The condition that performance is shown against: the reaction's temperature, or the first one.

    Raises:
        ValueError: If the schema has no condition columns.
    """
    named = schema.reaction.temperature if schema.reaction is not None else ""
    for column in sorted(schema.conditions, key=lambda c: c.name != named):
        return column
    raise ValueError(f"schema {schema.name!r} has no condition to show the performance against")


def _most_frequent(block: Amounts | Fractions, observed: pd.DataFrame) -> list[str]:
    present = (observed[list(block.columns)] > 0).sum().sort_values(ascending=False, kind="stable")
    return [str(name) for name in present.index[present > 0][:_MOST]]


def _shares(frame: pd.DataFrame, columns: list[str], performance: Floats, edges: Floats) -> Floats:
    """Share of rows with each component in each range of the performance, shape ``(columns, ranges)``."""
    bins = np.searchsorted(edges[1:-1], performance, side="right")
    present = frame[columns].to_numpy(np.float64) > 0
    count = max(1, len(edges) - 1)
    return np.stack(
        [present[bins == k].mean(axis=0) if (bins == k).any() else np.full(len(columns), np.nan) for k in range(count)],
        axis=1,
    )
