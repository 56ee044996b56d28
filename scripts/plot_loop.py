"""Figure of the rounds that `pyro-hcvae study loop` writes: best true performance and regret, round by round.

One line a strategy: the mean over seeds, with the standard error as a band. Each has its own mark and dash, so that the figure
can be read without colour. The dotted line is the estimate of the optimum.

Examples:
    python scripts/plot_loop.py loop/rounds.csv --out loop.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

STYLES: dict[str, dict[str, Any]] = {
    "hcvae": {"marker": "s", "ls": "-", "color": "black", "mfc": "black"},
    "hcvae-botorch": {"marker": "D", "ls": "-", "color": "0.3", "mfc": "white"},
    "botorch": {"marker": "o", "ls": "--", "color": "#0072b2", "mfc": "#0072b2"},
    "nearest": {"marker": "^", "ls": "-.", "color": "#d55e00", "mfc": "white"},
    "random": {"marker": "x", "ls": ":", "color": "0.5", "mfc": "0.5"},
}
OTHER: dict[str, Any] = {"marker": "v", "ls": (0, (5, 1, 1, 1, 1, 1)), "color": "#009e73", "mfc": "white"}


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("rounds", type=Path, help="rounds.csv of 'pyro-hcvae study loop'")
    out.add_argument("--performance", default="true CH4 conversion [%]", help="label of what is maximised, with unit")
    out.add_argument("--out", type=Path, required=True, help="figure to write: .svg, .png or .pdf")
    return out


def curves(rounds: pd.DataFrame, performance: str) -> Figure:
    """Three panels over the rounds; ``rounds`` has one row a strategy, seed and round.

    A round that not every seed of a strategy has reached is left out: a mean over other seeds would be a jump that means nothing.
    """
    seeds = rounds.groupby("strategy")["seed"].nunique()
    reached = rounds.groupby(["strategy", "round"])["seed"].transform("count")
    rounds = rounds[reached == rounds["strategy"].map(seeds)]
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    panels = {
        "best true": f"best {performance}\nso far",
        "regret": "simple regret [points of conversion]\n(estimated optimum minus best so far)",
        "batch mean true": f"mean {performance}\nof the batch",
    }
    axes = figure.subplots(1, len(panels))
    names = [*(s for s in STYLES if s in seeds), *(s for s in seeds.index if s not in STYLES)]
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for name in names:
            grouped = rounds[rounds["strategy"] == name].groupby("round")[column]
            mean, error = grouped.mean().dropna(), (grouped.std() / grouped.count() ** 0.5).fillna(0.0)
            error = error.reindex(mean.index)
            style = STYLES.get(name, OTHER)
            axis.plot(mean.index, mean, lw=1.3, ms=5, label=f"{name} ({seeds[name]} seeds)", **style)
            axis.fill_between(mean.index, mean - error, mean + error, color=style["color"], alpha=0.15, lw=0)
        axis.set_xlabel("round")
        axis.set_ylabel(label)
        axis.grid(color="0.92")
        axis.set_axisbelow(True)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].axhline((rounds["best true"] + rounds["regret"]).median(), color="0.4", lw=1, ls=":")
    axes[1].set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    figure.suptitle(
        "SIMULATED laboratory; mean and standard error over seeds; dotted line: estimated optimum", fontsize=10
    )
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Read, draw, write."""
    args = parser().parse_args(argv)
    settings: dict[Any, Any] = {"svg.hashsalt": "pyro-hcvae", "svg.fonttype": "none"}
    with mpl.rc_context(settings):
        figure = curves(pd.read_csv(args.rounds), args.performance)
        figure.savefig(args.out, dpi=150, metadata={"Date": None} if args.out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
