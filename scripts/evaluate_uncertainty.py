"""Whether the uncertainties hold on recipes that were not seen, and whether they grow where nothing is known.

On each fold some laboratories are left out, and some recipes of the other ones as well; everything is fitted on what is left. Of
both kinds of held-out recipes, one row each, it writes
  coverage.csv     how many amounts, shares and settings lie within intervals of each level, as drawn and recalibrated. The map
                   that recalibrates is fitted on held-out recipes of the development part; both are judged on the reserve
  reliability.csv  how often components, codes and states occur, beside the probability that was said
  ranks.csv        simulation-based calibration of the guide, of the guide with importance weights, and of the prior
  epistemic.csv    how far members of the generator, and refits of the predictor, disagree about each recipe
  auc.csv          how well that tells left-out laboratories from known ones: the area under the ROC curve, fold by fold

Examples:
    python scripts/evaluate_uncertainty.py --table ours.csv --schema ours.toml --out uncertainty
    python scripts/evaluate_uncertainty.py --recipes 60 --steps 100 --members 2 --out quick
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from pyro_hcvae.data.splits import Positions, folds, groups_of, in_part
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.evaluation.curves import coverage_curve, reliability
from pyro_hcvae.evaluation.recalibration import QuantileMap
from pyro_hcvae.evaluation.reconstruction import one_row_per_recipe
from pyro_hcvae.evaluation.simulation_calibration import guide_ranks, observe_recipes, prior_ranks
from pyro_hcvae.evaluation.uniformity import uniformity

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


@dataclass(frozen=True)
class Fold:
    """What is left to learn from, and what is held out, as positions of rows."""

    number: int
    kept: Positions
    held: dict[str, Positions]


def split(table: RecipeTable, args: argparse.Namespace) -> Iterator[Fold]:
    """Folds by laboratory; of the laboratories that stay, a fold of the recipes is held out, so that each is once at most."""
    recipes = table.recipe_ids()
    by_laboratory, by_recipe = (folds(ids, args.folds, seed=args.seed) for ids in (table.laboratory_ids(), recipes))
    for number, ((inside, outside), (_, chosen)) in enumerate(zip(by_laboratory, by_recipe, strict=True)):
        known, kept = np.intersect1d(inside, chosen), np.setdiff1d(inside, chosen)
        # A recipe that another laboratory has measured is known, wherever it is measured again.
        new = outside[~np.isin(recipes[outside], recipes[inside])]
        yield Fold(number, kept, {KNOWN: known, LEFT_OUT: new})


def evaluate(table: RecipeTable, args: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Everything that is measured, by the name of its file."""
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in ("pits", "choices", "ranks", "epistemic", "auc")}
    for fold in split(table, args):
        designer = fitted(table.select(fold.kept), args, fold.number)
        frames = {name: one_row_per_recipe(table.select(x), seed=fold.number).frame for name, x in fold.held.items()}
        for name, held in frames.items():
            here = {"held_out": name, "fold": fold.number}
            found["pits"].append(number_pits(designer, held, draws=args.draws, seed=fold.number).assign(**here))
            found["choices"].append(choice_probabilities(designer, held, seed=fold.number).assign(**here))
            found["ranks"] += [x.assign(**here) for x in ranks(designer, held, args, fold.number)]
        scores = disagreement(designer, frames, args, fold.number)
        found["epistemic"].append(scores)
        found["auc"].append(areas(scores))
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    about = {"members": args.members, "steps": args.steps}
    said = [
        reliability(x["probability"], x["happened"]).assign(held_out=name, block=block)
        for (name, block), x in joined["choices"].groupby(["held_out", "block"], sort=False)
    ]
    uniform = [
        uniformity(x.dropna(axis=1, how="all").drop(columns=["held_out", "fold", "ranks"]))
        .reset_index()
        .assign(held_out=name, ranks=kind)
        for (name, kind), x in joined["ranks"].groupby(["held_out", "ranks"], sort=False)
    ]
    return {
        "coverage.csv": recalibrated(table, joined["pits"]).round(4).assign(**about),
        "reliability.csv": pd.concat(said, ignore_index=True).round(5).assign(**about),
        "ranks.csv": pd.concat(uniform, ignore_index=True).assign(**about),
        "epistemic.csv": joined["epistemic"].round(5),
        "auc.csv": joined["auc"].round(4).assign(**about),
    }


