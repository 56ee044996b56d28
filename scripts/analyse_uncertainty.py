"""Where the spread of each predicted number comes from: noise of the recipe, its latents, or the members.

Around recipes of a file, around proposals, or (with `-n 0`) for conditions alone. The formulas stand in
`pyro_hcvae.analysis.decomposition`; `pyro-hcvae uncertainty` does the same and more, and writes a folder.

Examples:
    python scripts/analyse_uncertainty.py runs/drm --set "Reaction T=700" --target 80 -n 5 --out uncertainty.csv
    python scripts/analyse_uncertainty.py runs/drm --recipes runs/drm/recipes.csv --out uncertainty.csv --choices choices.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pyro_hcvae import InputError, RecipeDesigner, RecipeTable
from pyro_hcvae.analysis.uncertainty import uncertainty
from pyro_hcvae.cli.options import settings, write_csv
from pyro_hcvae.cli.uncertainty import asked_rows, show, with_target


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("run", type=Path, help="run folder")
    out.add_argument("--recipes", type=Path, help="table of whole recipes; default: propose some")
    out.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a condition; may be repeated")
    out.add_argument("--target", type=float, help="wanted performance")
    out.add_argument("-n", "--number", type=int, default=5, help="recipes to propose; 0: conditions alone (default: 5)")
    out.add_argument("--draws", type=int, default=100, help="draws of the latents, S (default: 100)")
    out.add_argument("--repeats", type=int, default=5, help="recipes for each of them, R (default: 5)")
    out.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default: 0)")
    out.add_argument("--out", type=Path, help="CSV file to write: parts of the variance of numbers")
    out.add_argument(
        "--choices", type=Path, help="CSV file to write: parts of the entropy of presences, codes and steps"
    )
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Analyse, print, and write."""
    options = parser()
    args = options.parse_args(argv)
    if args.recipes is None and args.target is None:
        options.error("give --recipes TABLE, or --target (with --set NAME=VALUE as you like)")
    try:
        designer = RecipeDesigner.load(args.run)
        if args.recipes is not None:
            frame = RecipeTable.read(args.recipes, designer.schema, purpose="partial").frame
            rows = with_target(designer, frame, args.target)
        else:
            rows = asked_rows(designer, settings(args.set), args.target, args.number, seed=args.seed)
        found = uncertainty(designer, rows, draws=args.draws, repeats=args.repeats, seed=args.seed)
        show(found.numbers)
        for path, parts in ((args.out, found.numbers), (args.choices, found.structures)):
            if path is not None:
                write_csv(parts, path)
                print(path)
    except InputError as error:
        options.error(str(error))


if __name__ == "__main__":
    main()
