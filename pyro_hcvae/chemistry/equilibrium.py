r"""Chemical equilibrium of CH4, CO2, CO, H2, H2O and inert gas, with and without graphite, for many states at once.

Both problems are reduced to the root of one monotone function, which is bisected for all states together:

- Without graphite, the unknown is the CH4 that is left. For each value the reverse water-gas shift, CO2 + H2 = CO + H2O, is the
  root of a quadratic, and the reaction quotient of CH4 + CO2 = 2 CO + 2 H2 only falls.
- With graphite, the unknown is the partial pressure of H2. CH4, CO2 and H2O follow from those of H2 and CO, since graphite has
  the activity 1; CO is the root of a quadratic that keeps the total pressure, and H/O of the gas only grows.

Graphite exists where the gas without it has a carbon activity above 1, and nowhere else. Gases are ideal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyro_hcvae.chemistry.thermodynamics import SPECIES, TEMPERATURE_C, Floats, carbon_constants
from pyro_hcvae.errors import InputError

Bools = NDArray[np.bool_]

INERT = "inert"
PRESSURE_ATM = (0.01, 100.0)
"""Where the gases are close to ideal."""
LABORATORY_C = (200.0, 1000.0)
"""Where a temperature is looked for unless one says otherwise."""
_BISECTIONS = 60
_BALANCE = 1e-9
TRACE = 1e-12  # share of the feed that must react, so that no product of fractions leaves the range of floats
_SECTIONS = (32, 8, 8, 8, 8, 8)  # of a range that is searched, then of the section where something was found
_ATOMS = {"CH4": (1, 4, 0), "CO2": (1, 0, 2), "CO": (1, 0, 1), "H2": (0, 2, 0), "H2O": (0, 2, 1)}


@dataclass(frozen=True)
class Equilibrium:
    """Equilibrium states. Every array has the common shape of temperature, pressure and feed.

    Attributes:
        fed: Mole fractions of the feed by species, ``inert`` among them.
        moles: Moles of each gas for a mole of feed.
        carbon: Moles of graphite for a mole of feed; 0 where it does not form, or was not allowed to.
        carbon_activity: That of the gas without graphite, relative to graphite: above 1 carbon can form. Infinite for a gas that
            cannot reach its equilibrium without forming carbon, such as pure CH4.
    """

    fed: Mapping[str, Floats]
    moles: Mapping[str, Floats]
    carbon: Floats
    carbon_activity: Floats

    def conversion(self, species: str = "CH4") -> Floats:
        """Converted share of a species, 1 at most; negative where more of it is formed, NaN where none is fed."""
        fed = self.fed[species]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(fed > 0, (fed - self.moles[species]) / fed, np.nan)

    def fractions(self) -> dict[str, Floats]:
        """Mole fractions of the gas."""
        total = sum(self.moles.values(), np.zeros_like(self.carbon))
        return {name: moles / total for name, moles in self.moles.items()}

    @property
    def h2_co(self) -> Floats:
        """H2/CO of the gas; NaN where it has neither, infinite where it has no CO."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.moles["H2"] / self.moles["CO"])


