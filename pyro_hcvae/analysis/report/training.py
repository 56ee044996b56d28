"""How training went."""

from __future__ import annotations

import pandas as pd

from pyro_hcvae.analysis.plots.training import training
from pyro_hcvae.analysis.report.page import Listing, Picture, Section
from pyro_hcvae.designer import RecipeDesigner


def training_section(designer: RecipeDesigner) -> Section:
    """Loss, rates and schedules, and what each member came to."""
    history, config = designer.history, designer.config.train
    refitted = designer.before_refit().network is not designer.network
    anew = " Each was then trained anew on all recipes, for as many steps as its best one." if refitted else ""
    picture = Picture.of(
        training(history),
        "Three panels over the training steps: validation loss of each member; rates of the latent layers; beta and "
        "gamma.",
        "Left: loss on recipes that each member had set aside; the mark is its best step. Middle: how "
        "many nats "
        "each latent layer carries (mean and range over the members). Right: beta, and the factors gamma that keep "
        "any layer from "
        "being silenced while beta rises.",
    )
    return Section(
        "training",
        "Training",
        [
            f"{config.members} members, replicates with initial values, minibatches and set-aside recipes of their "
            "own, were trained "
            f"for at most {config.steps} steps of {config.batch_size} recipes, with final beta "
            f"{_values(config.each('final_beta'))}. Member m draws everything from seed {config.seed} + m.{anew}",
        ],
        [picture],
        [Listing.of("Members", _members(history))],
    )


def _members(history: pd.DataFrame) -> pd.DataFrame:
    best = history.loc[history.groupby("member")["validation_loss"].idxmin()].reset_index(drop=True)
    last = history.groupby("member")["step"].max().to_numpy()
    rates = {f"{name} [nats]": best[name] for name in best.columns if name.startswith("rate ")}
    return pd.DataFrame(
        {
            "member": best["member"],
            "best step": best["step"],
            "last step": last,
            "validation loss [nats per recipe]": best["validation_loss"],
            **rates,
        }
    )


def _values(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in dict.fromkeys(values))
