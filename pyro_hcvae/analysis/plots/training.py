"""How training went."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.style import COLORS, DASHES, MARKERS


def training(history: pd.DataFrame) -> Figure:
    """Validation loss of every member, rates of the layers, and the schedule of beta and the layer factors.

    Args:
        history: `RecipeDesigner.history`, one row a member and interval.
    """
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    losses, rates, factors = figure.subplots(1, 3)
    for number, (member, rows) in enumerate(history.groupby("member")):
        dash = DASHES[number % len(DASHES)]
        color = COLORS[number % len(COLORS)]
        losses.plot(rows["step"], rows["validation_loss"], ls=dash, color=color, lw=1)
        best = rows.iloc[int(rows["validation_loss"].to_numpy().argmin())]
        mark = MARKERS[number % len(MARKERS)]
        label = f"member {member}: {best['validation_loss']:.2f}" if number < len(COLORS) else None
        losses.plot(best["step"], best["validation_loss"], mark, color=color, ms=5, label=label)
    # The first intervals, far above all others, would flatten what one wants to see.
    settled = history.loc[history["step"] > 0.1 * history["step"].max(), "validation_loss"]
    low, high = settled.min(), settled.quantile(0.98)
    if high > low:
        losses.set_ylim(low - 0.1 * (high - low), high + 0.15 * (high - low))
    losses.set(xlabel="step", ylabel="validation loss [nats per recipe]", title="loss; mark: best step")
    losses.legend(loc="upper right", fontsize=7)

    names = [c.removeprefix("rate ") for c in history.columns if c.startswith("rate ")]
    steps = history.groupby("step")
    for number, name in enumerate(names):
        color, dash = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
        rate = steps[f"rate {name}"]
        rates.plot(rate.mean().index, rate.mean(), ls=dash, color=color, label=name)
        rates.fill_between(rate.mean().index, rate.min(), rate.max(), color=color, alpha=0.15, lw=0)
        factors.plot(
            steps[f"gamma {name}"].mean(), ls=dash, color=color, marker=MARKERS[number % len(MARKERS)], markevery=8, ms=4,
            label=f"gamma, {name}",
        )  # fmt: skip
    rates.set(
        xlabel="step", ylabel="rate (KL, unweighted) [nats per recipe]", title="rates; band: range of the members"
    )
    rates.set_ylim(bottom=0)
    rates.legend()
    factors.plot(steps["beta"].mean(), color="black", lw=2, label="beta")
    factors.set(xlabel="step", ylabel="factor [1]", title="annealing (beta) and balancing (gamma)")
    factors.set_ylim(bottom=0)
    factors.legend()
    return figure
