"""The closed loop on the virtual laboratory: where it starts, what is asked for, and how good it can get. SIMULATED."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import TITLE, VirtualLab
from pyro_hcvae.study.loop import estimate_optimum, run_loop
from pyro_hcvae.study.space import RecipeSpace
from pyro_hcvae.study.strategies import Strategy

Floats = NDArray[np.float64]
CONDITIONS: Mapping[str, float] = MappingProxyType(
    {
        "Reaction T": 650.0,  # degC; the gas-phase equilibrium is 57.8 %
        "GHSV": 0.25,  # mg min/mL, a quarter of the shortest in any table: nothing comes to equilibrium by itself
        "Time on stream": 60.0,  # min
        "Reaction CH4": 50.0,  # %
        "Reaction CO2": 50.0,
        "Reaction Ar": 0.0,
        "Reaction N2": 0.0,
        "Reaction He": 0.0,
    }
)
"""A screening at short contact time, CO2/CH4 = 1, undiluted."""
_POOL = 3000


@dataclass(frozen=True)
class SimulatedLaboratory:
    """The virtual laboratory as a `pyro_hcvae.study.loop.Laboratory`."""

    lab: VirtualLab = field(default_factory=VirtualLab)

    def measure(self, frame: pd.DataFrame, *, seed: np.random.Generator) -> Floats:
        """`VirtualLab.measure`."""
        return self.lab.measure(frame, seed=seed)

    def truth(self, frame: pd.DataFrame) -> Floats:
        """`VirtualLab.true_conversion`."""
        return self.lab.true_conversion(frame)


@dataclass(frozen=True)
class SimulatedLoops:
    """Loops of several strategies from several start tables, each of which is a piece of work of its own.

    Attributes:
        strategies: By name.
        recipes: Of a start table.
        rows_per_recipe: Of a start table.
        rounds: Of a loop.
        batch: Recipes measured in a round.
        optimum: Best true performance that there is, or an estimate of it.
    """

    strategies: Mapping[str, Strategy]
    recipes: int
    rows_per_recipe: int
    rounds: int
    batch: int
    optimum: float

    def run(self, strategy_and_seed: tuple[str, int]) -> list[dict[str, Any]]:
        """Records of all rounds of one loop."""
        name, seed = strategy_and_seed
        start = start_table(self.recipes, self.rows_per_recipe, seed=seed)
        records = run_loop(
            self.strategies[name], SimulatedLaboratory(), start, CONDITIONS,
            rounds=self.rounds, batch=self.batch, seed=seed, optimum=self.optimum,
        )  # fmt: skip
        return [{"strategy": name, "seed": seed, **record} for record in records]


def start_table(recipes: int, rows_per_recipe: int, *, seed: int) -> RecipeTable:
    """What a few laboratories did before the loop, each under its own conditions; none of it at `CONDITIONS`.

    Raises:
        InputError: If a count is below 1.
    """
    frame = VirtualLab().experiments(recipes, rows_per_recipe, seed=seed)
    return RecipeTable.from_frame(frame, RecipeSchema.load("drm"), source=f"{TITLE}, seed {seed}")


def simulated_optimum() -> float:
    """Estimate of the best true conversion at `CONDITIONS` in %, by `estimate_optimum` from recipes of 250 laboratories."""
    space = RecipeSpace(RecipeSchema.load("drm"), dict(CONDITIONS))
    return estimate_optimum(SimulatedLaboratory(), space, VirtualLab().experiments(_POOL, 1, seed=0))
