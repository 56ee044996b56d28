"""Proposed recipes with their uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.style import DRAWN, HATCHES, without_axes

_SHADES = ("0.9", "0.65", "0.35")


def amounts(intervals: pd.DataFrame) -> Figure:
    """Proposed numbers beside the 90 % credible intervals of recipes like this one, one panel a unit.

    Args:
        intervals: Rows of one recipe of `Proposals.intervals`: ``column``, ``value``, ``unit``, ``probability`` that it is
            there, ``low`` and ``high``.
    """
    known = intervals[intervals["low"].notna() & (intervals["high"] > intervals["low"])]
    units = list(dict.fromkeys(known["unit"].fillna("")))
    figure = Figure(figsize=(5.6, 0.5 + 0.26 * len(known) + 0.55 * len(units)), layout="constrained")
    if not units:
        without_axes(figure.subplots(), "no number of this recipe can vary")
        return figure
    rows = [known[known["unit"].fillna("") == unit] for unit in units]
    panels = figure.subplots(len(units), 1, squeeze=False, gridspec_kw={"height_ratios": [len(x) for x in rows]})
    for axes, unit, some in zip(panels[:, 0], units, rows, strict=True):
        _forest(axes, some, unit)
    return figure


def _forest(axes: Axes, rows: pd.DataFrame, unit: str) -> None:
    place = np.arange(len(rows))
    axes.hlines(place, rows["low"], rows["high"], color=DRAWN, lw=3, alpha=0.6)
    axes.plot(rows["value"].astype(float), place, "D", color="black", mfc="white", ms=5, mew=1.2)
    names = [
        name if pd.isna(p) else f"{name} (P = {p:.2f})"
        for name, p in zip(rows["column"], rows["probability"], strict=True)
    ]
    axes.set_yticks(place, names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel(unit or "no unit", labelpad=1)
    axes.grid(axis="y", visible=False)


def variance_shares(parts: pd.DataFrame) -> Figure:
    """Where the spread of each number comes from, as stacked shares.

    Args:
        parts: One row a number: ``label``, and its ``aleatoric``, ``latent`` and ``epistemic`` part of the variance.
    """
    names = ("aleatoric", "latent", "epistemic")
    figure = Figure(figsize=(6.4, 0.9 + 0.22 * len(parts)), layout="constrained")
    axes = figure.subplots()
    values = np.nan_to_num(parts[list(names)].to_numpy(np.float64))
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
    left = np.zeros(len(parts))
    for number, (name, shade) in enumerate(zip(names, _SHADES, strict=True)):
        axes.barh(
            np.arange(len(parts)), share[:, number], left=left, color=shade, hatch=HATCHES[number], edgecolor="black",
            lw=0.5, label=name,
        )  # fmt: skip
        left = left + share[:, number]
    axes.set_yticks(np.arange(len(parts)), parts["label"])
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the uncertainty")
    axes.grid(axis="y", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
