"""Draw recipes from the posterior predictive of a run, as the model has them: numbers as drawn, nothing rounded or filtered.

For each row of conditions, and each of its draws,

    z_l ~ p(z_l | z_<l, c),   x_l ~ p(x_l | z_<=l, c),

going round the members of the run, so that every row sees all of them when `--draws` is a multiple of their number. The CSV file
has the columns of the table that the run was fitted on, so that it can be compared with it column by column.

Examples:
    python scripts/sample_recipes.py runs/drm --set "Reaction T=700" --set "CO2/CH4=1" --target 80 --draws 500 --out draws.csv
    python scripts/sample_recipes.py runs/drm --conditions held_out.csv --draws 20 --out draws.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_hcvae import InputError, RecipeDesigner, RecipeTable
from pyro_hcvae.cli.options import settings, write_csv
from pyro_hcvae.data.table import row_groups
from pyro_hcvae.data.validity import is_valid


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("run", type=Path, help="run folder")
    out.add_argument("--conditions", type=Path, help="table with condition and performance columns; others are ignored")
    out.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a condition; may be repeated")
    out.add_argument("--target", type=float, help="wanted performance, with --set")
    out.add_argument("--draws", type=int, default=100, help="draws for each row of conditions (default: 100)")
    out.add_argument("--seed", type=int, default=0, help="the same seed gives the same draws (default: 0)")
    out.add_argument("--out", type=Path, required=True, help="CSV file to write")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, count, and write."""
    options = parser()
    args = options.parse_args(argv)
    if (args.conditions is None) == (args.target is None):
        options.error("give either --conditions TABLE, or --target (with --set NAME=VALUE as you like)")
    try:
        designer = RecipeDesigner.load(args.run)
        if args.conditions is not None:
            asked = RecipeTable.read(args.conditions, designer.schema, purpose="conditions").frame
        else:
            chosen = designer.conditions(settings(args.set), args.target)
            for name, value in chosen.assumed.items():
                print(f"not set, taken as typical of the table: {name} = {value:g}")
            asked = chosen.frame()
        drawn = pd.concat(designer.sample(asked, args.draws, as_drawn=True, seed=args.seed))
        write_csv(designer.in_table_order(drawn), args.out)
    except InputError as error:
        options.error(str(error))
    recipes = drawn[list(designer.schema.recipe_columns)]
    sets = row_groups(recipes[list(designer.schema.component_columns)] > 0, designer.schema.component_columns)
    print(
        f"{len(drawn)} draws for {len(asked)} rows of conditions: {100 * is_valid(recipes, designer.schema).mean():.1f} % valid, "
        f"{len(set(sets))} sets of components\n{args.out}"
    )


if __name__ == "__main__":
    main()
