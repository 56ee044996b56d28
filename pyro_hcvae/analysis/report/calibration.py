"""Whether the uncertainties hold for recipes that the members had set aside."""

from __future__ import annotations

import pandas as pd

from pyro_hcvae.analysis.held_out import choice_probabilities, pits_of_draws
from pyro_hcvae.analysis.plots import checks as check_plots
from pyro_hcvae.analysis.report.page import Listing, Picture, Section
from pyro_hcvae.analysis.set_aside import SetAside
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.evaluation.curves import coverage_curve, reliability
from pyro_hcvae.evaluation.uniformity import uniformity


def calibration_section(designer: RecipeDesigner, aside: SetAside, *, seed: int) -> Section:
    """Coverage of numbers, reliability of choices, and the predictor's intervals."""
    held = aside.table.frame
    pits = pits_of_draws(designer.schema, held, aside.draws, seed=seed)
    pictures, listings = [], []
    if len(pits):
        curves = pd.concat(
            [
                # Amounts of one recipe are not independent: the band counts recipes.
                coverage_curve(rows["pit"].to_numpy(), count=rows["row"].nunique()).assign(quantity=name)
                for name, rows in pits.groupby("block", sort=False)
            ]
        )
        pictures.append(
            Picture.of(
                check_plots.coverage_curves(curves),
                "Share of true numbers inside central intervals against the level of the interval, one panel a block.",
                "Intervals of numbers that exist (an amount, given that the component is there), for the conditions "
                "alone. On the "
                "dashed line they hold what they promise; above it they are too wide, below too narrow. Grey: where "
                "95 % of "
                "calibrated models would lie with so many recipes.",
            )
        )
        ninety = curves[curves["level"] == 0.9].assign(recipes=lambda f: f["n"])
        listings.append(
            Listing.of(
                "90 % intervals",
                ninety[["quantity", "inside", "low", "high", "recipes"]].rename(
                    columns={"inside": "share found inside", "low": "band, low", "high": "band, high"}
                ),
            )
        )
        columns = pits.pivot_table(index="row", columns="column", values="pit")
        often = columns.loc[:, columns.notna().sum() >= 20]
        if often.shape[1]:
            tests = uniformity(often).reset_index(names="column")
            listings.append(Listing.of("Ranks of the truth among the draws, column by column", tests, folded=True))
    choices = choice_probabilities(designer, held, members=aside.members, seed=seed)
    bins = pd.concat(
        [
            reliability(rows["probability"], rows["happened"]).assign(block=name)
            for name, rows in choices.groupby("block", sort=False)
        ]
    )
    pictures.append(
        Picture.of(
            check_plots.reliability(bins),
            "How often components, codes and states occurred against the probability that they were given, one panel "
            "a block.",
            "Choices for the conditions alone: on the dashed line, what was given a probability of 0.3 was there in "
            "30 % of the "
            "recipes. Bars: where 95 % of calibrated models would lie.",
        )
    )
    return Section(
        "calibration",
        "Calibration",
        [
            f"Truth beside prediction, for the {len(held)} recipes that members had set aside (predicted by those "
            "members). How the "
            "intervals hold for compositions and laboratories that are new altogether is measured by "
            "scripts/evaluate_uncertainty.py.",
        ],
        pictures,
        listings,
    )
