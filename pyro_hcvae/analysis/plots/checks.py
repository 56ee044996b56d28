"""Posterior predictive checks and calibration."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.style import DRAWN, REAL, axis_label

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
        curves: Rows of `pyro_hcvae.evaluation.curves.coverage_curve` with the ``quantity`` that they are of.
    """
    figure, panels = _squares(list(curves["quantity"].unique()))
    for name, axes in panels.items():
        rows = curves[curves["quantity"] == name].sort_values("level")
        axes.fill_between(rows["level"], rows["low"], rows["high"], color="0.85", lw=0)
        axes.plot([0, 1], [0, 1], color="0.5", lw=1, ls="--")
        axes.plot(rows["level"], rows["inside"], "o-", color=DRAWN, ms=3, lw=1.2)
        axes.set_title(name)
        axes.set(xlim=(0, 1), ylim=(0, 1))
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


def growth(parts: pd.DataFrame, name: str, unit: str) -> Figure:
    """The epistemic part for known and for left-out groups, as distribution functions.

    Args:
        parts: One row a recipe: ``group`` and ``value``.
        name: What the value is.
        unit: Its unit.
    """
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for (group, rows), dash, color in zip(
        parts.groupby("group", sort=False), ("-", "--", ":"), (REAL, DRAWN, "0.5"), strict=False
    ):
        x = np.sort(rows["value"].to_numpy(np.float64))
        axes.step(x, np.arange(1, len(x) + 1) / len(x), where="post", ls=dash, color=color, label=f"{group} ({len(x)})")
    axes.set(xlabel=axis_label(name, unit), ylabel="share of recipes below", ylim=(0, 1.01))
    axes.legend(loc="lower right")
    return figure
