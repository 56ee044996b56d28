r"""Where the spread of each predicted number comes from: noise of the recipe, its latents, or the members.

Around each recipe x (proposed here, or read from a file) the run predicts again: `z ~ q(z | x, c)`, then
`x' ~ p(x' | z, c)` with the recipe's own structure (the same components, the same steps), by each member m. That is what
`pyro_hcvae.posterior.predictive.explain` draws; here each draw of the latents is used R times instead of once, which is what it
takes to tell the first two parts apart. With draws of shape (S latent, R repeats, M members, B recipes, ...) in the unit of
the column, the law of total variance reads

    Var[x'] = E_m E_z|m Var[x' | z, m]        aleatoric: how recipes with the same latents differ
            + E_m Var_z|m E[x' | z, m]        latent:    what the recipe does not tell about its latents
            + Var_m E[x' | m]                 epistemic: what the members, trained on other parts of the table, disagree about

and is estimated without bias by the nested analysis of variance, with v_R = mean_{s,m} var_r, v_S = mean_m var_s mean_r,
v_M = var_m mean_{s,r} (each with one degree of freedom less):

    aleatoric = v_R,   latent = v_S - v_R / R,   epistemic = v_M - v_S / S.

Differences below zero are set to zero; the variance in the table is the sum of the three. A run with one member cannot know its
epistemic part: it is left empty. Epistemic uncertainty falls when more is measured; the other two need not.

Examples:
    python scripts/analyse_uncertainty.py runs/drm --set "Reaction T=700" --target 80 -n 5 --out uncertainty.csv
    python scripts/analyse_uncertainty.py runs/drm --recipes runs/drm/recipes.csv --out uncertainty.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_hcvae import InputError, RecipeDesigner, RecipeTable
from pyro_hcvae.cli.options import settings, write_csv
from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.schema import Category
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.predictive import drawing_scope, structure_only

Floats = NDArray[np.float64]


def nested_draws(
    model: HierarchicalCVAE, batch: RecipeBatch, draws: int, repeats: int, *, seed: int
) -> dict[str, Tensor]:
    """Recipes predicted around given ones, several for each draw of the latents.

    Args:
        model: Trained members.
        batch: Whole recipes, shape ``(1, B)``; shown to every member.
        draws: Draws of the latents, ``S``.
        repeats: Recipes for each of them, ``R``.
        seed: Fixes the draws.

    Returns:
        Values by site, shape ``(S, R, M, B, ...)``.
    """
    shown = batch.expand_members(model.members)
    asked = structure_only(model, shown)
    found: list[list[dict[str, Tensor]]] = []
    with drawing_scope(seed, batch.conditions.device):
        for _ in range(draws):
            latents = poutine.trace(model.guide).get_trace(shown)
            found.append([poutine.replay(model.model, trace=latents)(asked) for _ in range(repeats)])
    return {name: torch.stack([torch.stack([x[name] for x in some]) for some in found]) for name in found[0][0]}


def split_variance(draws: Floats) -> dict[str, Floats]:
    """Parts of the variance by the law of total variance.

    Args:
        draws: Shape ``(S, R, M, ...)`` with ``S`` and ``R`` at least 2.

    Returns:
        ``aleatoric``, ``latent``, ``epistemic`` (NaN with one member) and ``variance``, their sum; each of shape ``(...)``.
    """
    count, repeats, members = draws.shape[:3]
    within = draws.var(axis=1, ddof=1).mean(axis=(0, 1))
    between_latents = draws.mean(axis=1).var(axis=0, ddof=1).mean(axis=0)
    latent = np.maximum(between_latents - within / repeats, 0.0)
    if members > 1:
        between_members = draws.mean(axis=(0, 1)).var(axis=0, ddof=1)
        epistemic = np.maximum(between_members - between_latents / count, 0.0)
    else:
        epistemic = np.full_like(within, np.nan)
    return {
        "aleatoric": within,
        "latent": latent,
        "epistemic": epistemic,
        "variance": within + latent + np.nan_to_num(epistemic),
    }


def analyse(designer: RecipeDesigner, recipes: pd.DataFrame, draws: int, repeats: int, *, seed: int) -> pd.DataFrame:
    """Split the variance of every number of every recipe.

    Args:
        designer: A fitted one.
        recipes: Recipe, condition and performance columns, one row a recipe.
        draws: Draws of the latents, at least 2.
        repeats: Recipes for each of them, at least 2.
        seed: Fixes the draws.

    Returns:
        One row a recipe and number: its value, mean and standard deviation of the prediction in the column's unit, and the
        parts of the variance in that unit squared.

    Raises:
        InputError: If a recipe is not whole.
    """
    if min(draws, repeats) < 2:
        raise InputError("at least 2 draws and 2 repeats are needed to tell the parts of a variance apart")
    codec, schema = designer.codec, designer.schema
    batch = codec.layout.unpack(codec.encode(recipes)[None])
    for block in schema.blocks:
        known = batch.known[next(iter(sites.of_block(block)))][0]
        whole = known.all(dim=-1) if known.dim() > 1 else known
        if not whole.all():
            row = recipes.index[int(torch.nonzero(~whole)[0])]
            raise InputError(f"row {row} leaves {block.name!r} open: only whole recipes can be analysed")
    found = nested_draws(designer.network, batch, draws, repeats, seed=seed)
    shape = (draws, repeats, designer.network.members, len(recipes))
    packed = codec.layout.pack(found, batch.conditions.expand(*shape, -1))
    decoded = codec.decode(packed.flatten(0, 3))
    units = schema.units()
    records: list[dict[str, object]] = []
    for block in schema.blocks:
        if isinstance(block, Category):
            continue
        for column in block.names():
            drawn = decoded[column].to_numpy(np.float64).reshape(shape)
            parts = split_variance(drawn)
            for i, (row, value) in enumerate(recipes[column].items()):
                # A number that does not exist in this recipe, or cannot vary (a single support is the whole), says nothing.
                if parts["variance"][i] > 0:
                    records.append(
                        {"recipe": row, "column": column, "unit": units[column], "value": value}
                        | {"mean": drawn[..., i].mean(), "sd": np.sqrt(parts["variance"][i])}
                        | {name: parts[name][i] for name in ("variance", "aleatoric", "latent", "epistemic")}
                    )
    order = {row: i for i, row in enumerate(recipes.index)}
    frame = pd.DataFrame(records)
    return frame.sort_values("recipe", key=lambda x: x.map(order), kind="stable", ignore_index=True)


def whole_recipes(designer: RecipeDesigner, path: Path, target: float | None) -> pd.DataFrame:
    """Recipes of a file in the run's columns; an empty performance becomes the target, or stays unknown."""
    frame = RecipeTable.read(path, designer.schema, purpose="partial").frame
    name = designer.schema.performance.name
    return frame if target is None else frame.assign(**{name: frame[name].fillna(target)})


