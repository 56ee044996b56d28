"""The equilibria of `pyro_hcvae.chemistry.equilibrium` by Cantera, one by one: for its tests and its benchmark.

Needs Cantera, which the extra ``dev`` brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_hcvae.chemistry.thermodynamics import SPECIES

Floats = NDArray[np.float64]


class Oracle:
    """Cantera's multiphase solver with its own copies of the NASA polynomials; ``inert`` is N2."""

    def __init__(self) -> None:
        import cantera

        self.cantera = cantera
        species = [s for s in cantera.Species.list_from_file("nasa_gas.yaml") if s.name in (*SPECIES, "N2")]
        self.gas = cantera.Solution(thermo="ideal-gas", species=species)
        self.graphite = cantera.Solution("graphite.yaml")

    def solve(
        self, temperature_c: Floats, feed: Mapping[str, Floats], pressure_atm: Floats, *, carbon: bool
    ) -> dict[str, Floats]:
        """Moles of each gas and of graphite (``C``) for one mole of feed, NaN where Cantera does not converge."""
        rows = []
        for i in range(len(temperature_c)):
            fed = {"N2" if name == "inert" else name: float(amount[i]) for name, amount in feed.items()}
            rows.append(self._state(float(temperature_c[i]), fed, float(pressure_atm[i]), carbon=carbon))
        return dict(zip((*SPECIES, "C"), np.array(rows).T, strict=True))

    def _state(self, temperature_c: float, fed: dict[str, float], pressure_atm: float, *, carbon: bool) -> list[float]:
        self.gas.TPX = temperature_c + 273.15, pressure_atm * self.cantera.one_atm, fed
        phases: list[Any] = [(self.gas, 1.0), *([(self.graphite, 0.0)] if carbon else [])]
        mixture = self.cantera.Mixture(phases)
        mixture.T, mixture.P = self.gas.TP
        try:
            with redirect_stdout(StringIO()):  # it prints each attempt that failed
                mixture.equilibrate("TP", solver="auto")
        except self.cantera.CanteraError:
            return [np.nan] * (len(SPECIES) + 1)
        moles = [float(mixture.species_moles[mixture.species_index(0, name)]) for name in SPECIES]
        return [*moles, float(mixture.species_moles[-1]) if carbon else 0.0]
