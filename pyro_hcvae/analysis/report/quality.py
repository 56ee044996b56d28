"""What the model draws, beside the recipes that its members had set aside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.analysis.conversion import equilibrium_curves
from pyro_hcvae.analysis.latents import latent_maps
from pyro_hcvae.analysis.plots import checks as check_plots
from pyro_hcvae.analysis.plots import latents as latent_plots
from pyro_hcvae.analysis.plots import recipes as recipe_plots
from pyro_hcvae.analysis.predictive_checks import predictive_checks
from pyro_hcvae.analysis.report.page import Listing, Picture, Section
from pyro_hcvae.analysis.set_aside import SetAside
from pyro_hcvae.chemistry.rules import broken_rules, rules_that_count
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.evaluation.novelty import novelty
from pyro_hcvae.evaluation.repair import Repair

_FAR = 4
"""Standard deviations from which on a difference is no chance."""


def quality_section(designer: RecipeDesigner, aside: SetAside, *, seed: int) -> Section:
    """Validity, novelty and posterior predictive checks."""
    schema, held = designer.schema, aside.table.frame
    checks = predictive_checks(schema, held, aside.draws, predict=partial(_predicted, designer))
    outside = int(((checks["observed"] < checks["low 5 %"]) | (checks["observed"] > checks["high 95 %"])).sum())
    far = int((checks["z"].abs() > _FAR).sum())
    repair = Repair.fit(schema, designer.table.frame)
    found = novelty(repair, designer.table.frame, aside.draws)
    distances = designer.known.distance(repair(aside.draws[list(schema.recipe_columns)]))
    pictures = [
        Picture.of(
            check_plots.predictive_checks(checks),
            "Observed statistics of the recipes beside 90 % intervals of the same statistics in replicated tables, "
            "one panel a check.",
            "Posterior predictive checks. Bars: 90 % interval of tables drawn by the model for the same conditions; "
            "strokes: their "
            "mean; circles: the table, filled where it lies outside.",
        ),
        Picture.of(
            recipe_plots.presence_heatmap(schema, held, aside.draws),
            "Heat maps of how often each frequent component occurs, by range of the performance: table and model.",
            f"How often components occur among recipes for each range of {schema.performance.name}, in the table and "
            "in the draws.",
        ),
        Picture.of(
            recipe_plots.novelty(designer.known.to_others, distances),
            "Distribution functions of the distance to the nearest known recipe, for the table and for draws.",
            f"How new draws are: {100 * (1 - found['novel']):.0f} % repeat a recipe of the table. Where the curves "
            "agree, draws lie as "
            "far from the table as its recipes lie from each other.",
        ),
        Picture.of(
            latent_plots.latent_maps(latent_maps(designer, designer.table, seed=seed)),
            "Maps of the recipes in each latent layer of the first member, marked by what they hold.",
            "Where recipes lie in the latent layers of member 0 (posterior means, along their two directions of "
            "largest variance). "
            "A layer without active units carries nothing for this member.",
        ),
    ]
    return Section(
        "quality",
        "Quality",
        [
            f"Each member had set some recipes aside. What follows compares {len(held)} such recipes (of "
            f"{aside.all_recipes}) with "
            f"{len(aside.draws)} draws for their conditions, by members that were not trained on them. They chose "
            "when to stop by these "
            "recipes, so that this is slightly optimistic; the full test, with training anew for each fold, is "
            "pyro-hcvae evaluate.",
            f"Of {len(checks)} statistics, {outside} lie outside their 90 % interval (of a perfect model about "
            f"{0.1 * len(checks):.0f} would), {far} of them more than {_FAR} standard "
            "deviations from the mean of the replicated tables.",
        ],
        pictures,
        [
            Listing.of("Draws beside real recipes [share]", _shares(designer, aside, found)),
            Listing.of("All posterior predictive checks", checks, folded=True),
        ],
    )


def performance_section(designer: RecipeDesigner, aside: SetAside, proposals: pd.DataFrame | None) -> Section | None:
    """Performance against the first condition, beside what equilibrium allows; None for a schema without conditions."""
    schema, predictor = designer.schema, designer.predictor
    if not schema.conditions:
        return None
    conditions = aside.draws[list(schema.condition_columns)].reset_index(drop=True)
    predicted = predictor.predict(aside.draws[list(schema.recipe_columns)], conditions)
    where = recipe_plots.shown_condition(schema)
    curves = equilibrium_curves(schema, designer.table.frame)
    shown = conditions.assign(mean=predicted["mean"])
    lines = "" if curves is None else (
        " Lines: equilibrium for the feeds of the table, without carbon and with graphite; bands hold 80 % of the "
        "feeds. What lies "
        "above the dashed line is no equilibrium state: errors of measurement, or of the predictor, which is not "
        "bound by it."
    )  # fmt: skip
    picture = Picture.of(
        recipe_plots.conversion(schema, designer.table.frame, shown, curves, proposals),
        f"{schema.performance.name} against {where.name}: measured rows, predicted performance of draws, and "
        "equilibrium curves.",
        f"Left: what was measured. Right: draws for the conditions and the {schema.performance.name} of set-aside "
        f"recipes.{lines}",
    )
    unit = schema.performance.unit
    listing = pd.DataFrame(
        {
            "R2 of rows": [predictor.r2],
            f"mean absolute error of rows {f'[{unit}]' if unit else ''}".rstrip(): [predictor.mae],
            "measurements in their 90 % interval [share of recipes]": [predictor.coverage],
        }
    )
    return Section(
        "performance",
        "Performance",
        [
            "The predictor shares nothing with the generator. Its figures are of recipes that it had not seen (out of "
            "fold, grouped by "
            "recipe).",
        ],
        [picture],
        [Listing.of("Predictor", listing)],
    )


def _predicted(designer: RecipeDesigner, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Performance that the independent predictor expects of rows of recipes and conditions, shape ``(B,)``."""
    schema = designer.schema
    found = designer.predictor.predict(rows[list(schema.recipe_columns)], rows[list(schema.condition_columns)])
    return found["mean"].to_numpy(np.float64)


def _shares(designer: RecipeDesigner, aside: SetAside, found: dict[str, float]) -> pd.DataFrame:
    schema = designer.schema
    rules = rules_that_count(schema)

    def kept(frame: pd.DataFrame) -> float:
        return (
            float(1 - broken_rules(frame.reset_index(drop=True), rules).any(axis=1).mean()) if rules else float("nan")
        )

    both = (aside.draws, aside.table.frame)
    return pd.DataFrame(
        {
            "recipes": ["drawn", "real"],
            "structurally valid": [float(is_valid(frame, schema).mean()) for frame in both],
            "keep the rules": [kept(frame) for frame in both],
            "novel": [found["novel"], float("nan")],
            "novel, valid and unique": [found["novel, valid and unique"], float("nan")],
            "novel beyond rounding": [found["novel beyond rounding"], float("nan")],
        }
    )
