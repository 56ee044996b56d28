"""Performance against temperature: equilibrium for the feeds of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_hcvae.chemistry.equilibrium import equilibrium
from pyro_hcvae.chemistry.thermodynamics import TEMPERATURE_C
from pyro_hcvae.chemistry.verdicts import states
from pyro_hcvae.data.schema import RecipeSchema

_POINTS, _FEEDS = 41, 200
WITHOUT, WITH = "without carbon", "with graphite"


def equilibrium_curves(schema: RecipeSchema, conditions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame | None:
    """Equilibrium conversion over the temperatures of a table, for the feeds and pressures of its rows.

    Args:
        schema: Meaning of the columns.
        conditions: Rows with the columns of the reaction. Of more than 200, so many are taken at random.
        seed: Chooses them.

    Returns:
        ``temperature`` in degC and, for ``without carbon`` and ``with graphite``, the median over the feeds in % and the range
        that holds 80 % of them (``... low``, ``... high``); None if the schema declares no reaction, or no row can react.
    """
    if schema.reaction is None:
        return None
    whole = conditions.dropna(subset=list(schema.reaction.names()))
    whole = whole[(whole[list(schema.reaction.species.values())] > 0).any(axis=1)]
    if whole.empty:
        return None
    rows = whole.iloc[np.random.default_rng(seed).permutation(len(whole))[:_FEEDS]]
    _, feed, pressure = states(schema, rows)
    tested = whole[schema.reaction.temperature]
    grid = np.linspace(tested.min(), tested.max(), _POINTS).clip(*TEMPERATURE_C)
    out = {"temperature": grid}
    for name, carbon in ((WITHOUT, False), (WITH, True)):
        found = equilibrium(grid[:, None], feed, pressure, carbon=carbon).conversion(schema.reaction.conversion_of)
        low, middle, high = 100 * np.nanquantile(found, (0.1, 0.5, 0.9), axis=1)
        out |= {name: middle, f"{name} low": low, f"{name} high": high}
    return pd.DataFrame(out)
