"""What a run said of recipes that it had not seen, truth beside prediction, in long tables: the data of calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.analysis.uncertainty import uncertainty
from pyro_hcvae.data import sites
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.evaluation.calibration import events, numbers, randomised_pit
from pyro_hcvae.posterior.importance import hide_sites, log_marginal
from pyro_hcvae.posterior.nested import nested_draws

Floats = NDArray[np.float64]


def number_pits(designer: RecipeDesigner, held: pd.DataFrame, *, draws: int = 400, seed: int = 0) -> pd.DataFrame:
    """Where the amounts, shares and settings of held-out recipes lie among draws for their conditions.

    Each number that exists is compared with the draws that have it: what is said of an amount, given that the component is there.

    Args:
        designer: Fitted without these rows.
        held: Rows of `RecipeTable.frame`, one a recipe, labels that differ.
        draws: Recipes drawn for each row, of all members together.
        seed: Fixes the draws.

    Returns:
        ``row``, ``block``, ``column``, ``pit`` (within 0 to 1) and ``draws``, how many of the draws have the number; one row a
        number that exists in a held-out recipe and in a draw of it.
    """
    schema = designer.schema
    conditions = held[[*schema.condition_columns, schema.performance.name]]
    return pits_of_draws(
        schema, held, pd.concat(designer.sample(conditions, draws, as_drawn=True, seed=seed)), seed=seed
    )


def pits_of_draws(schema: RecipeSchema, held: pd.DataFrame, drawn: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The same for draws that are there already: equally many for each row, in the order of the rows."""
    draws = len(drawn) // len(held)
    rng = np.random.default_rng(seed)
    parts = []
    for block in schema.blocks:
        if isinstance(block, Category):
            continue
        truth = numbers(block, held)
        x = numbers(block, drawn).reshape(len(held), draws, -1).swapaxes(0, 1)
        pit, count = randomised_pit(x, truth, rng), np.isfinite(x).sum(axis=0)
        # The share of a single support is the whole: nothing was predicted.
        varies = np.isfinite(pit) & ~((x == truth) | np.isnan(x)).all(axis=0)
        where = np.argwhere(varies)
        parts.append(
            pd.DataFrame(
                {
                    "row": held.index.to_numpy()[where[:, 0]],
                    "block": block.name,
                    "column": np.array(block.names())[where[:, 1]],
                    "pit": pit[varies],
                    "draws": count[varies],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def choice_probabilities(
    designer: RecipeDesigner,
    held: pd.DataFrame,
    *,
    draws: int = 50,
    members: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Probability of every component, code and state for the conditions of held-out recipes, and whether they have it.

    Args:
        designer: Fitted without these rows.
        held: Rows of `RecipeTable.frame`, one a recipe.
        draws: Draws of the latents for each member, over which exact probabilities are averaged.
        members: Which members are asked about each row, shape ``(M, B)``, at least one of them; None: all.
        seed: Fixes the draws.

    Returns:
        ``row``, ``block``, ``outcome`` (component, code, or state), ``probability`` and ``happened``.
    """
    codec = designer.codec
    batch = codec.layout.unpack(codec.encode(held)[None])
    found = nested_draws(designer.network, hide_sites(batch, batch.values), draws, seed=seed).probabilities
    asked = np.ones((designer.network.members, len(held))) if members is None else members.astype(np.float64)
    weights = (asked / asked.sum(axis=0))[..., None]
    parts = []
    for block in designer.schema.blocks:
        p = (found[next(iter(sites.of_block(block)))].double().mean(dim=(0, 1)).numpy() * weights).sum(axis=0)
        names = np.array(_outcomes(block))
        parts.append(
            pd.DataFrame(
                {
                    "row": held.index.to_numpy().repeat(len(names)),
                    "block": block.name,
                    "outcome": np.tile(names, len(held)),
                    "probability": p.ravel(),
                    "happened": events(block, held).ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def epistemic_scores(
    designer: RecipeDesigner, rows: pd.DataFrame, *, draws: int = 50, repeats: int = 2, seed: int = 0
) -> pd.DataFrame:
    """How far the members disagree about each recipe: scores that ought to be larger for what is unlike the table.

    Args:
        designer: A fitted one with several members.
        rows: Rows of `RecipeTable.frame`, labels that differ.
        draws: Draws of the latents for each member.
        repeats: Recipes for each of them.
        seed: Fixes the draws.

    Returns:
        Indexed by label: ``choices for the conditions`` and ``choices around the recipe``, epistemic mutual information summed
        over components, codes and steps, in nats; ``numbers around the recipe``, epistemic variance over the table's variance
        of the column, summed; ``log density``, standard deviation over members of ``log p(x | c)``, in nats.
    """
    schema = designer.schema
    alone = rows.assign(**dict.fromkeys(schema.recipe_columns, np.nan))
    settings = {"draws": draws, "repeats": repeats, "seed": seed}
    asked, around = uncertainty(designer, alone, **settings), uncertainty(designer, rows, **settings)
    numeric = designer.table.frame[around.numbers["column"].unique()]
    spread = numeric.where(numeric > 0).var(ddof=0)
    relative = around.numbers["epistemic"] / around.numbers["column"].map(spread).replace(0.0, np.nan)
    packed = designer.codec.encode(rows)[None]
    batch = designer.codec.layout.unpack(packed).expand_members(designer.network.members)
    nats = log_marginal(designer.network, batch, draws=draws, seed=seed)
    return pd.DataFrame(
        {
            "choices for the conditions": asked.structures.groupby("recipe")["epistemic"].sum(),
            "choices around the recipe": around.structures.groupby("recipe")["epistemic"].sum(),
            "numbers around the recipe": relative.groupby(around.numbers["recipe"]).sum(),
            "log density": pd.Series(nats.std(dim=0).double().numpy(), index=rows.index),
        },
        index=rows.index,
    ).fillna(0.0)


def _outcomes(block: Block) -> tuple[str, ...]:
    if isinstance(block, Amounts | Fractions):
        return block.columns
    return tuple(map(str, block.codes)) if isinstance(block, Category) else block.states
