"""Completions of partial recipes beside NUTS, Pyro's exact sampler of the latents.

For each row of a partial table in which whole stages are given and others open,

    epsilon ~ NUTS on p(epsilon) p(x_known | z(epsilon), c),   then the open stages ~ p(x_open | z, c),

against the importance resampling of `RecipeDesigner.complete`. The run must have one member: `pyro-hcvae fit --members 1`.

Examples:
    python scripts/check_completion.py runs/one partial.csv
    python scripts/check_completion.py runs/one partial.csv --draws 300 --out quantities.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_hcvae import InputError, RecipeDesigner, RecipeTable
from pyro_hcvae.cli.options import check_out, write_csv
from pyro_hcvae.evaluation.completions import Agreement, compare_with_nuts


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("run", type=Path, help="run folder of one member")
    out.add_argument(
        "partial", type=Path, help="table whose rows give some stages as a whole and leave the others open"
    )
    out.add_argument("--chains", type=int, default=32, help="chains of NUTS (default: 32)")
    out.add_argument("--draws", type=int, default=200, help="draws of each chain (default: 200)")
    out.add_argument("--warmup", type=int, default=150, help="states of each chain before them (default: 150)")
    out.add_argument("--proposals", type=int, default=20_000, help="weighted draws behind a row (default: 20000)")
    out.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default: 0)")
    out.add_argument("--out", type=Path, help="CSV file for every quantity that is compared")
    return out


def summary(row: int, found: Agreement) -> dict[str, float]:
    """One line of the table that is printed."""
    frame = found.frame.assign(difference=(found.frame["completions"] - found.frame["nuts"]).abs())
    largest = frame.groupby("kind")["difference"].max()
    return {
        "row": row,
        "R-hat": found.r_hat,
        "ESS of NUTS": round(found.effective_chains),
        "ESS of completions": round(found.effective),
        "proposals": found.proposed,
        "quantities": len(frame),
        "largest gap in a probability": largest.reindex(["presence", "code", "state"]).max(),
        "largest gap in a latent mean": largest["latent mean"],
        "largest deviation [errors]": frame["deviation"].abs().max(),
        "root mean square [errors]": np.sqrt((frame["deviation"] ** 2).mean()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Compare row by row, print, and write."""
    options = parser()
    args = options.parse_args(argv)
    try:
        if min(args.chains, args.warmup, args.proposals) < 1 or args.draws < 4:
            raise InputError("give at least one of --chains, --warmup and --proposals, and four --draws")
        if args.out is not None:
            check_out(args.out, args.partial, force=True)
        designer = RecipeDesigner.load(args.run)
        table = RecipeTable.read(args.partial, designer.schema, purpose="partial")
        settings = {name: getattr(args, name) for name in ("chains", "draws", "warmup", "proposals", "seed")}
        lines, quantities = [], []
        for position, row in enumerate(table.frame.index):
            found = compare_with_nuts(designer, table.select(np.array([position])), **settings)
            lines.append(summary(int(row), found))
            quantities.append(found.frame.assign(row=row))
    except ValueError as error:  # wrong input, or stages that are given in part
        options.error(str(error))
    print(pd.DataFrame(lines).T.to_string(header=False, float_format=lambda x: f"{x:.4g}"))
    if args.out is not None:
        write_csv(pd.concat(quantities, ignore_index=True), args.out)
        print(args.out)


if __name__ == "__main__":
    main()
