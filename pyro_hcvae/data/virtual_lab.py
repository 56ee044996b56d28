"""`VirtualLab`: the embedded data set, a SIMULATED dry-reforming literature. No row of it was ever measured.

Laboratories that do not exist make catalysts in the columns of the built-in schema ``drm`` and measure them with noise.
The chemistry (`pyro_hcvae.data.virtual_chemistry`) is fixed; a seed only drives which recipes and conditions the
laboratories explore, and the noise. Since the truth behind the numbers is known for every recipe, also for a proposed
one, the whole loop of learning, proposing and measuring can be judged against it. What it says about real catalysts is
worth nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.virtual_chemistry import LATTICE, METALS, NOBLE, PREPARATIONS, SUPPORTS, Runs, conversion
from pyro_hcvae.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIMULATED = True
TITLE = "Virtual DRM laboratory (SIMULATED data, not measurements)"
"""For titles of plots, reports and files made from this data set; also in ``frame.attrs["title"]``."""

_CALCINATION = ("Calcination T", "Calcination time")
_REDUCTION = ("Reduction T", "Reduction time", "Reduction H2")
_DILUENTS = ("Reaction Ar", "Reaction N2", "Reaction He")
_RECIPE = (*METALS, *SUPPORTS, "Preparation", *_CALCINATION, *_REDUCTION)
_REACTION = ("Reaction T", "Reaction CH4", "Reaction CO2", *_DILUENTS, "GHSV", "Time on stream")
PERFORMANCE = "CH4 Conversion"
HEADER = ("No.", "Catalyst", *_RECIPE, *_REACTION, PERFORMANCE)
"""Columns of a table in the order of the file."""
_WHOLE_NUMBERS = {"Preparation", "Calcination T", "Reduction T", "Reaction T", "Time on stream"}
_CHUNK = 16_384  # rows whose intermediate arrays fit into a processor's cache

# --- What laboratories like ------------------------------------------------------------------------------------------
# All of it invented, at levels that are usual in the field. Tuples: what is listed twice is twice as usual.
_MAIN = {"Ni": 60.0, "Co": 11, "Rh": 7, "Ru": 7, "Pt": 7, "Pd": 3, "Ir": 2, "Fe": 1, "Cu": 0.5, "Ag": 0.5}
_PARTNER = {
    "Co": 5.0, "Pt": 4, "Ni": 4, "Ru": 3, "Rh": 3, "Fe": 3, "Cu": 2, "Pd": 1, "Ir": 1, "Au": 0.5, "Ag": 0.5,
}  # fmt: skip
_PROMOTER = {
    "Ce": 5.0, "La": 5, "K": 4, "Mg": 4, "Ca": 3, "Zr": 2, "Sr": 2, "Mn": 1, "Pr": 1, "Ba": 1, "Li": 1, "Y": 1,
}  # fmt: skip
_SUPPORT = {name: 0.3 if name in LATTICE else 1.0 for name in SUPPORTS} | {
    "Al2O3_Gamma": 12.0, "SiO2": 5, "MgO": 5, "CeO2": 4, "ZrO2": 4, "La2O3": 3, "TiO2": 2, "SBA-15": 2, "MgAlOx": 2,
}  # fmt: skip
_BASE_LOADING = (1, 2, 3, 5, 7.5, 8, 10, 12, 15)  # wt% of a base metal
_NOBLE_LOADING = (0.5, 0.75, 1, 1.5, 2, 3, 5)  # wt% of a noble metal
_PARTNER_SHARE = (0.1, 0.2, 0.25, 0.35)  # of the main metal's loading
_NOBLE_TRACE = (0.1, 0.2, 0.3, 0.5, 1)  # wt% of a noble metal beside another
_PROMOTER_LOADING = (0.5, 1, 2, 3, 4)  # wt%
_MIXTURE = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5)  # share of a second support
_CODES = (7, 7, 7, 7, 7, 4, 4, 4, 1, 2, 3, 5, 6)
_CALCINATION_C = (400, 450, 500, 500, 550, 600, 650, 700, 750, 800, 850, 900)
_CALCINATION_H = (2, 3, 4, 4, 5, 6)
_REDUCTION_C = (400, 450, 500, 550, 600, 650, 700, 700, 750, 800, 850)
_REDUCTION_H = (0.5, 1, 1, 2, 2, 3, 4)
_HYDROGEN = (5, 10, 20, 33.33, 50, 100, 100, 100)  # %
_NOT_REDUCED, _INERT, _UNSUPPORTED = 0.06, 0.04, 0.03  # shares of the recipes
_RATIO = (0.5, 0.67, 0.8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.25, 1.5, 2)  # CO2/CH4
_DILUTION = (0, 0, 0, 10, 20, 33.33, 40, 50, 60, 75, 80)  # % of the feed
_SPACE_VELOCITY = (9, 12, 12, 15, 15, 18, 20, 24, 24, 30, 30, 36, 40, 48, 60)  # L/(g h); W/F is 60 over it
_FIRST_C, _STEP_C, _LAST_C = (500, 550, 550, 600, 600, 600), 50, 900  # scan over temperature
_STABILITY_C = (600, 650, 700, 700, 700, 750, 750, 800)
_FIRST_MIN = (10, 30, 30, 60, 60, 120)
_SPACING_MIN = (30, 60, 60, 120, 300, 600)
_SCANNED = (0, 0.5, 0.5, 0.7, 1)  # share of a recipe's rows that belong to the scan
_RECIPES_PER_LABORATORY = 12
_NOBLE_COLUMN = np.isin(_RECIPE, NOBLE)


@dataclass(frozen=True)
class VirtualLab:
    """A simulated laboratory: it makes tables of experiments and measures any recipe.

    Example:
        >>> table = VirtualLab().experiments(recipes=20, seed=0)
        >>> len(table), table.attrs["title"]
        (120, 'Virtual DRM laboratory (SIMULATED data, not measurements)')
        >>> bool((VirtualLab().true_conversion(table) <= 100).all())
        True
    """

    noise_sd: float = 1.5
    """Standard deviation of one measurement in points of conversion."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_sd) and self.noise_sd >= 0):
            raise InputError(f"noise_sd is {self.noise_sd}: give a standard deviation of 0 points or more")

    def experiments(
        self, recipes: int = 200, rows_per_recipe: int = 6, *, seed: int | np.random.Generator
    ) -> pd.DataFrame:
        """A table as a file would hold it.

        About twelve recipes come from one laboratory, which has its own feed, contact time, metals, supports and
        habits. Each recipe is scanned over temperature, run for a longer time, or both.

        Args:
            recipes: Number of different recipes.
            rows_per_recipe: Mean number of experiments with a recipe; each has at least one.
            seed: Drives exploration and noise; the same seed gives the same table.

        Returns:
            ``recipes * rows_per_recipe`` rows in the columns of `HEADER`, values in the schema's units.

        Raises:
            InputError: If a count is below 1.
        """
        for name, value in (("recipes", recipes), ("rows_per_recipe", rows_per_recipe)):
            if value < 1:
                raise InputError(f"{name} is {value}: give a whole number of 1 or more")
        rng = np.random.default_rng(seed)
        laboratories = _Laboratories(rng, max(1, round(recipes / _RECIPES_PER_LABORATORY)))
        lab = np.sort(rng.integers(laboratories.count, size=recipes))
        table = laboratories.distinct_recipes(lab)
        recipe = np.repeat(np.arange(recipes), _row_counts(rng, recipes, rows_per_recipe))
        settings = laboratories.settings(lab, recipe)
        columns = {"No.": np.arange(1, len(recipe) + 1), "Catalyst": recipe + 1}
        columns |= {name: _typed(name, values)[recipe] for name, values in zip(_RECIPE, table.T, strict=True)}
        columns |= {name: _typed(name, settings[name]) for name in _REACTION}
        frame = pd.DataFrame(columns, copy=False)
        frame[PERFORMANCE] = self.measure(frame, seed=rng)
        frame.attrs.update(title=TITLE, simulated=SIMULATED)
        return frame

    def true_conversion(self, frame: pd.DataFrame) -> Floats:
        """Noise-free CH4 conversion of any recipes under any conditions, never above gas-phase equilibrium.

        Shares of supports count relative to their sum; a row without any support is a bulk catalyst. A reduction at
        0 degC did not take place; one with 0 % H2 took place in inert gas. A calcination or reduction time of 0 or NaN
        is not recorded and counts as a usual one.

        Args:
            frame: Rows with the recipe and reaction columns of `HEADER`; others are not looked at.

        Returns:
            Conversions in %, shape ``(rows,)``.

        Raises:
            InputError: If a column is missing or a cell cannot be an experiment; names the row, column and value.
        """
        if missing := [name for name in (*_RECIPE, *_REACTION) if name not in frame.columns]:
            raise InputError(f"the virtual laboratory needs the columns {', '.join(missing)}")
        result = np.empty(len(frame))
        for start in range(0, len(frame), _CHUNK):
            rows = slice(start, start + _CHUNK)
            result[rows] = 100 * conversion(_runs(frame.iloc[rows]))
        return result

    def measure(self, frame: pd.DataFrame, *, seed: int | np.random.Generator) -> Floats:
        """Measure recipes: `true_conversion` plus Gaussian noise, to one decimal, within 0 and 100.

        Args:
            frame: As for `true_conversion`.
            seed: Drives the noise. An integer gives the same noise at every call; a closed loop passes one generator
                to all of its rounds.

        Returns:
            Conversions in %, shape ``(rows,)``.

        Raises:
            InputError: As `true_conversion`.
        """
        truth = self.true_conversion(frame)
        noise = np.random.default_rng(seed).normal(scale=self.noise_sd, size=len(truth))
        measured: Floats = np.clip(np.round(truth + noise, 1), 0.0, 100.0)
        return measured


