"""How well proposals do what they are asked for, on the virtual laboratory, where the truth of every recipe is known.

Recipes of a simulated table are held out; some of their rows are what is asked for: these conditions, this conversion. Each
generator sees the other recipes alone and names recipes for every pair; the simulator says what they truly convert. Proposals are
searched for (`RecipeDesigner.propose`, at most --within points from the target); draws are what a generator gives without it.

Examples:
    python scripts/evaluate_design.py --seeds 3 --out design.csv
    python scripts/evaluate_design.py --recipes 120 --pairs 4 --steps 200 --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.cli.options import check_out, write_csv
from pyro_hcvae.data.splits import folds
from pyro_hcvae.data.virtual_lab import PERFORMANCE, VirtualLab
from pyro_hcvae.evaluation.baselines.resampling import JitteredNearest, MarginalBootstrap, NearestCondition


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--recipes", type=int, default=400, help="recipes of the simulated table (default: 400)")
    out.add_argument("--pairs", type=int, default=20, help="conditions and targets that are held out (default: 20)")
    out.add_argument("--each", type=int, default=10, help="proposals or draws for each pair (default: 10)")
    out.add_argument(
        "--within", type=float, default=10.0, help="points from the target that count as met (default: 10)"
    )
    out.add_argument("--variety", type=float, default=0.3, help="of the proposals for one pair, 0 to 1 (default: 0.3)")
    out.add_argument("--seeds", type=int, default=3, help="tables, splits and models (default: 3)")
    out.add_argument("--first-seed", type=int, default=0, help="number of the first of them (default: 0)")
    out.add_argument("--steps", type=int, default=TrainConfig().steps, help="longest training, in minibatches")
    out.add_argument("--members", type=int, default=TrainConfig().members, help="replicates trained at once")
    out.add_argument("--compile", choices=("auto", "always", "never"), default="auto", help="of the training step")
    out.add_argument("--out", type=Path, help="CSV file for every proposal and draw, with its true conversion")
    out.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Hold out, fit, ask, and compare with the truth."""
    options = parser()
    args = options.parse_args(argv)
    try:
        if min(args.pairs, args.each, args.seeds) < 1 or args.recipes < 10:
            raise InputError("give at least 10 --recipes, and at least one of --pairs, --each and --seeds")
        if not 0 <= args.variety <= 1:
            raise InputError(f"variety must lie between 0 and 1, got {args.variety:g}")
        if args.out is not None:
            check_out(args.out, force=True)
        parts = [part for seed in range(args.first_seed, args.first_seed + args.seeds) for part in _one(args, seed)]
    except InputError as error:
        options.error(str(error))
    every = pd.concat(parts, ignore_index=True)
    every["error"] = (every["true"] - every["target"]).abs()
    every["met"] = every["error"] <= args.within
    if args.out is not None:
        write_csv(every, args.out)
    by_seed = every.groupby(["generator", "seed"], sort=False)[["met", "error", "novel"]].mean()
    summary = by_seed.groupby("generator", sort=False).agg(["mean", "std"])
    if args.json:
        rows = [{"generator": name, **{" ".join(k): v for k, v in row.items()}} for name, row in summary.iterrows()]
        print(json.dumps({"within": args.within, "rows": rows}, indent=2))
    else:
        print(
            summary.rename(columns={"met": f"within {args.within:g} points", "error": "mean error"})
            .round(3)
            .to_string()
        )


def _one(args: argparse.Namespace, seed: int) -> Iterator[pd.DataFrame]:
    lab, schema = VirtualLab(), RecipeSchema.load("drm")
    raw = lab.experiments(args.recipes, seed=seed)
    table = RecipeTable.from_frame(raw, schema, source=raw.attrs["title"])
    train, test = next(iter(folds(table.recipe_ids(), 5, seed=seed)))
    seen, held = table.select(train), table.select(test)
    rng = np.random.default_rng(seed)
    one_each = held.frame.iloc[rng.permutation(len(held))]
    one_each = one_each[~one_each.duplicated(list(schema.recipe_columns))].iloc[: args.pairs]
    asked = one_each[[*schema.condition_columns, schema.performance.name]]
    known = set(map(tuple, seen.frame[list(schema.recipe_columns)].astype(str).to_numpy()))
    config = TrainConfig(members=args.members, steps=args.steps, seed=seed, compile=args.compile)
    designer = RecipeDesigner(schema, train=config).fit(seen)

    def judged(name: str, recipes: pd.DataFrame) -> pd.DataFrame:
        """``recipes`` is indexed by the label of the row that was asked for."""
        at = asked.loc[recipes.index]
        rows = pd.concat([recipes[list(schema.recipe_columns)], at[list(schema.condition_columns)]], axis=1)
        new = [key not in known for key in map(tuple, recipes[list(schema.recipe_columns)].astype(str).to_numpy())]
        return pd.DataFrame(
            {
                "generator": name,
                "seed": seed,
                "row": recipes.index,
                "target": at[PERFORMANCE].to_numpy(),
                "true": lab.true_conversion(rows),
                "novel": new,
            }
        )

    proposed = []
    for label, row in asked.iterrows():
        conditions = {name: float(row[name]) for name in schema.condition_columns}
        found = designer.propose(
            conditions, float(row[PERFORMANCE]), args.each, within=args.within, variety=args.variety, seed=seed
        ).frame
        proposed.append(found.set_index(pd.Index([label] * len(found))))
        print(f"seed {seed}: proposed for row {label}, target {row[PERFORMANCE]:g} %", flush=True)
    yield judged("hcvae, proposals", pd.concat(proposed))
    draws = pd.concat(designer.sample(asked, args.each, seed=seed))
    yield judged("hcvae, draws", draws)
    guided = pd.concat(designer.sample(asked, args.each, guidance=4, seed=seed))
    yield judged("hcvae, guided draws", guided)
    for baseline in (NearestCondition(), JitteredNearest(), MarginalBootstrap()):
        yield judged(baseline.name, baseline.fit(seen, seed=seed).sample(asked, args.each, seed=seed))


if __name__ == "__main__":
    main()