def equilibrium(
    temperature_c: ArrayLike, feed: Mapping[str, ArrayLike], pressure_atm: ArrayLike = 1.0, *, carbon: bool
) -> Equilibrium:
    """Equilibrium at given temperature and pressure.

    Args:
        temperature_c: Temperature in degC, 100 to 1400.
        feed: Amounts of CH4, CO2, CO, H2, H2O and ``inert`` in any common scale (fractions, %, mL/min); what is not named is 0.
        pressure_atm: Total pressure in atm, 0.01 to 100.
        carbon: Whether graphite may form.

    Returns:
        States in the shape to which the arguments broadcast.

    Raises:
        InputError: If a species is unknown or an argument impossible; names the row and the value.

    Example:
        >>> state = equilibrium([700.0, 800.0], {"CH4": 50.0, "CO2": 50.0}, carbon=False)
        >>> state.conversion().round(3)
        array([0.728, 0.905])
    """
    temperature, pressure, fed = _checked(temperature_c, feed, pressure_atm)
    shape = temperature.shape
    t, p = temperature.ravel(), pressure.ravel()
    atoms = _atoms({name: amount.ravel() for name, amount in fed.items()})
    inert = fed[INERT].ravel()
    constants = carbon_constants(t, p)
    moles = _gas(atoms, inert, p, constants)
    activity = _carbon_activity(moles, inert, p, constants)
    graphite = np.zeros_like(t)
    if carbon:
        forms = np.flatnonzero(activity > 1)
        some = [k[forms] for k in constants]
        moles[:, forms], graphite[forms] = _gas_over_graphite(atoms[:, forms], inert[forms], p[forms], some)
    left = _atoms(dict(zip(SPECIES, moles, strict=True)))
    left[0] += graphite
    off = ~(np.abs(left - atoms).max(axis=0) <= _BALANCE * atoms.sum(axis=0))  # also where it is NaN
    _refuse(off, "no equilibrium was found at {} degC", t)
    gases = {name: amount.reshape(shape) for name, amount in zip(SPECIES, moles, strict=True)}
    return Equilibrium(fed, gases | {INERT: fed[INERT]}, graphite.reshape(shape), activity.reshape(shape))


def reachable_temperature(
    target_pct: ArrayLike,
    feed: Mapping[str, ArrayLike],
    pressure_atm: ArrayLike = 1.0,
    *,
    carbon: bool,
    species: str = "CH4",
    between_c: tuple[float, float] = LABORATORY_C,
) -> Floats:
    """Lowest temperature at which the equilibrium conversion reaches a target.

    Args:
        target_pct: Wanted conversion in %.
        feed: As for `equilibrium`.
        pressure_atm: Total pressure in atm.
        carbon: Whether graphite may form.
        species: Whose conversion.
        between_c: Range that is searched, in degC.

    Returns:
        Temperatures in degC in the shape to which the arguments broadcast, within 0.001 K; NaN where there is none.

    Raises:
        InputError: As `equilibrium`; also if the species is not fed or the target no number.

    Example:
        >>> reachable_temperature([50.0, 99.9], {"CH4": 1.0, "CO2": 1.0}, carbon=False).round()
        array([627.,  nan])
    """
    if species not in SPECIES:
        raise InputError(f"no conversion of {species!r}: known are {', '.join(SPECIES)}")
    low, high = between_c
    _, pressure, fed = _checked(low, feed, pressure_atm)
    wanted, pressure = np.broadcast_arrays(np.asarray(target_pct, dtype=np.float64), pressure)
    fed = {name: np.broadcast_to(amount, wanted.shape) for name, amount in fed.items()}
    _refuse(~np.isfinite(wanted), "target {} %: not a number", wanted)
    _refuse(fed[species] <= 0, f"no {species} is fed: it has no conversion to {{}} %", wanted)

    def reached(temperature: Floats) -> Bools:
        return equilibrium(temperature, fed, pressure, carbon=carbon).conversion(species) >= wanted / 100

    return first_value(np.full(wanted.shape, low), np.full(wanted.shape, high), reached)


def first_value(low: Floats, high: Floats, holds: Callable[[Floats], Bools]) -> Floats:
    """Lowest value of a range from which on a condition holds; NaN where it holds at none of 33 points of the range.

    Args:
        low: Lower ends, any shape.
        high: Upper ends, same shape.
        holds: Takes values, possibly with leading dimensions more, and says for each whether the condition holds.
    """
    exists = np.zeros(low.shape, dtype=np.bool_)
    for sections in _SECTIONS:
        steps = np.linspace(0.0, 1.0, sections + 1).reshape(-1, *[1] * low.ndim)
        points = low + (high - low) * steps
        found = holds(points)
        exists |= found.any(axis=0)
        first = found.argmax(axis=0)[None]
        low = np.take_along_axis(points, np.maximum(first - 1, 0), axis=0)[0]
        high = np.take_along_axis(points, first, axis=0)[0]
    return np.where(exists, high, np.nan)