def ranks(designer: RecipeDesigner, held: pd.DataFrame, args: argparse.Namespace, seed: int) -> list[pd.DataFrame]:
    """Ranks of one fold: of the guide, with importance weights, and of the prior; and what the weights are worth."""
    network, batch = designer.network, dealt(designer, held)
    found = guide_ranks(network, batch, observe_recipes(network), proposals=args.proposals, seed=seed)
    share = found.effective / args.proposals
    print(
        f"  weights of simulated recipes: effective share {np.median(share):.2f} (median)", file=sys.stderr, flush=True
    )
    return [
        found.guide.assign(ranks="guide"),
        found.resampled.assign(ranks="guide, importance-resampled"),
        prior_ranks(network, batch, seed=seed).assign(ranks="prior, held-out recipes"),
    ]


def recalibrated(table: RecipeTable, pits: pd.DataFrame) -> pd.DataFrame:
    """Coverage as drawn and recalibrated, of each block, by part of the table."""
    at = table.frame.index.get_indexer(pits["row"])
    part = np.where(in_part(table, "development"), "development", "reserve")
    pits = pits.assign(recipe=table.recipe_ids()[at], part=part[at])
    records = []
    for (name, block), mine in pits.groupby(["held_out", "block"], sort=False):
        chosen, reserve = (mine[mine["part"] == x] for x in ("development", "reserve"))
        maps: dict[str, QuantileMap | None] = {"as drawn": None}
        if len(np.unique(chosen["recipe"])) > 1:  # nothing is learned from fewer
            maps["recalibrated"] = QuantileMap.fit(chosen["pit"].to_numpy(), chosen["recipe"].to_numpy())
        for which, some in (("all", mine), ("development", chosen), ("reserve", reserve)):
            drawn = some["pit"].to_numpy()
            for kind, curve in maps.items():
                pit = drawn if curve is None else curve(drawn)
                shares = coverage_curve(pit, LEVELS, count=some["recipe"].nunique())
                taken = [((1 - x) / 2, (1 + x) / 2) if curve is None else curve.interval(x) for x in LEVELS]
                shares[["low quantile", "high quantile"]] = taken
                about = {"held_out": name, "block": block, "part": which, "intervals": kind, "numbers": len(some)}
                records.append(shares.assign(**about))
    return pd.concat(records, ignore_index=True)


def disagreement(
    designer: RecipeDesigner, frames: dict[str, pd.DataFrame], args: argparse.Namespace, fold: int
) -> pd.DataFrame:
    """Epistemic parts of every held-out recipe, of the generator and of the predictor."""
    schema, table = designer.schema, designer.table
    rows = pd.concat(frames.values())
    asked = rows.set_axis(range(len(rows)), axis=0)
    found = epistemic_scores(designer, asked, seed=fold).add_prefix("generator: ")
    for unit in ("recipe", "laboratory"):
        refits = Refits.fit(designer.predictor, table, groups_of(table, unit), args.refits, seed=fold)
        found[f"predictor: {unit} drawn anew"] = np.sqrt(refits.variance(asked))
    said = designer.predictor.predict(asked[list(schema.recipe_columns)], asked[list(schema.condition_columns)])
    found["predictor: size of the error"] = said["scale"].to_numpy()
    error = np.abs(said["mean"].to_numpy() - asked[schema.performance.name].to_numpy())
    group = np.repeat(list(frames), [len(x) for x in frames.values()])
    return found.assign(fold=fold, row=rows.index.to_numpy(), held_out=group, error=error)


