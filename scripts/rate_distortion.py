"""Rate-distortion curve: what the latents carry and what is lost, as beta goes from 1 towards 0.

Members of one training run differ in the beta that they rise to and in nothing else that is set. On held-out recipes each has a
rate R (nats that its latents carry) and a distortion D (nats that its decoder misses); R + D is the negative bound, and the
log likelihood says what the member is worth as a generator: a member that reproduces well and carries tens of nats has a prior
that misses most of what its decoder knows.

Examples:
    python scripts/rate_distortion.py --table ours.csv --schema ours.toml --folds 5 --out curve.csv
    python scripts/rate_distortion.py --steps 300 --folds 2 --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.cli.options import check_out, write_csv
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.evaluation.cross_validation import split_folds
from pyro_hcvae.evaluation.reconstruction import rate_distortion
from pyro_hcvae.inference.schedules import BETA_FLOOR

BETAS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--table", type=Path, help="table of experiments (default: a simulated laboratory)")
    out.add_argument("--schema", default="drm", help="built-in schema or schema file (default: drm)")
    out.add_argument("--betas", type=float, nargs="+", default=list(BETAS), help="final beta of each member")
    out.add_argument("--folds", type=int, default=5, help="folds by recipe (default: 5)")
    out.add_argument("--part", choices=("all", "development", "reserve"), default="all", help="recipes that are scored")
    out.add_argument("--steps", type=int, default=TrainConfig().steps, help="longest training, in minibatches")
    out.add_argument("--compile", choices=("auto", "always", "never"), default="auto", help="of the training step")
    out.add_argument("--seed", type=int, default=0, help="of the folds and of all members (default: 0)")
    out.add_argument("--out", type=Path, help="CSV file for the rows of every fold")
    out.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score each fold, and print the mean over folds for each beta."""
    options = parser()
    args = options.parse_args(argv)
    try:
        schema = RecipeSchema.load(args.schema)
        if args.out is not None:
            check_out(args.out, *([args.table] if args.table else []), force=True)
        if args.folds < 2 or len(set(args.betas)) < len(args.betas) or min(args.betas) < BETA_FLOOR:
            raise InputError(f"give at least two --folds, and different --betas of {BETA_FLOOR:g} or more")
        if args.table is None:
            raw = VirtualLab().experiments(200, seed=0)
            table = RecipeTable.from_frame(raw, schema, source=raw.attrs["title"])
        else:
            table = RecipeTable.read(args.table, schema)
        train = TrainConfig(
            members=len(args.betas), final_beta=tuple(args.betas), steps=args.steps, seed=1000 * args.seed, compile=args.compile
        )  # fmt: skip
        parts = []
        for _, number, fold in split_folds(table, "recipe", args.folds, [args.seed], args.part):
            designer = RecipeDesigner(table.schema, train=train).fit(fold.train)
            parts.append(rate_distortion(designer, fold.held, seed=fold.seed).assign(fold=number))
    except InputError as error:
        options.error(str(error))
    rows = pd.concat(parts, ignore_index=True)
    if args.out is not None:
        write_csv(rows, args.out)
    means = rows.drop(columns="fold").groupby("beta").mean().sort_index(ascending=False).reset_index()
    if args.json:
        print(json.dumps({"rows": means.to_dict("records"), "folds": args.folds}))
    else:
        print(means.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