def proposed_recipes(designer: RecipeDesigner, asked: Sequence[str], target: float, n: int, seed: int) -> pd.DataFrame:
    """Newly proposed recipes, numbered by rank."""
    proposals = designer.propose(settings(asked), target, n, seed=seed)
    frame = proposals.frame[list(designer.schema.columns)].assign(**{designer.schema.performance.name: target})
    return frame.set_axis(range(1, len(frame) + 1), axis=0)


def show(frame: pd.DataFrame) -> None:
    """Print the parts as shares of the variance, in %."""
    shown = frame[["recipe", "column", "unit", "value", "mean", "sd"]]
    shares = 100 * frame[["aleatoric", "latent", "epistemic"]].div(frame["variance"], axis=0)
    print(
        pd.concat([shown, shares.add_suffix(" %").round()], axis=1).to_string(
            index=False, na_rep="-", float_format="%.4g"
        )
    )


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("run", type=Path, help="run folder")
    out.add_argument("--recipes", type=Path, help="table of whole recipes; default: propose some")
    out.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a condition; may be repeated")
    out.add_argument("--target", type=float, help="wanted performance")
    out.add_argument("-n", "--number", type=int, default=5, help="recipes to propose (default: 5)")
    out.add_argument("--draws", type=int, default=100, help="draws of the latents, S (default: 100)")
    out.add_argument("--repeats", type=int, default=5, help="recipes for each of them, R (default: 5)")
    out.add_argument("--seed", type=int, default=0, help="the same seed gives the same result (default: 0)")
    out.add_argument("--out", type=Path, help="CSV file to write")
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
            recipes = whole_recipes(designer, args.recipes, args.target)
        else:
            recipes = proposed_recipes(designer, args.set, args.target, args.number, args.seed)
        frame = analyse(designer, recipes, args.draws, args.repeats, seed=args.seed)
        show(frame)
        if args.out is not None:
            write_csv(frame, args.out)
            print(args.out)
    except InputError as error:
        options.error(str(error))


if __name__ == "__main__":
    main()
