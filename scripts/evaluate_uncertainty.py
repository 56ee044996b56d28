"""Whether the uncertainties hold on recipes that were not seen, and whether they grow where nothing is known.

`calibration`: on each fold, everything is fitted on the other ones. Of the held-out recipes (one row each) it writes
  coverage.csv     how many amounts, shares and settings lie within intervals of each level, as drawn and recalibrated. The map
                   that recalibrates is fitted on held-out recipes of the development part; both are judged on the reserve
  reliability.csv  how often components, codes and states occur, beside the probability that was said
  ranks.csv        simulation-based calibration of the guide, of the guide with importance weights, and of the prior

`laboratories`: on each fold some laboratories are left out, and some recipes of the others as well. Of both it writes
  epistemic.csv    how far members of the generator, and refits of the predictor, disagree about each recipe
  auc.csv          how well that tells left-out laboratories from known ones: the area under the ROC curve, fold by fold

Examples:
    python scripts/evaluate_uncertainty.py calibration --table ours.csv --schema ours.toml --by laboratory --out calibration
    python scripts/evaluate_uncertainty.py laboratories --recipes 60 --steps 100 --out quick
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.analysis.held_out import choice_probabilities, epistemic_scores, number_pits
from pyro_hcvae.analysis.performance_parts import Refits
from pyro_hcvae.cli.options import write_csv
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.splits import folds, groups_of, hold_out, in_part
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.evaluation.curves import coverage_curve, reliability
from pyro_hcvae.evaluation.recalibration import QuantileMap
from pyro_hcvae.evaluation.reconstruction import one_row_per_recipe
from pyro_hcvae.evaluation.simulation_calibration import guide_ranks, observe_recipes, prior_ranks
from pyro_hcvae.evaluation.uniformity import uniformity

GROUPINGS = ("recipe", "composition", "laboratory")
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
KNOWN, LEFT_OUT = "known laboratory", "left-out laboratory"


def fitted(table: RecipeTable, args: argparse.Namespace, fold: int) -> RecipeDesigner:
    """A designer of the training rows of a fold."""
    train = TrainConfig(members=args.members, steps=args.steps, seed=1000 * args.seed, compile=args.compile)
    print(f"fold {fold}: fitting {args.members} members on {len(table)} rows ...", file=sys.stderr, flush=True)
    return RecipeDesigner(table.schema, train=train).fit(table)


def dealt(designer: RecipeDesigner, frame: pd.DataFrame) -> RecipeBatch:
    """Recipes dealt to the members in turn, so that no two of them judge the same one; shape ``(M, B // M)``."""
    packed, members = designer.codec.encode(frame), designer.network.members
    packed = packed[: len(packed) // members * members]
    return designer.codec.layout.unpack(packed.view(-1, members, packed.shape[-1]).transpose(0, 1).contiguous())


def calibration(table: RecipeTable, args: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Held-out coverage, reliability, and ranks."""
    pits, choices = [], []
    ranks: dict[str, list[pd.DataFrame]] = {
        "guide": [],
        "guide, importance-resampled": [],
        "prior, held-out recipes": [],
    }
    effective = []
    recipes, development = table.recipe_ids(), in_part(table, "development")
    for fold, (train, test) in enumerate(folds(groups_of(table, args.by), args.folds, seed=args.seed)):
        designer = fitted(table.select(train), args, fold)
        held = one_row_per_recipe(table.select(test), seed=args.seed).frame
        pits.append(number_pits(designer, held, draws=args.draws, seed=fold))
        choices.append(choice_probabilities(designer, held, seed=fold))
        batch = dealt(designer, held)
        found = guide_ranks(
            designer.network, batch, observe_recipes(designer.network), proposals=args.proposals, seed=fold
        )
        ranks["guide"].append(found.guide)
        ranks["guide, importance-resampled"].append(found.resampled)
        effective.append(found.effective)
        ranks["prior, held-out recipes"].append(prior_ranks(designer.network, batch, seed=fold))
    place = {row: i for i, row in enumerate(table.frame.index)}
    coverage = recalibrated(pd.concat(pits, ignore_index=True), place, recipes, development)
    said = pd.concat(choices, ignore_index=True)
    reliable = [
        reliability(x["probability"], x["happened"]).assign(block=b) for b, x in said.groupby("block", sort=False)
    ]
    uniform = [uniformity(pd.concat(some)).reset_index().assign(ranks=name) for name, some in ranks.items()]
    share = np.concatenate(effective) / args.proposals
    print(
        f"effective sample size of the weights: median {np.median(share):.2f}, lowest tenth {np.quantile(share, 0.1):.3f} of it"
    )
    about = {"by": args.by, "members": args.members, "steps": args.steps}
    return {
        "coverage.csv": coverage.assign(**about),
        "reliability.csv": pd.concat(reliable, ignore_index=True).assign(**about),
        "ranks.csv": pd.concat(uniform, ignore_index=True).assign(**about),
    }


def recalibrated(
    pits: pd.DataFrame, place: dict[object, int], recipes: np.ndarray, development: np.ndarray
) -> pd.DataFrame:
    """Coverage as drawn and recalibrated, of each block, by part of the table."""
    at = pits["row"].map(place).to_numpy()
    pits = pits.assign(recipe=recipes[at], part=np.where(development[at], "development", "reserve"))
    records = []
    for block, mine in pits.groupby("block", sort=False):
        chosen = mine[mine["part"] == "development"]
        curve = QuantileMap.fit(chosen["pit"].to_numpy(), chosen["recipe"].to_numpy())
        for part, some in (("all", mine), ("development", chosen), ("reserve", mine[mine["part"] == "reserve"])):
            drawn = some["pit"].to_numpy()
            for name, pit in (("as drawn", drawn), ("recalibrated", curve(drawn))):
                table = coverage_curve(pit, LEVELS, count=some["recipe"].nunique())
                taken = [curve.interval(x) if name == "recalibrated" else ((1 - x) / 2, (1 + x) / 2) for x in LEVELS]
                table["quantiles"] = [f"{low:.3f} {high:.3f}" for low, high in taken]
                records.append(table.assign(block=block, part=part, intervals=name, numbers=len(some)))
    return pd.concat(records, ignore_index=True)


def laboratories(table: RecipeTable, args: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Epistemic parts for known and for left-out laboratories."""
    rows, scores = [], []
    for fold, (inside, outside) in enumerate(folds(table.laboratory_ids(), args.folds, seed=args.seed)):
        recipes = table.recipe_ids()
        kept, held = (inside[part] for part in hold_out(recipes[inside], args.hold_out, seed=fold))
        # A recipe that another laboratory has measured is known, wherever it is measured again.
        new = outside[~np.isin(recipes[outside], recipes[kept])]
        designer = fitted(table.select(kept), args, fold)
        groups = {KNOWN: held, LEFT_OUT: new}
        frames = {name: one_row_per_recipe(table.select(part), seed=fold).frame for name, part in groups.items()}
        asked = pd.concat(frames.values())
        asked = asked.set_axis(range(len(asked)), axis=0)
        found = epistemic_scores(designer, asked, draws=args.draws, seed=fold).add_prefix("generator: ")
        for unit in ("recipe", "laboratory"):
            ids = groups_of(designer.table, unit)
            refits = Refits.fit(table.schema, designer.table.frame, ids, args.refits, seed=fold)
            found[f"predictor: {unit} drawn anew"] = np.sqrt(refits.variance(asked))
        columns = list(table.schema.recipe_columns), list(table.schema.condition_columns)
        said = designer.predictor.predict(asked[columns[0]], asked[columns[1]])
        found["predictor: size of the error"] = said["scale"].to_numpy()
        error = np.abs(said["mean"].to_numpy() - asked[table.schema.performance.name].to_numpy())
        group = np.repeat(list(frames), [len(x) for x in frames.values()])
        labels = np.concatenate([x.index.to_numpy() for x in frames.values()])
        rows.append(found.assign(fold=fold, row=labels, group=group, error=error))
        scores += list(areas(found, group == LEFT_OUT, fold))
    auc = pd.DataFrame(scores)
    return {"epistemic.csv": pd.concat(rows, ignore_index=True).round(5), "auc.csv": auc.round(4)}


def areas(found: pd.DataFrame, left_out: np.ndarray, fold: int) -> Iterator[dict[str, object]]:
    """For each score: the area under the ROC curve, and its mean in both groups."""
    for name, score in found.items():
        values = score.to_numpy(np.float64)
        yield {
            "fold": fold, "score": name, "AUC": roc_auc_score(left_out, values), "known": values[~left_out].mean(),
            "left out": values[left_out].mean(), "n known": int((~left_out).sum()), "n left out": int(left_out.sum()),
        }  # fmt: skip


def headlines(what: str, found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What is printed."""
    if what == "laboratories":
        table = found["auc.csv"].groupby("score", sort=False)
        means = table[["AUC", "known", "left out"]].mean()
        return means.assign(sd=table["AUC"].std()).reset_index()
    coverage = found["coverage.csv"]
    at = coverage[coverage["level"].isin([0.5, 0.9]) & (coverage["part"] == "reserve")]
    return at[["block", "intervals", "level", "inside", "n", "low", "high", "quantiles"]]


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("what", choices=("calibration", "laboratories"))
    out.add_argument("--table", type=Path, help="table of experiments (default: a simulated laboratory)")
    out.add_argument("--schema", default="drm", help="built-in schema or schema file (default: drm)")
    out.add_argument("--drop-column", action="append", default=[], help="leave a component out; may be repeated")
    out.add_argument("--by", choices=GROUPINGS, default="recipe", help="calibration: what no split cuts in two")
    out.add_argument("--folds", type=int, default=5, help="default: 5")
    out.add_argument("--hold-out", type=float, default=0.2, help="laboratories: share of known recipes (default: 0.2)")
    out.add_argument("--members", type=int, default=5, help="default: 5")
    out.add_argument("--steps", type=int, default=3000, help="longest training, in minibatches (default: 3000)")
    out.add_argument("--compile", choices=("auto", "always", "never"), default="auto", help="default: auto")
    out.add_argument("--draws", type=int, help="calibration: recipes for each row (400); laboratories: latents (50)")
    out.add_argument("--proposals", type=int, default=1000, help="calibration: draws that are weighted (default: 1000)")
    out.add_argument("--refits", type=int, default=10, help="laboratories: fits of the predictor (default: 10)")
    out.add_argument("--recipes", type=int, default=200, help="recipes of the simulated laboratory (default: 200)")
    out.add_argument("--seed", type=int, default=0, help="of folds and members (default: 0)")
    out.add_argument("--out", type=Path, required=True, help="folder for the CSV files")
    out.add_argument("--json", action="store_true", help="print the headlines as JSON")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    options = parser()
    args = options.parse_args(argv)
    args.draws = args.draws or {"calibration": 400, "laboratories": 50}[args.what]
    torch.set_num_threads(1)
    try:
        schema = RecipeSchema.load(args.schema)
        if args.table is None:
            frame = VirtualLab().experiments(recipes=args.recipes, seed=0)
            table = RecipeTable.from_frame(frame, schema, drop_columns=args.drop_column)
        else:
            table = RecipeTable.read(args.table, schema, drop_columns=args.drop_column)
        found = (calibration if args.what == "calibration" else laboratories)(table, args)
        args.out.mkdir(parents=True, exist_ok=True)
        for name, frame in found.items():
            write_csv(frame, args.out / name)
    except InputError as error:
        options.error(str(error))
    shown = headlines(args.what, found)
    print(
        json.dumps(shown.to_dict("records"), indent=1)
        if args.json
        else shown.to_string(index=False, float_format="%.3f")
    )


if __name__ == "__main__":
    main()