class _Laboratories:
    """Habits of L laboratories. An array ``(L, k)`` holds k favourites, the dearest first."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.rng, self.count = rng, count
        # Feed and contact time together are a laboratory's own: no two share them while there are enough.
        levels = (_RATIO, _DILUTION, _SPACE_VELOCITY)
        cells = list(product(*(sorted(set(values)) for values in levels)))
        weights = np.array([math.prod(v.count(x) for v, x in zip(levels, cell, strict=True)) for cell in cells])
        chosen = rng.choice(len(cells), size=count, replace=count > len(cells), p=weights / weights.sum())
        self.ratio, self.dilution, velocity = np.array(cells)[chosen].T
        self.contact = np.round(60 / velocity, 3)
        self.gas = rng.integers(len(_DILUENTS), size=count)

        self.main = self._components(_MAIN, 1)
        self.partners = self._components(_PARTNER, 2)
        self.promoters = self._components(_PROMOTER, 3)
        self.supports = self._components(_SUPPORT, 3)
        noble = _NOBLE_COLUMN[self.main]
        self.loadings = np.where(noble, self._levels(_NOBLE_LOADING, 4), self._levels(_BASE_LOADING, 4))
        self.codes = self._levels(_CODES, 2)
        self.calcination_c, self.calcination_h = self._levels(_CALCINATION_C, 3), self._levels(_CALCINATION_H, 1)
        self.reduction_c, self.reduction_h = self._levels(_REDUCTION_C, 2), self._levels(_REDUCTION_H, 1)
        self.hydrogen = self._levels(_HYDROGEN, 1)
        self.first_c, self.stability_c = self._levels(_FIRST_C, 1), self._levels(_STABILITY_C, 1)
        self.first_min, self.spacing_min = self._levels(_FIRST_MIN, 1), self._levels(_SPACING_MIN, 1)
        self.scanned = self._levels(_SCANNED, 1)

    def _components(self, weights: dict[str, float], k: int) -> Integers:
        """Columns of `_RECIPE`: k different ones a laboratory, more often those with a large weight."""
        columns = np.array([_RECIPE.index(name) for name in weights])
        # Exponential clocks: the first k to ring are a draw without replacement in proportion to the weights.
        clocks = self.rng.exponential(size=(self.count, len(columns))) / np.array(list(weights.values()))
        chosen: Integers = columns[np.argsort(clocks, axis=1)[:, :k]]
        return chosen

    def _levels(self, levels: tuple[float, ...], k: int) -> Floats:
        """Draw k settings a laboratory; a level that is listed twice is chosen twice as often."""
        return self.rng.choice(np.array(levels, dtype=np.float64), size=(self.count, k))

    def _pick(self, favourites: NDArray[Any], lab: Integers) -> NDArray[Any]:
        """One favourite a recipe, each half as likely as the one before it, shape ``(R,)``."""
        odds = 0.5 ** np.arange(favourites.shape[1])
        return favourites[lab, self.rng.choice(len(odds), size=len(lab), p=odds / odds.sum())]

    def distinct_recipes(self, lab: Integers) -> Floats:
        """Recipes in the columns of `_RECIPE`, one for each entry of ``lab``, no two alike, shape ``(R, columns)``."""
        table = self._recipes(lab)
        while (again := pd.DataFrame(table, copy=False).duplicated().to_numpy()).any():
            table[again] = self._recipes(lab[again])
        return table

    def _recipes(self, lab: Integers) -> Floats:
        rng, count = self.rng, len(lab)
        rows, table = np.arange(count), np.zeros((count, len(_RECIPE)))

        def add(column: Integers, amount: Floats, odds: float) -> None:
            chosen = rng.random(count) < odds
            table[rows[chosen], column[chosen]] = amount[chosen]

        for odds in (0.45, 0.15):
            add(self._pick(self.promoters, lab), rng.choice(_PROMOTER_LOADING, size=count), odds)
        loading, partner = self._pick(self.loadings, lab), self._pick(self.partners, lab)
        part = np.round(loading * rng.choice(_PARTNER_SHARE, size=count), 2)
        trace = rng.choice(_NOBLE_TRACE, size=count)
        add(partner, np.where(_NOBLE_COLUMN[partner], trace, part), 0.3)
        add(self.main[lab, 0], loading, 1.0)  # last, so that a partner of the same name gives way

        first, second, third = self.supports[lab].T
        swap = rng.random(count) < 0.35
        first, second = np.where(swap, second, first), np.where(swap, first, second)
        kind = rng.choice(4, size=count, p=[0.79 - _UNSUPPORTED, 0.18, 0.03, _UNSUPPORTED])
        share = np.where((kind == 1) | (kind == 2), rng.choice(_MIXTURE, size=count), 0.0)
        little = np.where(kind == 2, 0.1, 0.0)
        supported = kind < 3
        for column, amount in ((second, share), (third, little), (first, np.round(1 - share - little, 2))):
            table[rows, column] = np.where(supported, amount, 0.0)

        pretreatment = table[:, -1 - len(_CALCINATION) - len(_REDUCTION) :]  # a view: written in place
        for i, favourites in enumerate(
            (self.codes, self.calcination_c, self.calcination_h, self.reduction_c, self.reduction_h, self.hydrogen)
        ):
            pretreatment[:, i] = self._pick(favourites, lab)
        skipped = rng.random(count)
        pretreatment[skipped < _NOT_REDUCED, 3:] = 0.0
        pretreatment[skipped > 1 - _INERT, 5] = 0.0
        return table

    def settings(self, lab: Integers, recipe: Integers) -> dict[str, Floats]:
        """Reaction columns of each row.

        Args:
            lab: Laboratory of each recipe, shape ``(R,)``.
            recipe: Recipe of each row, ascending, shape ``(rows,)``.
        """
        rows = np.bincount(recipe, minlength=len(lab))
        position = np.arange(len(recipe)) - (np.cumsum(rows) - rows)[recipe]
        first_c, first_min = self.first_c[lab, 0], self.first_min[lab, 0]
        steps = np.minimum(np.ceil(self.scanned[lab, 0] * rows), (_LAST_C - first_c) // _STEP_C + 1)[recipe]
        scan = position < steps
        place = lab[recipe]
        # After a scan the run goes on at another temperature; the first measurement of a bare run has no wait.
        waits = np.where(scan, 0, position - steps + (steps > 0))
        ch4 = np.round((100 - self.dilution) / (1 + self.ratio), 2)
        co2 = np.round(100 - self.dilution - ch4, 2)  # the sum is 100 in spite of the rounding
        return {
            "Reaction T": np.where(scan, first_c[recipe] + _STEP_C * position, self.stability_c[place, 0]),
            "Reaction CH4": ch4[place],
            "Reaction CO2": co2[place],
            **{name: np.where(self.gas == i, self.dilution, 0.0)[place] for i, name in enumerate(_DILUENTS)},
            "GHSV": self.contact[place],
            "Time on stream": first_min[recipe] + self.spacing_min[place, 0] * waits,
        }


def _row_counts(rng: np.random.Generator, recipes: int, mean: int) -> Integers:
    """How many rows each recipe gets: at least one, ``recipes * mean`` together."""
    counts = 1 + np.bincount(rng.integers(recipes, size=recipes * (mean - 1)), minlength=recipes)
    return counts.astype(np.int64)


def _typed(name: str, values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.int64 if name in _WHOLE_NUMBERS else np.float64)


def _runs(frame: pd.DataFrame) -> Runs:
    """Numbers of some rows, checked."""
    names = [*_RECIPE, *_REACTION]
    try:
        values = frame[names].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the virtual laboratory needs numbers: {error}") from None
    column = {name: values[:, i] for i, name in enumerate(names)}
    bad = ~(np.isfinite(values) & (values >= 0))
    for name in (_CALCINATION[1], _REDUCTION[1]):
        bad[:, names.index(name)] &= ~np.isnan(column[name])
    for name in ("Reaction CH4", "Reaction CO2"):
        bad[:, names.index(name)] |= column[name] == 0
    bad[:, names.index("Preparation")] |= ~np.isin(column["Preparation"], list(PREPARATIONS))
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise InputError(
            f"row {frame.index[i]}: {names[j]!r} is {values[i, j]:g}. The virtual laboratory needs finite numbers of 0 "
            f"or more, CH4 and CO2 in the feed, and a preparation code from {min(PREPARATIONS)} to {max(PREPARATIONS)}"
        )
    return Runs(
        metals=values[:, : len(METALS)],
        supports=values[:, len(METALS) : len(METALS) + len(SUPPORTS)],
        preparation=column["Preparation"].astype(np.int64),
        calcination=np.column_stack([column[name] for name in _CALCINATION]),
        reduction=np.column_stack([column[name] for name in _REDUCTION]),
        reaction_c=column["Reaction T"],
        feed=np.column_stack([column["Reaction CH4"], column["Reaction CO2"], sum(column[name] for name in _DILUENTS)]),
        contact=column["GHSV"],
        minutes=column["Time on stream"],
    )
