"""Scores of generators side by side, and the rate-distortion curve."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.cross_validation import REAL

OURS = "hcvae"
COPIES = ("marginal", "nearest", "nearest-jittered", "forest-donor")
PANELS = {
    "valid": "valid draws (share)",
    "C2ST AUC, jittered": "C2ST AUC, jittered\n(0.5: like real)",
    "C2ST AUC, structure": "C2ST AUC, structure\n(0.5: like real)",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "energy ratio, recipe and conditions": "energy ratio with\nconditions (lower: nearer)",
    "novel, valid and unique": "novel, valid and\nunique (share of draws)",
    "adherence partial r": "adherence,\npartial correlation",
}


def peers(scores: pd.DataFrame) -> Figure:
    """Generators side by side: one panel a score, mean over folds and seeds, and the standard deviation as a bar.

    The grey band is what real recipes reach. The designer, however it draws, is the filled mark; generators that copy recipes are
    the hollow ones.

    Args:
        scores: What `pyro-hcvae evaluate --out` writes: one row a generator and fold.

    Raises:
        InputError: If the rows are of different splits.
    """
    split = [c for c in ("by", "part") if c in scores]
    if split and len(scores[split].drop_duplicates()) > 1:
        raise InputError("the files are of different splits or parts: draw one figure for each")
    # The same real recipes may stand in several files.
    scores = scores.drop_duplicates(["generator", "seed", "fold"])
    panels = {name: label for name, label in PANELS.items() if name in scores}
    order = [name for name in scores["generator"].unique() if name != REAL]
    order.sort(key=lambda name: (not name.startswith(OURS), _copies(name)))
    figure = Figure(figsize=(11, 1.2 + 0.27 * len(order) * -(-len(panels) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 3), 3, sharey=True, squeeze=False).ravel()
    grouped = scores.groupby("generator")
    for axis, (name, label) in zip(axes, panels.items(), strict=False):
        mean, sd = grouped[name].mean(), grouped[name].std().fillna(0.0)
        if REAL in mean and pd.notna(mean[REAL]):
            axis.axvspan(mean[REAL] - sd[REAL], mean[REAL] + sd[REAL], color="0.85", lw=0)
            axis.axvline(mean[REAL], color="0.45", lw=1, ls="--")
        for row, generator in enumerate(order):
            ours = generator.startswith(OURS)
            fill = "black" if ours else "white" if _copies(generator) else "0.6"
            axis.errorbar(
                mean[generator], row, xerr=sd[generator], fmt="s" if ours else "o", color="black",
                mfc=fill, ms=6, lw=1, capsize=2,
            )  # fmt: skip
        axis.set_xlabel(label)
        axis.grid(axis="x", color="0.92")
        axis.set_axisbelow(True)
        axis.set_yticks(range(len(order)), order)
        axis.set_ylim(len(order) - 0.5, -0.5)
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.suptitle(
        "mean and sd over folds; dashed line and band: real recipes; hollow: copies of known recipes", fontsize=10
    )
    return figure


def _copies(generator: str) -> bool:
    return generator.removesuffix(", repaired") in COPIES


def rate_distortion_curve(rows: pd.DataFrame) -> Figure:
    """Distortion and log likelihood against the rate, one mark a beta.

    Args:
        rows: What ``scripts/rate_distortion.py --out`` writes: one row a member, with ``beta``, ``rate``, ``distortion`` and
            ``log p recipe``.
    """
    mean = rows.groupby("beta").mean(numeric_only=True).sort_index()
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for axis, name, label in (
        (left, "distortion", "distortion D [nats per held-out recipe]"),
        (right, "log p recipe", "log p(x | c) [nats per held-out recipe]"),
    ):
        axis.plot(mean["rate"], mean[name], "ko-", ms=5, lw=1)
        for beta, row in mean.iterrows():
            axis.annotate(
                f"β={beta:g}", (row["rate"], row[name]), xytext=(5, 5), textcoords="offset points", fontsize=8
            )
        axis.set_xlabel("rate R [nats per held-out recipe]")
        axis.set_ylabel(label)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
    return figure
