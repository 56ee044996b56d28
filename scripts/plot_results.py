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

import pandas as pd

from pyro_hcvae.analysis.plots.scores import peers, rate_distortion_curve
from pyro_hcvae.analysis.plots.style import style
from pyro_hcvae.errors import InputError


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("scores", type=Path, nargs="*", help="CSV files of 'pyro-hcvae evaluate --out'")
    out.add_argument("--curve", type=Path, help="CSV file of 'rate_distortion.py --out' instead")
    out.add_argument("--out", type=Path, required=True, help="figure to write: .svg, .png or .pdf")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Read, draw, write."""
    options = parser()
    args = options.parse_args(argv)
    if bool(args.scores) == (args.curve is not None):
        options.error("give files of scores, or --curve FILE")
    with style():
        try:
            if args.curve is not None:
                figure = rate_distortion_curve(pd.read_csv(args.curve))
            else:
                figure = peers(pd.concat([pd.read_csv(path) for path in args.scores], ignore_index=True))
        except InputError as error:
            raise SystemExit(str(error)) from None
        figure.savefig(args.out, metadata={"Date": None} if args.out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
