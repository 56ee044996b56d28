"""Figures of measured results: generators side by side, the rate-distortion curve, and whether uncertainties hold.

One panel a score, one line a generator: the mean over folds and seeds, and the standard deviation as a bar. The grey band is what
real recipes reach. The designer is the filled mark, generators that copy recipes are the hollow ones.

Examples:
    python scripts/plot_results.py scores.csv more.csv --out peers.svg
    python scripts/plot_results.py --curve curve.csv --out curve.svg
    python scripts/plot_results.py --coverage uncertainty/coverage.csv --out coverage.svg
    python scripts/plot_results.py --epistemic uncertainty/epistemic.csv --out epistemic.svg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.checks import coverage_curves, growth
from pyro_hcvae.analysis.plots.scores import peers, rate_distortion_curve
from pyro_hcvae.analysis.plots.style import style
from pyro_hcvae.errors import InputError

EPISTEMIC = {
    "generator: choices around the recipe": "generator: choices [nats]",
    "generator: numbers around the recipe": "generator: numbers\n[share of the table's variance]",
    "generator: log density": "generator: sd of log p(x | c)\nover members [nats]",
    "predictor: size of the error": "predictor: expected error\n[points of the performance]",
}


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("scores", type=Path, nargs="*", help="CSV files of 'pyro-hcvae evaluate --out'")
    out.add_argument("--curve", type=Path, help="CSV file of 'rate_distortion.py --out' instead")
    out.add_argument("--coverage", type=Path, help="coverage.csv of 'evaluate_uncertainty.py --out' instead")
    out.add_argument("--epistemic", type=Path, help="epistemic.csv of 'evaluate_uncertainty.py --out' instead")
    out.add_argument("--out", type=Path, required=True, help="figure to write: .svg, .png or .pdf")
    return out


def coverage(rows: pd.DataFrame) -> Figure:
    """Coverage on the reserve, for recipes of known and of left-out laboratories, as drawn and recalibrated."""
    reserve = rows[rows["part"] == "reserve"]
    return coverage_curves(reserve.assign(quantity=reserve["held_out"] + ":\n" + reserve["block"]))


def main(argv: Sequence[str] | None = None) -> None:
    """Read, draw, write."""
    options = parser()
    args = options.parse_args(argv)
    given = [name for name in ("scores", "curve", "coverage", "epistemic") if getattr(args, name)]
    if len(given) != 1:
        options.error("give files of scores, or one of --curve, --coverage and --epistemic")
    with style():
        try:
            match given[0]:
                case "curve":
                    figure = rate_distortion_curve(pd.read_csv(args.curve))
                case "coverage":
                    figure = coverage(pd.read_csv(args.coverage))
                case "epistemic":
                    rows = pd.read_csv(args.epistemic)
                    figure = growth(rows.rename(columns={"held_out": "group"}), EPISTEMIC)
                case _:
                    figure = peers(pd.concat([pd.read_csv(path) for path in args.scores], ignore_index=True))
        except InputError as error:
            raise SystemExit(str(error)) from None
        figure.savefig(args.out, metadata={"Date": None} if args.out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
