"""Posterior predictive checks and calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.style import COLORS, DASHES, DRAWN, MARKERS, REAL

_COLUMNS = 3
_MOST = 12


def predictive_checks(checks: pd.DataFrame) -> Figure:
    """Observed statistics (marks) beside those of replicated tables (bars: 90 % interval), one panel a check.

    Args:
        checks: Result of `pyro_hcvae.analysis.predictive_checks.predictive_checks`.
    """
    groups = [(name, rows.head(_MOST)) for name, rows in checks.groupby("check", sort=False)]
    lines = math.ceil(len(groups) / _COLUMNS)
    tallest = [max(len(rows) for _, rows in groups[k * _COLUMNS : (k + 1) * _COLUMNS]) for k in range(lines)]
    figure = Figure(figsize=(12, sum(0.95 + 0.2 * n for n in tallest)), layout="constrained")
    panels = figure.subplots(lines, _COLUMNS, squeeze=False, gridspec_kw={"height_ratios": [n + 3 for n in tallest]})
    for axes, (name, rows) in zip(panels.ravel(), groups, strict=False):
        _check(axes, str(name), rows)
    for axes in panels.ravel()[len(groups) :]:
        axes.remove()
    return figure


def _check(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    place = np.arange(len(rows))
    axes.hlines(place, rows["low 5 %"], rows["high 95 %"], color=DRAWN, lw=4, alpha=0.45)
    axes.plot(rows["mean"], place, "|", color=DRAWN, ms=8, mew=1.5)
    outside = (rows["observed"] < rows["low 5 %"]) | (rows["observed"] > rows["high 95 %"])
    for some, face in ((outside, "black"), (~outside, "white")):
        axes.plot(rows["observed"][some], place[some], "o", color="black", mfc=face, ms=4.5)
    axes.set_yticks(place, rows["item"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(name)
    axes.set_xlabel(str(rows["unit"].iloc[0]) or "no unit", labelpad=1)
    axes.grid(axis="y", visible=False)


def coverage_curves(curves: pd.DataFrame) -> Figure:
    """Share of truths inside central intervals against what the intervals promise.

    Args:
        curves: Rows of `pyro_hcvae.evaluation.curves.coverage_curve` with the ``quantity`` that they are of; and ``intervals``,
            where there are several kinds for each quantity, the band being that of the first.
    """
    figure, panels = _squares(list(curves["quantity"].unique()))
    for name, axes in panels.items():
        rows = curves[curves["quantity"] == name].sort_values("level")
        kinds = list(rows.groupby("intervals", sort=False)) if "intervals" in rows else [("", rows)]
        band = kinds[0][1]
        axes.fill_between(band["level"], band["low"], band["high"], color="0.85", lw=0)
        axes.plot([0, 1], [0, 1], color="0.5", lw=1, ls="--")
        for (kind, some), mark, color in zip(kinds, MARKERS, (DRAWN, *COLORS), strict=False):
            axes.plot(some["level"], some["inside"], ls="-", marker=mark, color=color, ms=3, lw=1.2, label=str(kind))
        axes.set_title(name)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    if "intervals" in curves:
        figure.legend(*next(iter(panels.values())).get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.supxlabel("promised share (nominal level of the interval)", fontsize=9)
    figure.supylabel("share found inside", fontsize=9)
    return figure


def reliability(table: pd.DataFrame) -> Figure:
    """How often what was given a probability was there.

    Args:
        table: Rows of `pyro_hcvae.evaluation.curves.reliability` with the ``block`` that they are of.
    """
    figure, panels = _squares(list(table["block"].unique()))
    for name, axes in panels.items():
        rows = table[table["block"] == name].sort_values("probability")
        axes.plot([0, 1], [0, 1], color="0.5", lw=1, ls="--")
        axes.vlines(rows["probability"], rows["low"], rows["high"], color="0.75", lw=5)
        size = 8 + 60 * np.sqrt(rows["n"] / rows["n"].max())
        axes.scatter(rows["probability"], rows["frequency"], s=size, color=REAL, marker="o", fc="none")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), title=name)
    figure.supxlabel("probability (area of a mark: how many predictions)", fontsize=9)
    figure.supylabel("how often it was there", fontsize=9)
    return figure


def _squares(names: list[str]) -> tuple[Figure, dict[str, Axes]]:
    """Square panels that share their axes, at most four in a line, by name."""
    width = min(len(names), 4)
    lines = math.ceil(len(names) / width)
    figure = Figure(figsize=(2.7 * width, 2.9 * lines), layout="constrained")
    every = figure.subplots(lines, width, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in every[len(names) :]:
        axes.remove()
    return figure, dict(zip(names, every, strict=False))


def growth(rows: pd.DataFrame, scores: Mapping[str, str]) -> Figure:
    """How certain the model is of known and of left-out groups: distribution functions of scores, one panel a score.

    Args:
        rows: One row a recipe: ``group`` and a column for each score.
        scores: What the axis of each score says, with its unit.
    """
    figure = Figure(figsize=(3.1 * len(scores), 3.2), layout="constrained")
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, (score, label) in zip(panels, scores.items(), strict=True):
        for (group, some), dash, color in zip(
            rows.groupby("group", sort=False), DASHES, (REAL, DRAWN, *COLORS), strict=False
        ):
            x = np.sort(some[score].dropna().to_numpy(np.float64))
            share = np.arange(1, len(x) + 1) / len(x)
            axes.step(x, share, where="post", ls=dash, color=color, label=f"{group} ({len(x)})")
        axes.set(xlabel=label, xlim=(0, float(rows[score].quantile(0.97)) or None), ylim=(0, 1.01))
    panels[0].set_ylabel("share of recipes below")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