def _gas(atoms: Floats, inert: Floats, pressure: Floats, constants: tuple[Floats, Floats, Floats]) -> Floats:
    """Moles of the five gases without graphite, shape ``(5, B)``, from moles of C, H and O, shape ``(3, B)``."""
    cracking, boudouard, gasification = constants
    reforming, shift = cracking * boudouard, boudouard / gasification
    c, h, o = atoms
    least = np.maximum(c - o, 0.0)  # CH4 that no oxygen is left for
    spare = np.maximum(o - c, 0.0)
    most = np.minimum(np.minimum(c, h / 4), (2 * c + h / 2 - o) / 4)

    def at(above: Floats) -> Floats:
        ch4 = least + above
        water = spare + above  # H2O if there were no CO2, which it must not be computed from by subtraction
        carbon = np.maximum(c - ch4, 0.0)
        hydrogen = np.maximum(h / 2 - 2 * ch4, 0.0)
        # (carbon - CO2) (water - CO2) = K CO2 (hydrogen - water + CO2), whose root must not suffer from cancellation.
        b, product = carbon + water + shift * (hydrogen - water), carbon * water
        root = np.sqrt(np.maximum(b * b - 4 * (1 - shift) * product, 0.0))
        plus = np.where((b >= 0) & (b + root > 0), b + root, 1.0)
        co2 = np.where(b >= 0, 2 * product / plus, (b - root) / np.where(b < 0, 2 * (1 - shift), 1.0))
        co2 = np.clip(co2, np.maximum(water - hydrogen, 0.0), np.minimum(carbon, water))
        return np.stack([ch4, co2, carbon - co2, hydrogen - water + co2, water - co2])

    low, high = np.zeros_like(c), np.maximum(most - least, 0.0)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        moles = at(middle)
        ch4, co2, co, h2, _h2o = moles
        total = moles.sum(axis=0) + inert
        too_little = (co * h2 * pressure) ** 2 > reforming * ch4 * co2 * total**2
        low, high = np.where(too_little, middle, low), np.where(too_little, high, middle)
    return np.maximum(at(high), 0.0)


def _gas_over_graphite(
    atoms: Floats, inert: Floats, pressure: Floats, constants: list[Floats]
) -> tuple[Floats, Floats]:
    """Moles of the five gases beside graphite, shape ``(5, B)``, and moles of graphite, shape ``(B,)``."""
    cracking, boudouard, gasification = constants
    c, h, o = atoms
    dilution = inert / (h + o)  # its partial pressure over those of H and O as atoms
    # Total pressure: a polynomial in the partial pressures of H2 and CO whose coefficients are all positive.
    linear_h2, square_h2 = 1 + 2 * dilution, (1 + 4 * dilution) / cracking
    linear_co, square_co = 1 + dilution, (1 + 2 * dilution) / boudouard
    mixed = (1 + 3 * dilution) / gasification

    def at(h2: Floats) -> Floats:
        rest = np.maximum(pressure - h2 * (linear_h2 + square_h2 * h2), 0.0)
        co = _positive_root(square_co, linear_co + mixed * h2, rest)
        return np.stack([h2 * h2 / cracking, co * co / boudouard, co, h2, co * h2 / gasification])

    low, high = np.zeros_like(c), _positive_root(square_h2, linear_h2, pressure)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        ch4, co2, co, h2, h2o = at(middle)
        too_much = o * (4 * ch4 + 2 * h2 + 2 * h2o) > h * (2 * co2 + co + h2o)
        low, high = np.where(too_much, low, middle), np.where(too_much, middle, high)
    # Without oxygen the root is the upper end, without hydrogen the lower one.
    partial = at(np.where(o == 0, high, low))
    _, hydrogen, oxygen = _atoms(dict(zip(SPECIES, partial, strict=True)))
    moles = partial * (h + o) / (hydrogen + oxygen)
    carbon, _, _ = _atoms(dict(zip(SPECIES, moles, strict=True)))
    return moles, np.maximum(c - carbon, 0.0)


