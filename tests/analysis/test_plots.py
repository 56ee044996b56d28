"""Figures: units on every axis, the same bytes each time, and no trace in matplotlib's settings."""

from __future__ import annotations

import base64

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pyro_hcvae import InputError, RecipeDesigner
from pyro_hcvae.analysis.latents import latent_maps
from pyro_hcvae.analysis.plots import checks, latents, proposals, recipes, scores
from pyro_hcvae.analysis.plots.style import data_uri, style, svg
from pyro_hcvae.analysis.plots.training import training
from pyro_hcvae.analysis.predictive_checks import predictive_checks
from pyro_hcvae.evaluation.curves import coverage_curve, reliability


def labels(figure: Figure) -> list[str]:
    """Everything that axes and the figure itself are labelled with."""
    texts = [figure.get_supxlabel(), figure.get_supylabel()]
    for axes in figure.axes:
        texts += [axes.get_xlabel(), axes.get_ylabel()]
    return [text for text in texts if text]


@pytest.fixture(scope="module")
def rows(designer: RecipeDesigner) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a recipe, and draws for it."""
    observed = designer.table.frame.drop_duplicates(list(designer.schema.recipe_columns))
    return observed, pd.concat(designer.sample(observed, 6, seed=0))


def test_training_shows_losses_rates_and_schedule(designer: RecipeDesigner) -> None:
    figure = training(designer.history)
    assert labels(figure) == [
        "step", "validation loss [nats per recipe]", "step", "rate (KL, unweighted) [nats per recipe]", "step", "factor [1]",
    ]  # fmt: skip
    losses, _, factors = figure.axes
    kept = [line for line in losses.lines if line.get_marker() not in (None, "None")]
    best = designer.history.groupby("member")["validation_loss"].min().to_list()
    assert [line.get_ydata()[0] for line in kept] == pytest.approx(best)
    drawn = {line.get_label(): line.get_ydata() for line in factors.lines}
    assert drawn["beta"] == pytest.approx(designer.history.groupby("step")["beta"].mean().to_numpy())


def test_recipes(designer: RecipeDesigner, rows: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    observed, draws = rows
    heat = recipes.presence_heatmap(designer.schema, observed, draws)
    assert "Yield [%]" in labels(heat)
    table = heat.axes[0].images[0].get_array()
    assert table.shape[0] == 3
    first = observed["Yield"] < np.quantile(observed["Yield"], 0.25)
    name = heat.axes[0].get_yticklabels()[0].get_text()
    assert table[0, 0] == pytest.approx((observed[name][first] > 0).mean())
    assert labels(recipes.novelty(np.array([1.0, 2.0]), np.array([0.0, 3.0])))
    shown = draws[["T"]].assign(mean=50.0)
    asked = pd.DataFrame({"T": [500.0], "mean": [60.0], "low": [50.0], "high": [70.0]})
    figure = recipes.conversion(designer.schema, observed, shown, None, asked)
    assert labels(figure) == ["T [degC]", "Yield [%]", "T [degC]"]
    assert labels(latents.latent_maps(latent_maps(designer, designer.table)))


def test_checks(designer: RecipeDesigner, rows: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = predictive_checks(designer.schema, *rows)
    figure = checks.predictive_checks(found)
    assert len(figure.axes) == found["check"].nunique()
    assert {"wt%", "degC", "share of recipes"} <= set(labels(figure))
    pit = np.random.default_rng(0).random(50)
    assert labels(checks.coverage_curves(coverage_curve(pit).assign(quantity="metals")))
    assert labels(checks.reliability(reliability(pit, pit > 0.5).assign(block="metals")))
    parts = pd.DataFrame({"group": ["known", "left out"] * 5, "value": np.arange(10.0)})
    figure = checks.growth(parts, {"value": "spread [nats]"})
    assert "spread [nats]" in labels(figure)
    known, left_out = figure.axes[0].lines
    assert left_out.get_xdata().mean() == known.get_xdata().mean() + 1
    both = pd.concat([coverage_curve(pit).assign(quantity="metals", intervals=k) for k in ("as drawn", "recalibrated")])
    assert [t.get_text() for t in checks.coverage_curves(both).legends[0].get_texts()] == ["as drawn", "recalibrated"]


def test_proposals() -> None:
    intervals = pd.DataFrame(
        {
            "column": ["A", "X", "Red T"], "value": [1.0, 1.0, 500.0], "unit": ["wt%", "fraction", "degC"],
            "probability": [0.9, 0.5, 1.0], "low": [0.5, 1.0, 450.0], "high": [2.0, 1.0, 600.0],
        }
    )  # fmt: skip
    figure = proposals.amounts(intervals)
    assert labels(figure) == ["wt%", "degC"]  # a share that is the whole cannot vary
    assert proposals.amounts(intervals.iloc[1:2]).axes[0].texts
    parts = pd.DataFrame({"label": ["A"], "aleatoric": [2.0], "latent": [1.0], "epistemic": [1.0]})
    bars = proposals.variance_shares(parts).axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.25, 0.25])
    assert len({bar.get_hatch() for bar in bars}) == 3  # readable without colour


def test_scores_of_two_splits_are_not_mixed() -> None:
    frame = pd.DataFrame(
        {"generator": ["hcvae", "cart"], "seed": 0, "fold": 0, "valid": [1.0, 0.7], "by": ["recipe", "composition"]}
    )
    with pytest.raises(InputError, match="different splits"):
        scores.peers(frame)


def test_a_figure_is_the_same_file_each_time_and_settings_stay(designer: RecipeDesigner) -> None:
    before = dict(mpl.rcParams)
    files = []
    for _ in range(2):
        with style():
            files.append(svg(training(designer.history)))
    assert files[0] == files[1]
    assert dict(mpl.rcParams) == before
    with style():
        address = data_uri(training(designer.history))
    assert base64.b64decode(address.removeprefix("data:image/svg+xml;base64,")) == files[0]