def areas(scores: pd.DataFrame) -> pd.DataFrame:
    """Of one fold, for each score: the area under the ROC curve, and the mean in both groups."""
    left_out = (scores["held_out"] == LEFT_OUT).to_numpy()
    records = []
    for name in scores.columns.drop(["fold", "row", "held_out"]):
        values = scores[name].to_numpy(np.float64)
        records.append(
            {"fold": scores["fold"].iloc[0], "score": name, "AUC": roc_auc_score(left_out, values)}
            | {"known": values[~left_out].mean(), "left out": values[left_out].mean()}
            | {"n known": int((~left_out).sum()), "n left out": int(left_out.sum())}
        )
    return pd.DataFrame(records)


def headlines(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What is printed."""
    coverage, ranked = found["coverage.csv"], found["ranks.csv"]
    at = coverage[coverage["level"].isin([0.5, 0.9]) & (coverage["part"] == "reserve")]
    ranked = ranked.assign(rejected=ranked["p Holm"] < 0.05).groupby(["held_out", "ranks"], sort=False)
    areas_of = found["auc.csv"].groupby("score", sort=False)
    means = areas_of[["AUC", "known", "left out"]].mean()
    return {
        "coverage of the reserve": at[["held_out", "block", "intervals", "level", "inside", "n", "low", "high"]],
        "quantities whose ranks are not uniform": ranked.agg(
            rejected=("rejected", "sum"), quantities=("rejected", "size"), largest=("distance", "max")
        ).reset_index(),
        "left-out laboratories against known ones": means.assign(sd=areas_of["AUC"].std()).reset_index(),
    }


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--table", type=Path, help="table of experiments (default: a simulated laboratory)")
    out.add_argument("--schema", default="drm", help="built-in schema or schema file (default: drm)")
    out.add_argument("--drop-column", action="append", default=[], help="leave a component out; may be repeated")
    out.add_argument("--folds", type=int, default=5, help="default: 5")
    out.add_argument("--members", type=int, default=5, help="default: 5")
    out.add_argument("--steps", type=int, default=3000, help="longest training, in minibatches (default: 3000)")
    out.add_argument("--compile", choices=("auto", "always", "never"), default="auto", help="default: auto")
    out.add_argument("--draws", type=int, default=400, help="recipes drawn for each row (default: 400)")
    out.add_argument("--proposals", type=int, default=1000, help="draws that are weighted (default: 1000)")
    out.add_argument("--refits", type=int, default=10, help="fits of the predictor (default: 10)")
    out.add_argument("--recipes", type=int, default=200, help="recipes of the simulated laboratory (default: 200)")
    out.add_argument("--seed", type=int, default=0, help="of folds and members (default: 0)")
    out.add_argument("--out", type=Path, required=True, help="folder for the CSV files")
    out.add_argument("--json", action="store_true", help="print the headlines as JSON")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    options = parser()
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    try:
        schema = RecipeSchema.load(args.schema)
        if args.table is None:
            frame = VirtualLab().experiments(recipes=args.recipes, seed=0)
            table = RecipeTable.from_frame(frame, schema, drop_columns=args.drop_column)
        else:
            table = RecipeTable.read(args.table, schema, drop_columns=args.drop_column)
        found = evaluate(table, args)
        args.out.mkdir(parents=True, exist_ok=True)
        for name, frame in found.items():
            write_csv(frame, args.out / name)
    except InputError as error:
        options.error(str(error))
    shown = headlines(found)
    if args.json:
        print(json.dumps({name: frame.to_dict("records") for name, frame in shown.items()}, indent=1, default=str))
    else:
        for name, frame in shown.items():
            print(f"\n{name}\n{frame.to_string(index=False, float_format='%.3f')}")


if __name__ == "__main__":
    main()
