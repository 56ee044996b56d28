"""Figures of the scores that `pyro-hcvae evaluate --out` writes: generators side by side, and the rate-distortion curve.

One panel a score, one line a generator: the mean over folds and seeds, and the standard deviation as a bar. The grey band is what
real recipes reach. The designer is the filled mark, generators that copy recipes are the hollow ones.

Examples:
    python scripts/plot_results.py scores.csv more.csv --out peers.svg
    python scripts/plot_results.py --curve curve.csv --out curve.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

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


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("scores", type=Path, nargs="*", help="CSV files of 'pyro-hcvae evaluate --out'")
    out.add_argument("--curve", type=Path, help="CSV file of 'rate_distortion.py --out' instead")
    out.add_argument("--out", type=Path, required=True, help="figure to write: .svg, .png or .pdf")
    return out


def peers(scores: pd.DataFrame) -> Figure:
    """Generators side by side; ``scores`` has one row a generator and fold."""
    if len(scores[[c for c in ("by", "part") if c in scores]].drop_duplicates()) > 1:
        raise SystemExit("the files are of different splits or parts: draw one figure for each")
    # The same real recipes may stand in several files.
    scores = scores.drop_duplicates(["generator", "seed", "fold"])
    panels = {name: label for name, label in PANELS.items() if name in scores}
    order = [name for name in scores["generator"].unique() if name != REAL]
    order.sort(key=lambda name: (name != OURS, _copies(name)))
    figure = Figure(figsize=(11, 1.2 + 0.27 * len(order) * -(-len(panels) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 3), 3, sharey=True, squeeze=False).ravel()
    grouped = scores.groupby("generator")
    for axis, (name, label) in zip(axes, panels.items(), strict=False):
        mean, sd = grouped[name].mean(), grouped[name].std().fillna(0.0)
        if REAL in mean and pd.notna(mean[REAL]):
            axis.axvspan(mean[REAL] - sd[REAL], mean[REAL] + sd[REAL], color="0.85", lw=0)
            axis.axvline(mean[REAL], color="0.45", lw=1, ls="--")
        for row, generator in enumerate(order):
            fill = "black" if generator == OURS else "white" if _copies(generator) else "0.6"
            axis.errorbar(
                mean[generator], row, xerr=sd[generator], fmt="s" if generator == OURS else "o", color="black",
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
    """Distortion and log likelihood against the rate, one mark a beta."""
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


def main(argv: Sequence[str] | None = None) -> None:
    """Read, draw, write."""
    options = parser()
    args = options.parse_args(argv)
    if bool(args.scores) == (args.curve is not None):
        options.error("give files of scores, or --curve FILE")
    settings: dict[Any, Any] = {"svg.hashsalt": "pyro-hcvae", "svg.fonttype": "none"}
    with mpl.rc_context(settings):
        if args.curve is not None:
            figure = rate_distortion_curve(pd.read_csv(args.curve))
        else:
            figure = peers(pd.concat([pd.read_csv(path) for path in args.scores], ignore_index=True))
        figure.savefig(args.out, metadata={"Date": None} if args.out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