def _positive_root(square: Floats, linear: Floats, constant: Floats) -> Floats:
    """The x >= 0 with ``square x^2 + linear x = constant``, all of them non-negative."""
    return np.asarray(2 * constant / (linear + np.sqrt(linear**2 + 4 * square * constant)))


def _carbon_activity(
    moles: Floats, inert: Floats, pressure: Floats, constants: tuple[Floats, Floats, Floats]
) -> Floats:
    """Activity of carbon, from whichever of its three reactions has the least of rounding in it."""
    cracking, boudouard, gasification = constants
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(moles) + np.log(pressure / (moles.sum(axis=0) + inert))
        ch4, co2, co, h2, h2o = logs
        ways = np.stack(
            [
                np.log(cracking) + ch4 - 2 * h2,
                2 * co - co2 - np.log(boudouard),
                co + h2 - h2o - np.log(gasification),
            ]
        )
    scarcest = np.stack([np.minimum(ch4, h2), np.minimum(co, co2), np.minimum(np.minimum(co, h2), h2o)])
    # A reaction of which both sides are missing says nothing.
    best = np.where(np.isnan(ways), -np.inf, np.maximum(scarcest, -1e300)).argmax(axis=0)
    log = np.take_along_axis(ways, best[None], axis=0)[0]
    with np.errstate(over="ignore"):
        return np.where(np.isnan(log), 0.0, np.exp(log))


def _atoms(amounts: Mapping[str, Floats]) -> Floats:
    """Moles of C, H and O, shape ``(3, B)``."""
    return np.stack([sum(count[i] * amounts[name] for name, count in _ATOMS.items()) for i in range(3)])


def _checked(
    temperature_c: ArrayLike, feed: Mapping[str, ArrayLike], pressure_atm: ArrayLike
) -> tuple[Floats, Floats, dict[str, Floats]]:
    """Arguments as arrays of one shape, the feed as mole fractions."""
    known = (*SPECIES, INERT)
    for name in feed:
        if name not in known:
            raise InputError(f"unknown species {name!r} in the feed: known are {', '.join(known)}")
    try:
        amounts = {name: np.asarray(feed.get(name, 0.0), dtype=np.float64) for name in known}
        temperature, pressure, *parts = np.broadcast_arrays(
            np.asarray(temperature_c, dtype=np.float64), np.asarray(pressure_atm, dtype=np.float64), *amounts.values()
        )
    except ValueError as error:
        raise InputError(f"temperature, pressure and feed must be numbers of matching shapes: {error}") from None
    for what, unit, values, (low, high) in (
        ("temperature", "degC", temperature, TEMPERATURE_C),
        ("pressure", "atm", pressure, PRESSURE_ATM),
    ):
        outside = ~((values >= low) & (values <= high))
        _refuse(outside, f"{what} {{}} {unit}: must lie within {low:g} to {high:g} {unit}", values)
    for name, part in zip(known, parts, strict=True):
        _refuse(~(np.isfinite(part) & (part >= 0)), f"feed {name} = {{}}: must be a number, 0 or above", part)
    with np.errstate(over="ignore"):
        reacting, total = np.sum(parts[:-1], axis=0), np.sum(parts, axis=0)
    _refuse(~np.isfinite(total), "the feed sums to {}: give smaller numbers", total)
    _refuse(reacting <= TRACE * total, f"the feed holds {{}} of {', '.join(SPECIES)}: nothing can react", reacting)
    return temperature, pressure, {name: part / total for name, part in zip(known, parts, strict=True)}


def _refuse(bad: Bools, message: str, values: Floats) -> None:
    """Raise for the first bad state, with its value in place of the braces."""
    wrong = np.flatnonzero(bad)
    if len(wrong):
        place = f"row {wrong[0] + 1} of {np.size(bad)}: " if np.size(bad) > 1 else ""
        raise InputError(place + message.format(f"{np.ravel(values)[wrong[0]]:g}"))
