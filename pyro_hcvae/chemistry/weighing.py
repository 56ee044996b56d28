r"""From recipes to masses at the balance: supports, precursors, stock solutions, impregnations, the furnace programme.

Percent by weight has two readings, and tables rarely say which of them they mean:

- of the catalyst: :math:`m_i = m_\mathrm{support}\\, w_i / (100 - \sum_j w_j)`,
- of the support: :math:`m_i = m_\mathrm{support}\\, w_i / 100`,

with metals counted as elements. `Settings.basis` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from pyro_hcvae.chemistry.component_tables import weight_columns
from pyro_hcvae.chemistry.precursors import Precursor, PrecursorTable
from pyro_hcvae.chemistry.prices import PriceTable
from pyro_hcvae.chemistry.recipe_words import composition, treatment
from pyro_hcvae.data.schema import Amounts, Fractions, RecipeSchema
from pyro_hcvae.errors import InputError

Basis = Literal["catalyst", "support"]
Bulk = Literal["skip", "weight", "atoms"]
OF_SATURATION = 0.8
"""Share of its solubility up to which a solution is used: dissolved salt takes room beside the water, and a saturated solution
crystallises in the pipette."""


@dataclass(frozen=True)
class Settings:
    """What is to be made.

    Attributes:
        support_mass_g: Mass of support of each recipe, all components together.
        basis: What the percentages of the metals are of.
        pore_volume_ml_per_g: Water that a gram of the dry support takes up; None: no volumes.
        bulk: How to read the amounts of a recipe without a support. ``weight``: percent of the mass asked; ``atoms``: ratios of
            atoms, and the mass asked is that of the metals together; ``skip``: such recipes are not weighed.
    """

    support_mass_g: float
    basis: Basis = "catalyst"
    pore_volume_ml_per_g: float | None = None
    bulk: Bulk = "skip"

    def __post_init__(self) -> None:
        for option, value in (("--support-mass", self.support_mass_g), ("--pore-volume", self.pore_volume_ml_per_g)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{option} {value:g}: must be a number above 0")


@dataclass(frozen=True)
class Support:
    """A component of the support: its share of the whole, and its mass."""

    component: str
    share: float
    mass_g: float


@dataclass(frozen=True)
class Charge:
    """A precursor to weigh.

    Attributes:
        component: Recipe column.
        amount: Number in the recipe.
        metal_mass_g: Mass of the metal, as element.
        precursor: The chemical that brings it.
        cost_usd: Value of the metal; None: its price is not known.
    """

    component: str
    amount: float
    metal_mass_g: float
    precursor: Precursor
    cost_usd: float | None

    @property
    def mass_g(self) -> float:
        """What the balance is to show."""
        return self.metal_mass_g / self.precursor.metal_share

    @property
    def metal_mol(self) -> float:
        """Moles of the metal."""
        return self.metal_mass_g / self.precursor.atomic_mass


@dataclass(frozen=True)
class Impregnation:
    """Incipient wetness: one stock solution of all precursors, soaked up in equal portions.

    Attributes:
        volume_ml: Volume of one portion: the pores of the support.
        steps: Portions that the solubilities ask for, with drying in between.
        unknown: Precursors whose solubility is not known, and which are not counted.
    """

    volume_ml: float
    steps: int
    unknown: tuple[str, ...]

    @property
    def stock_ml(self) -> float:
        """Volume to which the stock solution is made up."""
        return self.volume_ml * self.steps


@dataclass(frozen=True)
class Sheet:
    """All that one recipe asks for.

    Attributes:
        row: Row of the recipe's file.
        recipe: The composition in words.
        supports: Components of the support; empty: a bulk recipe.
        charges: Precursors; empty: none, or a bulk recipe that was skipped.
        catalyst_mass_g: Supports and metals as elements; None: not known.
        impregnation: None: no pore volume was given, or nothing is impregnated.
        programme: Preparation and treatments in words, in the order of the schema.
        notes: What to know before weighing.
    """

    row: Hashable
    recipe: str
    supports: tuple[Support, ...]
    charges: tuple[Charge, ...]
    catalyst_mass_g: float | None
    impregnation: Impregnation | None
    programme: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def cost_usd(self) -> float | None:
        """Value of the metals in the batch; None: a price is not known."""
        costs = [charge.cost_usd for charge in self.charges]
        return None if None in costs else math.fsum(cost for cost in costs if cost is not None)

    @property
    def cost_usd_per_kg(self) -> float | None:
        """The same per kilogram of catalyst; None: a price, or the mass of the catalyst, is not known."""
        if self.cost_usd is None or not self.catalyst_mass_g:
            return None
        return 1000 * self.cost_usd / self.catalyst_mass_g


def weigh(
    frame: pd.DataFrame,
    schema: RecipeSchema,
    settings: Settings,
    *,
    precursors: PrecursorTable,
    prices: PriceTable,
    source: str = "recipes",
) -> list[Sheet]:
    """Work out a weighing sheet for each recipe.

    Args:
        frame: Recipe rows, components without gaps; the index names them. A setting of a step may be open (NaN).
        schema: Meaning of the columns. Amounts in wt% are weighed, shares split the support.
        settings: Batch size and readings.
        precursors: Chemicals by component.
        prices: Prices by component.
        source: Name of the file, for messages.

    Raises:
        InputError: If the schema has no amounts in wt%, a component that is present has no precursor, or amounts leave no room
            for the support; names row, column, value and the remedy.
    """
    columns = weight_columns(schema)
    if not columns:
        raise InputError(f"schema {schema.name!r} has no amounts in wt%: there is nothing to weigh")
    found = {column: precursor for column in columns if (precursor := precursors.of(column)) is not None}
    for column in columns:
        if column not in found and (held := frame.index[frame[column] > 0]).size:
            value = float(frame[column].to_numpy()[frame.index.get_loc(held[0])])
            raise InputError(
                f"{source}: row {held[0]!s}, column {column!r}: {value:g}: there is no precursor for "
                f"{column!r}. Add a row for it to a CSV file with columns component, name, formula, ..., and name it with "
                "--precursors FILE"
            )
    records = frame.to_dict("records")
    return [
        _sheet(row, record, schema, settings, found, prices, f"{source}: row {row}")
        for row, record in zip(frame.index, records, strict=True)
    ]


def _sheet(
    row: Hashable,
    record: Mapping[Any, Any],
    schema: RecipeSchema,
    settings: Settings,
    precursors: Mapping[str, Precursor],
    prices: PriceTable,
    place: str,
) -> Sheet:
    amounts = {c: float(record[c]) for c in weight_columns(schema) if record[c] > 0}
    supports = _supports(record, schema, settings.support_mass_g)
    masses, catalyst, notes = _metal_masses(amounts, bool(supports), settings, precursors, place)
    charges = []
    for column, mass in masses.items():
        price = prices.of(column)
        cost = None if price is None else mass * price.usd_per_kg / 1000
        charges.append(Charge(column, amounts[column], mass, precursors[column], cost))
    if any(c.cost_usd is None for c in charges):
        unpriced = ", ".join(c.component for c in charges if c.cost_usd is None)
        notes.append(f"No price for {unpriced}: add it to a file and name that with --prices.")
    notes += [f"{c.component}: {c.precursor.note}" for c in charges if c.precursor.note]
    for block in schema.blocks:
        if isinstance(block, Amounts) and not set(block.columns) & set(weight_columns(schema)):
            notes += [f"{c} {record[c]:g} {block.unit}: not weighed." for c in block.columns if record[c] > 0]
    return Sheet(
        row,
        composition(record, schema),
        supports,
        tuple(charges),
        catalyst,
        _impregnation(charges, settings) if supports else None,
        tuple(line for block in schema.blocks if (line := treatment(block, record))),
        tuple(notes),
    )


def _supports(record: Mapping[Any, Any], schema: RecipeSchema, mass_g: float) -> tuple[Support, ...]:
    shares = {
        c: float(record[c]) for b in schema.blocks if isinstance(b, Fractions) for c in b.columns if record[c] > 0
    }
    total = math.fsum(shares.values())
    return tuple(Support(c, share / total, mass_g * share / total) for c, share in shares.items())


def _metal_masses(
    amounts: Mapping[str, float],
    supported: bool,
    settings: Settings,
    precursors: Mapping[str, Precursor],
    place: str,
) -> tuple[dict[str, float], float | None, list[str]]:
    """Mass of each metal in g, that of the catalyst in g if it is known, and what to say about it."""
    mass, total = settings.support_mass_g, math.fsum(amounts.values())
    worst = max(amounts, key=lambda c: amounts[c], default="")
    if supported:
        if settings.basis == "catalyst" and total >= 100:
            raise InputError(
                f"{place}, column {worst!r}: {amounts[worst]:g}: the metals sum to {total:g} wt% of the catalyst, which "
                "leaves no room for the support: correct the row, or pass --basis support"
            )
        base = mass / (100 - total) if settings.basis == "catalyst" else mass / 100
        metals = {c: base * w for c, w in amounts.items()}
        return metals, mass + math.fsum(metals.values()), []
    if not amounts:
        return {}, None, ["No support and no metal: there is nothing to weigh."]
    if settings.bulk == "weight":
        if total > 100:
            raise InputError(
                f"{place}, column {worst!r}: {amounts[worst]:g}: the metals of this recipe without support sum to {total:g} wt%: "
                "correct the row, or pass --bulk atoms"
            )
        text = f"No support: {mass:g} g is taken as the mass of the catalyst, and the amounts as wt% of it."
        return {c: mass * w / 100 for c, w in amounts.items()}, mass, [text]
    if settings.bulk == "atoms":
        atoms = {c: x * precursors[c].atomic_mass for c, x in amounts.items()}
        weight = math.fsum(atoms.values())
        text = (
            f"No support: the amounts are taken as ratios of atoms, and {mass:g} g as the mass of the metals together."
        )
        return {c: mass * m / weight for c, m in atoms.items()}, None, [text]
    text = (
        f"No support, and amounts that sum to {total:g}: not weighed. If they are wt% of the catalyst pass --bulk weight, "
        "if they are ratios of atoms, as in a perovskite, pass --bulk atoms."
    )
    return {}, None, [text]


def _impregnation(charges: list[Charge], settings: Settings) -> Impregnation | None:
    if settings.pore_volume_ml_per_g is None or not charges:
        return None
    volume = settings.pore_volume_ml_per_g * settings.support_mass_g
    unknown, water = [], 0.0
    for charge in charges:
        soluble = charge.precursor.soluble_metal_g_per_ml
        if soluble is None:
            unknown.append(charge.component)
        else:  # precursors share the water: each needs its part of it
            water += charge.metal_mass_g / soluble
    steps = max(1, math.ceil(water / (OF_SATURATION * volume) - 1e-9))
    return Impregnation(volume, steps, tuple(unknown))
