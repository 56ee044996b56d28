"""Whether an asked conversion can exist at all under the conditions asked for, and whether carbon can form there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyro_hcvae.chemistry.equilibrium import (
    INERT,
    LABORATORY_C,
    PRESSURE_ATM,
    TRACE,
    equilibrium,
    first_value,
    reachable_temperature,
)
from pyro_hcvae.chemistry.thermodynamics import SPECIES, TEMPERATURE_C, Floats
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Level = Literal["green", "amber", "red"]
MARGIN_PCT = 2.0
"""Points above the equilibrium with graphite that are put down to the errors of a measurement."""
RATIO_LIMIT = 5.0
"""Largest CO2/CH4 that is suggested against carbon."""
_LEAST_LIMIT_PCT = 0.1
"""Conversion that nobody could measure: of a smaller one no share can be told."""


@dataclass(frozen=True)
class EquilibriumVerdict:
    """What thermodynamics says of one asked conversion.

    Attributes:
        level: ``green``: at or below the equilibrium without carbon. ``red``: more than two points above the equilibria without
            and with graphite. ``amber``: in between.
        reason: The level in words, with the temperature that would make the target reachable.
        carbon_risk: What the carbon activity means and what removes the risk; empty where carbon cannot form.
        target_pct: Asked conversion.
        without_carbon_pct: Equilibrium conversion in the gas alone.
        with_carbon_pct: Equilibrium conversion where graphite may form.
        reachable_c: Lowest temperature from 200 to 1000 degC at which the target is reached without carbon; NaN if none.
        carbon_activity: That of the equilibrium gas without graphite; above 1 carbon can form.
        carbon_free_c: Lowest temperature, from the asked one to 1000 degC, at which the activity is 1 or less; NaN if none.
        carbon_free_ratio: Lowest CO2/CH4, from the asked one to 5 with the share of both kept, at which it is; NaN if none.
    """

    level: Level
    reason: str
    carbon_risk: str
    target_pct: float
    without_carbon_pct: float
    with_carbon_pct: float
    reachable_c: float
    carbon_activity: float
    carbon_free_c: float
    carbon_free_ratio: float


def verdict(
    target_pct: ArrayLike,
    temperature_c: ArrayLike,
    feed: Mapping[str, ArrayLike],
    pressure_atm: ArrayLike = 1.0,
    *,
    species: str = "CH4",
) -> list[EquilibriumVerdict]:
    """Judge asked conversions, all of them at once.

    Args:
        target_pct: Asked conversions in %.
        temperature_c: Temperature in degC.
        feed: Amounts by species, as for `equilibrium`.
        pressure_atm: Total pressure in atm.
        species: Whose conversion is asked for.

    Returns:
        One verdict a row of the arguments as broadcast against each other.

    Raises:
        InputError: As `equilibrium`; also if the species is not fed or a target no number.

    Example:
        >>> [found] = verdict(80.0, 700.0, {"CH4": 50.0, "CO2": 50.0})
        >>> found.level, round(found.reachable_c)
        ('amber', 730)
    """
    shape = np.broadcast_shapes(
        equilibrium(temperature_c, feed, pressure_atm, carbon=False).carbon.shape, np.shape(target_pct)
    )

    def flat(values: ArrayLike) -> Floats:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), shape).ravel()

    target, t, p = flat(target_pct), flat(temperature_c), flat(pressure_atm)
    gases = {name: flat(amount) for name, amount in feed.items()}
    reachable = reachable_temperature(target, gases, p, carbon=False, species=species)
    free, limited = (equilibrium(t, gases, p, carbon=carbon) for carbon in (False, True))
    without, with_ = (100 * state.conversion(species) for state in (free, limited))
    activity = free.carbon_activity
    colder, ratio = _remedies(t, free.fed, p, activity)
    return [
        EquilibriumVerdict(
            _level(target[i], without[i], with_[i]),
            _reason(target[i], without[i], with_[i], t[i], reachable[i]),
            _carbon_risk(activity[i], colder[i], ratio[i]),
            *map(float, (target[i], without[i], with_[i], reachable[i], activity[i], colder[i], ratio[i])),
        )
        for i in range(len(target))
    ]


def judge(schema: RecipeSchema, frame: pd.DataFrame, target: ArrayLike) -> list[EquilibriumVerdict] | None:
    """Judge an asked performance under rows of conditions.

    Args:
        schema: Meaning of the columns.
        frame: Condition columns, in the table's units.
        target: Asked performance in %, one value or one a row.

    Returns:
        One verdict a row; None if the schema does not declare its reaction.

    Raises:
        InputError: If a column is missing, or a value impossible; names the row (counted from 1) and the value.
    """
    if schema.reaction is None:
        return None
    temperature, feed, pressure = states(schema, frame)
    return verdict(target, temperature, feed, pressure, species=schema.reaction.conversion_of)


def states(schema: RecipeSchema, frame: pd.DataFrame) -> tuple[Floats, dict[str, Floats], Floats]:
    """Temperature in degC, amounts by species as for `equilibrium`, and pressure in atm of rows of conditions.

    Raises:
        InputError: If a column is missing.
        ValueError: If the schema does not declare its reaction.
    """
    reaction = schema.reaction
    if reaction is None:
        raise ValueError(f"schema {schema.name!r} does not declare its reaction")
    if missing := [name for name in reaction.names() if name not in frame.columns]:
        raise InputError(f"the equilibrium needs the columns {', '.join(map(repr, missing))}")

    def values(column: str) -> Floats:
        return frame[column].to_numpy(np.float64)

    feed = {str(gas): values(column) for gas, column in reaction.species.items()}
    feed[INERT] = sum((values(column) for column in reaction.inert), np.zeros(len(frame)))
    pressure = reaction.pressure
    if isinstance(pressure, str):
        atm = values(pressure) * reaction.atm_per(schema.units()[pressure])
    else:
        atm = np.full(len(frame), pressure)
    return values(reaction.temperature), feed, atm


def equilibrium_limits(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Conversion in % that equilibrium without graphite allows under rows of conditions.

    Args:
        schema: Meaning of the columns; it declares its reaction.
        frame: Condition columns, in the table's units.

    Returns:
        Shape ``(rows,)``, at least 0.1; NaN where equilibrium sets no limit that means anything: a cell is not known or beyond
        what `equilibrium` takes, the gas that is converted is not fed, or less of it than that could be converted.

    Raises:
        InputError: If a column is missing.
        ValueError: If the schema does not declare its reaction.
    """
    temperature, feed, pressure = states(schema, frame)
    assert schema.reaction is not None, "states refuse a schema without one"
    species = schema.reaction.conversion_of
    every = np.column_stack([temperature, pressure, *feed.values()])
    distinct, which = np.unique(every, axis=0, return_inverse=True)  # draws share their conditions
    t, p, *amounts = distinct.T
    gases = dict(zip(feed, amounts, strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        total = distinct[:, 2:].sum(axis=1)
        reacting = sum((gases[name] for name in SPECIES if name in gases), np.zeros(len(t)))
    known = np.isfinite(distinct).all(axis=1) & (distinct[:, 2:] >= 0).all(axis=1) & np.isfinite(total)
    known &= (gases[species] > 0) & (reacting > TRACE * total)
    for values, (low, high) in ((t, TEMPERATURE_C), (p, PRESSURE_ATM)):
        known &= (values >= low) & (values <= high)
    limit = np.full(len(t), np.nan)
    some = {name: amount[known] for name, amount in gases.items()}
    limit[known] = 100 * equilibrium(t[known], some, p[known], carbon=False).conversion(species)
    limit[~(limit >= _LEAST_LIMIT_PCT)] = np.nan  # also where products are fed, and more of it is formed
    found: Floats = limit[which.ravel()]
    return found


def _remedies(
    temperature: Floats, fed: Mapping[str, Floats], pressure: Floats, activity: Floats
) -> tuple[Floats, Floats]:
    """Temperature and CO2/CH4 from which on carbon cannot form, NaN where it cannot anyway or no remedy exists."""
    hotter, ratio = np.full_like(temperature, np.nan), np.full_like(temperature, np.nan)

    def some(rows: NDArray[np.int64]) -> tuple[dict[str, Floats], Floats]:
        return {name: amount[rows] for name, amount in fed.items()}, pressure[rows]

    rows = np.flatnonzero((activity > 1) & (temperature < LABORATORY_C[1]))
    gases, p = some(rows)
    hotter[rows] = first_value(
        temperature[rows],
        np.full(len(rows), LABORATORY_C[1]),
        lambda t: equilibrium(t, gases, p, carbon=False).carbon_activity <= 1,
    )
    rows = np.flatnonzero((activity > 1) & (fed["CH4"] > 0) & (fed["CO2"] < RATIO_LIMIT * fed["CH4"]))
    gases, p = some(rows)
    both, t = gases["CH4"] + gases["CO2"], temperature[rows]

    def safe(r: Floats) -> NDArray[np.bool_]:
        changed = gases | {"CH4": both / (1 + r), "CO2": both * r / (1 + r)}
        return equilibrium(t, changed, p, carbon=False).carbon_activity <= 1

    ratio[rows] = first_value(gases["CO2"] / gases["CH4"], np.full(len(rows), RATIO_LIMIT), safe)
    return hotter, ratio


def _level(target: float, without: float, with_: float) -> Level:
    if target <= without:
        return "green"
    return "red" if target > max(without, with_) + MARGIN_PCT else "amber"


def _reason(target: float, without: float, with_: float, temperature: float, reachable: float) -> str:
    match _level(target, without, with_):
        case "green":
            return f"{target:.1f} % is within the equilibrium of {without:.1f} % at {temperature:g} degC."
        case "red":
            limit = (
                f"the equilibrium, even with carbon formation ({with_:.1f} %)"
                if with_ > without
                else f"the equilibrium of {without:.1f} %"
            )
            text = f"{target:.1f} % is above {limit}, at {temperature:g} degC: no catalyst reaches it."
        case _ if target <= with_:
            text = (
                f"{target:.1f} % needs net carbon formation: at {temperature:g} degC the equilibrium is {without:.1f} % without "
                f"carbon and {with_:.1f} % with it."
            )
        case _:
            text = (
                f"{target:.1f} % is above the equilibrium of {max(without, with_):.1f} % at {temperature:g} degC, but by no more "
                f"than the {MARGIN_PCT:g} points put down to errors of measurement."
            )
    low, high = LABORATORY_C
    if math.isnan(reachable):
        return f"{text} Without carbon it is reachable at no temperature from {low:g} to {high:g} degC."
    return f"{text} Without carbon it is reachable at {math.ceil(reachable)} degC."


def _carbon_risk(activity: float, hotter: float, ratio: float) -> str:
    if activity <= 1:
        return ""
    size = "infinite" if math.isinf(activity) else f"{activity:.3g}"
    text = f"Carbon can form: its activity in the equilibrium gas is {size}, above 1."
    ways = [] if math.isnan(hotter) else [f"at {math.ceil(hotter)} degC"]
    ways += [] if math.isnan(ratio) else [f"with CO2/CH4 = {math.ceil(100 * ratio) / 100:g}"]
    if ways:
        return f"{text} It cannot {' or '.join(ways)}."
    return f"{text} Neither a temperature up to {LABORATORY_C[1]:g} degC nor CO2/CH4 up to {RATIO_LIMIT:g} removes the risk."
