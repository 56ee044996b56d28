"""Where recipes lie in the latent layers."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pyro_hcvae.analysis.latents import LatentMap
from pyro_hcvae.analysis.plots.style import COLORS, MARKERS

_OTHERS = "others"


def latent_maps(maps: list[LatentMap]) -> Figure:
    """One panel a layer: posterior means of the recipes along their two directions of largest variance.

    Marks tell recipes apart by what they hold, the most frequent kinds first.
    """
    figure = Figure(figsize=(3.7 * len(maps), 4.0), layout="constrained")
    for axes, layer in zip(np.ravel(figure.subplots(1, len(maps))), maps, strict=True):
        kinds = [*layer.kinds[: len(COLORS) - 1], _OTHERS]
        labels = np.array([label if label in kinds else _OTHERS for label in layer.labels])
        for number, kind in reversed(list(enumerate(kinds))):
            here = labels == kind
            if not here.any():
                continue
            color = "0.7" if kind == _OTHERS else COLORS[number]
            style = {"marker": MARKERS[number], "color": color, "mfc": "none" if number % 2 else color}
            axes.plot(*layer.points[here].T, ls="", ms=3.5, mew=0.8, label=f"{kind} ({here.sum()})", **style)
        first, second = (100 * layer.explained).round()
        axes.set(
            xlabel=f"direction 1 [latent units], {first:.0f} % of the variance",
            ylabel=f"direction 2 [latent units], {second:.0f} %",
            title=f"{layer.site}: {layer.active} of {layer.size} units active\nmarks: {layer.block}",
        )
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=7)
    return figure
