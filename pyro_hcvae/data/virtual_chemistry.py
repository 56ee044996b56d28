r"""Chemistry of the virtual laboratory: SIMULATED dry reforming of methane, no measurement behind any number it gives.

.. math::
    X = X_{eq} \left(1 - e^{-k\, a(t)\, \tau / X_{eq}}\right)

:math:`X_{eq}` is the gas-phase equilibrium of CH4 + CO2 = 2 CO + 2 H2 and CO2 + H2 = CO + H2O at 1 atm, :math:`k` the
rate constant of the reduced metal surface, :math:`a` the activity left after the time on stream and :math:`\tau` the
contact time. The equilibrium is as good as its data. The rest has the form and the order of magnitude of what is known
about such catalysts; a number marked *invented* was chosen to be plausible and must not be cited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# --- Thermochemistry ------------------------------------------------------------------------------------------------
# NASA 7-coefficient polynomials, 200-1000 and 1000-3500 K, 1 atm. Source: thermodynamic file of GRI-Mech 3.0 (Smith
# et al., http://combustion.berkeley.edu/gri-mech/version30/), entries L 8/88, L 7/88, TPIS79, TPIS78 and L 8/89.
_CH4 = (
    (5.14987613, -1.36709788e-2, 4.91800599e-5, -4.84743026e-8, 1.66693956e-11, -1.02466476e4, -4.64130376),
    (7.48514950e-2, 1.33909467e-2, -5.73285809e-6, 1.22292535e-9, -1.01815230e-13, -9.46834459e3, 18.4373180),
)
_CO2 = (
    (2.35677352, 8.98459677e-3, -7.12356269e-6, 2.45919022e-9, -1.43699548e-13, -4.83719697e4, 9.90105222),
    (3.85746029, 4.41437026e-3, -2.21481404e-6, 5.23490188e-10, -4.72084164e-14, -4.87591660e4, 2.27163806),
)
_CO = (
    (3.57953347, -6.10353680e-4, 1.01681433e-6, 9.07005884e-10, -9.04424499e-13, -1.43440860e4, 3.50840928),
    (2.71518561, 2.06252743e-3, -9.98825771e-7, 2.30053008e-10, -2.03647716e-14, -1.41518724e4, 7.81868772),
)
_H2 = (
    (2.34433112, 7.98052075e-3, -1.94781510e-5, 2.01572094e-8, -7.37611761e-12, -917.935173, 0.683010238),
    (3.33727920, -4.94024731e-5, 4.99456778e-7, -1.79566394e-10, 2.00255376e-14, -950.158922, -3.20502331),
)
_H2O = (
    (4.19864056, -2.03643410e-3, 6.52040211e-6, -5.48797062e-9, 1.77197817e-12, -3.02937267e4, -0.849032208),
    (3.03399249, 2.17691804e-3, -1.64072518e-7, -9.70419870e-11, 1.68200992e-14, -3.00042971e4, 4.96677010),
)
_REFORMING = 2 * np.array(_CO) + 2 * np.array(_H2) - np.array(_CH4) - np.array(_CO2)
_SHIFT = np.array(_CO) + np.array(_H2O) - np.array(_CO2) - np.array(_H2)
_BISECTIONS = 40  # 2^-40 of the feed: far below any measurement
GAS_RANGE_C = (100.0, 1400.0)
"""Temperatures outside are treated as the nearest end: the schema allows no others."""

# --- Metals ---------------------------------------------------------------------------------------------------------


class Metal(NamedTuple):
    """What one metal does."""

    molar_mass: float
    """g/mol, IUPAC 2021."""
    turnover: float = 0.0
    """Rate per exposed atom relative to nickel; 0: no reforming metal, but a promoter."""
    tammann_c: float = 0.0
    """Half the melting point in K, in degC: atoms of the bulk begin to move, particles sinter."""
    reduction_c: float = 0.0
    """Where half of the oxide is reduced without interaction with a support."""
    coking: float = 0.0
    """Tendency to carbon relative to nickel."""
    protection: float = 0.0
    """As a promoter: how strongly it keeps carbon away."""
    boost: float = 0.0
    """As a promoter: natural log of its effect on the rate."""


NOBLE = ("Ag", "Pt", "Ir", "Au", "Ru", "Rh", "Pd")
# In the order of the table's columns. Tammann temperatures: half the melting points (CRC Handbook). The order of the
# turnovers (Rh, Ru > Ir > Pt > Pd > Ni > Co > Fe > Cu >> Ag, Au), of reducibility and of coking is the usual one in
# reviews of dry reforming (e.g. Pakhare & Spivey, Chem. Soc. Rev. 2014, 43, 7813); the values, and all effects of
# promoters, are invented.
METALS: dict[str, Metal] = {
    "Co": Metal(58.933, 0.6, 611, 430, 0.8),
    "Ba": Metal(137.327, protection=0.5, boost=-0.05),
    "Ca": Metal(40.078, protection=0.7, boost=0.05),
    "Cu": Metal(63.546, 0.05, 406, 250, 0.2),
    "Ce": Metal(140.116, protection=0.8, boost=0.30),
    "Mn": Metal(54.938, protection=0.5, boost=-0.10),
    "La": Metal(138.905, protection=0.7, boost=0.25),
    "Ni": Metal(58.693, 1.0, 591, 400, 1.0),
    "Ag": Metal(107.868, 0.01, 344, 150, 0.05),
    "Pt": Metal(195.084, 3.5, 748, 180, 0.25),
    "Mg": Metal(24.305, protection=0.6, boost=0.10),
    "Ir": Metal(192.217, 4.0, 1086, 200, 0.10),
    "Au": Metal(196.967, 0.01, 396, 150, 0.05),
    "K": Metal(39.098, protection=1.0, boost=-0.45),
    "Li": Metal(6.94, protection=0.5, boost=-0.30),
    "Ru": Metal(101.07, 5.0, 1030, 180, 0.10),
    "Rh": Metal(102.906, 6.0, 845, 170, 0.08),
    "Fe": Metal(55.845, 0.12, 632, 560, 0.7),
    "Pr": Metal(140.908, protection=0.7, boost=0.20),
    "Pd": Metal(106.42, 1.8, 641, 150, 0.60),
    "Sr": Metal(87.62, protection=0.6, boost=0.0),
    "Y": Metal(88.906, protection=0.5, boost=0.15),
    "Zr": Metal(91.224, protection=0.4, boost=0.20),
}
# Pairs that do more, or less, together than the mean of both: rate x (1 + 2 s sqrt(x1 x2)). Signs as reported (noble
# metals and cobalt help nickel, copper and silver cover it), strengths invented.
SYNERGIES: dict[tuple[str, str], float] = {
    ("Ni", "Pt"): 0.5, ("Ni", "Rh"): 0.5, ("Ni", "Ru"): 0.5, ("Ni", "Pd"): 0.3, ("Ni", "Co"): 0.35,
    ("Co", "Pt"): 0.4, ("Co", "Ru"): 0.4, ("Co", "Rh"): 0.4,
    ("Ni", "Fe"): -0.1, ("Ni", "Cu"): -0.4, ("Ni", "Ag"): -0.5, ("Ni", "Au"): -0.3,
}  # fmt: skip

# --- Supports -------------------------------------------------------------------------------------------------------


class Support(NamedTuple):
    """What one support does."""

    area: float
    """Surface of the fresh material, m2/g."""
    stable_c: float
    """Where heat has taken about half of that surface."""
    basicity: float
    """-1 (acid) to 1 (basic): CO2 adsorption, which feeds the rate and burns carbon off."""
    oxygen: float
    """Mobility of lattice oxygen, 0 to 1: burns carbon off."""
    interaction: float
    """0 to 1: anchors small particles, and binds the oxide into hard-to-reduce compounds when calcined hot."""


# In the order of the table's columns. Surfaces and stabilities are round values of the kind that suppliers and papers
# give, gamma-alumina roughly after 282/166/129 m2/g at 400/700/900 degC (Materials Research 2018, 21, e20170674).
# Basicity, oxygen and interaction: ranks as in textbooks, values invented.
_PEROVSKITE = Support(8, 950, 0.5, 0.4, 0.35)
SUPPORTS: dict[str, Support] = {
    "Al2O3_Gamma": Support(200, 850, -0.1, 0.0, 0.80),
    "Al2O3_Alpha": Support(6, 1300, 0.0, 0.0, 0.10),
    "Al2O3_Mesoporous": Support(260, 820, -0.05, 0.0, 0.60),
    "BN": Support(30, 1100, 0.0, 0.0, 0.05),
    "LaNi0.9Ru0.1O3": _PEROVSKITE,
    "LaNi0.8Ru0.2O3": _PEROVSKITE,
    "La3.5Ru4O3": _PEROVSKITE,
    "Sr0.92Y0.08Ti1.95Rh0.05O3": Support(10, 1050, 0.4, 0.3, 0.40),
    "La2NiO4": Support(8, 950, 0.6, 0.4, 0.35),
    "LaCoO3": _PEROVSKITE,
    "LaCuO3": _PEROVSKITE,
    "LaRuO3": _PEROVSKITE,
    "LaNiO3": _PEROVSKITE,
    "LaMnO3": Support(15, 950, 0.4, 0.6, 0.35),
    "LaNiCoMnO3": _PEROVSKITE,
    "La2Ni0.5F0.5O4": _PEROVSKITE,
    "LaNi0.5Fe0.5O3": _PEROVSKITE,
    "LaNi0.8Zn0.2O3": _PEROVSKITE,
    "LaNi0.6Zn0.4O3": _PEROVSKITE,
    "LaNi0.4Zn0.6O3": _PEROVSKITE,
    "LaNi0.2Zn0.8O3": _PEROVSKITE,
    "LaZnO3": _PEROVSKITE,
    "La2O3": Support(15, 850, 0.8, 0.2, 0.35),
    "SBA-15": Support(700, 820, -0.05, 0.0, 0.10),
    "BaO": Support(5, 700, 0.9, 0.0, 0.20),
    "CaO": Support(15, 750, 0.9, 0.0, 0.20),
    "MgO": Support(45, 900, 0.8, 0.0, 0.65),
    "MgO_Nanocrystalline": Support(110, 820, 0.85, 0.05, 0.60),
    "MgAl2O4(nanocry)": Support(110, 950, 0.4, 0.0, 0.50),
    "CeO2": Support(60, 700, 0.4, 0.9, 0.40),
    "SiO2": Support(250, 850, -0.1, 0.0, 0.10),
    "TiO2": Support(50, 620, 0.0, 0.3, 0.45),  # anatase turns into rutile
    "PrO2": Support(15, 700, 0.4, 0.9, 0.35),
    "V2O5": Support(8, 600, -0.2, 0.4, 0.20),
    "ZrO2": Support(45, 750, 0.25, 0.35, 0.35),
    "nanocrystalline_ZrO2": Support(110, 800, 0.3, 0.4, 0.40),
    "MnO": Support(10, 750, 0.3, 0.5, 0.30),
    "MCM-41": Support(900, 780, -0.1, 0.0, 0.10),
    "Y2O3": Support(25, 850, 0.5, 0.2, 0.35),
    "ZSM-5": Support(380, 850, -0.4, 0.0, 0.15),
    "MgAlOx": Support(160, 880, 0.6, 0.05, 0.60),
    "CoOx": Support(20, 650, 0.1, 0.3, 0.10),
    "Si3N4": Support(10, 1200, 0.1, 0.0, 0.10),
    "H-ZSM-5": Support(380, 830, -0.6, 0.0, 0.15),
    "Ce0.8Pr0.2O2": Support(70, 750, 0.45, 1.0, 0.40),
}
BULK = Support(12, 800, 0.1, 0.1, 0.25)
"""A catalyst without a support carries itself on its own oxides. Invented."""
# Reforming metals inside a support: molar mass of the formula (g/mol) and atoms in it. Two labels are no formulas and
# are read as LaNi1/3Co1/3Mn1/3O3 and La2Ni0.5Fe0.5O4; CoOx is taken as Co3O4.
LATTICE: dict[str, tuple[float, dict[str, float]]] = {
    "LaNi0.9Ru0.1O3": (249.8, {"Ni": 0.9, "Ru": 0.1}),
    "LaNi0.8Ru0.2O3": (254.1, {"Ni": 0.8, "Ru": 0.2}),
    "La3.5Ru4O3": (938.4, {"Ru": 4.0}),
    "Sr0.92Y0.08Ti1.95Rh0.05O3": (234.2, {"Rh": 0.05}),
    "La2NiO4": (400.5, {"Ni": 1.0}),
    "LaCoO3": (245.8, {"Co": 1.0}),
    "LaCuO3": (250.4, {"Cu": 1.0}),
    "LaRuO3": (288.0, {"Ru": 1.0}),
    "LaNiO3": (245.6, {"Ni": 1.0}),
    "LaNiCoMnO3": (244.4, {"Ni": 1 / 3, "Co": 1 / 3}),
    "La2Ni0.5F0.5O4": (399.1, {"Ni": 0.5, "Fe": 0.5}),
    "LaNi0.5Fe0.5O3": (244.2, {"Ni": 0.5, "Fe": 0.5}),
    "LaNi0.8Zn0.2O3": (246.9, {"Ni": 0.8}),
    "LaNi0.6Zn0.4O3": (248.3, {"Ni": 0.6}),
    "LaNi0.4Zn0.6O3": (249.6, {"Ni": 0.4}),
    "LaNi0.2Zn0.8O3": (250.9, {"Ni": 0.2}),
    "CoOx": (240.8, {"Co": 3.0}),
}

# --- Preparation ----------------------------------------------------------------------------------------------------


class Preparation(NamedTuple):
    """What one way of preparation does."""

    label: str
    size: float
    """Factor on the size of the metal particles."""
    interaction: float
    """Added to the interaction of metal and support."""


# The schema does not say what the codes stand for; these meanings and all values are invented.
PREPARATIONS: dict[int, Preparation] = {
    1: Preparation("sol-gel", 0.75, 0.15),
    2: Preparation("polyol", 0.70, 0.00),
    3: Preparation("co-precipitation", 0.85, 0.20),
    4: Preparation("wet impregnation", 1.15, 0.00),
    5: Preparation("deposition-precipitation", 0.90, 0.10),
    6: Preparation("mechanical mixing", 1.60, -0.20),
    7: Preparation("incipient wetness impregnation", 1.00, 0.00),
}

# --- Rates -----------------------------------------------------------------------------------------------------------
# All invented, set so that 10 wt% nickel comes close to equilibrium at 700 degC within a few mg min/mL.
EXSOLVED = 0.15  # share of a lattice metal that comes to the surface on reduction
RATE_700 = 5.5  # mL/(mg min) per mmol/g of exposed nickel at 700 degC
BACKGROUND_700 = 0.004  # mL/(mg min): walls and oxides without any metal
ACTIVATION_KJ = 75.0  # kJ/mol; apparent values of 60 to 110 are reported for nickel and noble metals
GAS_CONSTANT = 8.314462618e-3  # kJ/(mol K), CODATA 2018
SMALLEST_NM = 2.2  # particles of a dilute, well-prepared catalyst
REDUCTION_WIDTH_C = 45.0
SPINEL_C = 420.0  # how much hotter a bound oxide must be reduced: NiAl2O4 needs more than 750 degC
IN_SITU = 0.6  # the most that the reaction gas itself reduces
COKING_PER_MIN = 8e-4
SINTERING_PER_MIN = 1.5e-4
ACTIVITY_LEFT = 0.12  # what coking and sintering never take
TYPICAL_TIME_H = (4.0, 2.0)
"""Calcination and reduction time where none is recorded (0 or NaN)."""

_METAL = np.array(list(METALS.values()), dtype=np.float64)  # columns as the fields of Metal
_ACTIVE = (_METAL[:, 1] > 0).astype(np.float64)
_NOBLE = np.array([name in NOBLE for name in METALS], dtype=np.float64)
_PROMOTER = np.flatnonzero(_ACTIVE == 0)
_SUPPORT = np.array(list(SUPPORTS.values()), dtype=np.float64)  # columns as the fields of Support
_PREPARATION = np.array([(p.size, p.interaction) for p in PREPARATIONS.values()])
_LATTICE = np.array(
    [
        [1000 * LATTICE[s][1].get(m, 0.0) / LATTICE[s][0] if s in LATTICE else 0.0 for m in METALS]
        for s in SUPPORTS
    ]
)  # fmt: skip
_PAIRS = [(list(METALS).index(a), list(METALS).index(b), s) for (a, b), s in SYNERGIES.items()]


@dataclass(frozen=True)
class Runs:
    """Experiments as arrays of B rows.

    Attributes:
        metals: wt%, shape ``(B, 23)``, in the order of `METALS`.
        supports: Shares in any scale, shape ``(B, 45)``, in the order of `SUPPORTS`; a row of zeros is a bulk catalyst.
        preparation: Codes of `PREPARATIONS`, shape ``(B,)``.
        calcination: Temperature (degC) and time (h), shape ``(B, 2)``.
        reduction: Temperature (degC; 0: not reduced), time (h) and H2 (%; 0: in inert gas), shape ``(B, 3)``.
        reaction_c: Reaction temperature in degC, shape ``(B,)``.
        feed: CH4, CO2 and diluents in any scale, shape ``(B, 3)``.
        contact: W/F in mg min/mL, shape ``(B,)``.
        minutes: Time on stream, shape ``(B,)``.
    """

    metals: Floats
    supports: Floats
    preparation: NDArray[np.int64]
    calcination: Floats
    reduction: Floats
    reaction_c: Floats
    feed: Floats
    contact: Floats
    minutes: Floats


@dataclass(frozen=True)
class Catalyst:
    """State of the catalysts in the reactor, each of shape ``(B,)``.

    Attributes:
        size_nm: Size of the metal particles.
        reduced: Share of the metal that is reduced, 0 to 1.
        rate_700: Rate constant of the fresh catalyst at 700 degC in mL/(mg min), equimolar undiluted feed.
        fouling: Coking relative to a 10 nm nickel particle on a neutral support.
        anchoring: Hold of the support on the particles, 0 to 1.
        tammann_c: Mean Tammann temperature of the metals.
    """

    size_nm: Floats
    reduced: Floats
    rate_700: Floats
    fouling: Floats
    anchoring: Floats
    tammann_c: Floats


def equilibrium_conversion(reaction_c: Floats, feed: Floats) -> Floats:
    """CH4 conversion at gas-phase equilibrium at 1 atm, without solid carbon.

    For each extent x of reforming, the extent of the reverse water-gas shift is the root of a quadratic; x itself is
    bisected, since its reaction quotient only grows.

    Args:
        reaction_c: Temperature in degC, shape ``(B,)``.
        feed: CH4, CO2 and diluents in any scale, shape ``(B, 3)``; the reactants above 0.

    Returns:
        Conversions between 0 and 1, shape ``(B,)``.
    """
    kelvin = np.clip(reaction_c, *GAS_RANGE_C) + 273.15
    k_reforming = np.exp(-_gibbs(_REFORMING, kelvin))
    k_shift = np.exp(-_gibbs(_SHIFT, kelvin))
    ch4, co2, _ = feed.T / feed.sum(axis=1)
    low, high = np.zeros_like(kelvin), np.minimum(ch4, co2)
    for _step in range(_BISECTIONS):
        x = 0.5 * (low + high)
        b, c = 2 * x + k_shift * (co2 + x), 2 * k_shift * x * (co2 - x)
        shift = 2 * c / (b + np.sqrt(b * b + 4 * (1 - k_shift) * c))  # the form without cancellation, also at K = 1
        products = ((2 * x + shift) * (2 * x - shift)) ** 2
        too_far = products > k_reforming * (ch4 - x) * (co2 - x - shift) * (1 + 2 * x) ** 2
        low, high = np.where(too_far, low, x), np.where(too_far, x, high)
    return np.asarray(low / ch4, dtype=np.float64)


def catalyst(runs: Runs) -> Catalyst:
    """What the recipe has become in the reactor: particle size, degree of reduction, rate, tendency to coke."""
    calcination_h, reduction_h = (
        np.where(hours > 0, np.maximum(hours, 0.05), typical)
        for hours, typical in zip((runs.calcination[:, 1], runs.reduction[:, 1]), TYPICAL_TIME_H, strict=True)
    )
    # Calcination, reduction and reaction in terms of temperature: ten times the duration counts like 46 degC more.
    calcined_c = runs.calcination[:, 0] + 20 * np.log(calcination_h / TYPICAL_TIME_H[0])
    reduction_c, hydrogen = runs.reduction[:, 0], runs.reduction[:, 2]
    metal_c = np.maximum(reduction_c, runs.reaction_c)

    total = runs.supports.sum(axis=1, keepdims=True)
    shares = runs.supports / np.where(total > 0, total, 1.0)
    area, stable_c, basicity, oxygen, interaction = (shares @ _SUPPORT + (total == 0) * np.array(BULK)).T
    prepared_size, prepared_interaction = _PREPARATION[runs.preparation - min(PREPARATIONS)].T
    anchoring = np.clip(interaction + prepared_interaction, 0.0, 1.0)
    area = area * (0.12 + 0.88 * _logistic((stable_c - np.maximum(calcined_c, metal_c)) / 100))

    moles = 10 * runs.metals / _METAL[:, 0] + EXSOLVED * (shares @ _LATTICE)  # mmol/g
    active = moles @ _ACTIVE
    parts = moles * _ACTIVE / np.where(active > 0, active, 1.0)[:, None]
    turnover, tammann_c, intrinsic_c, coking, noble = (parts @ np.column_stack([_METAL[:, 1:5], _NOBLE])).T
    for first, second, strength in _PAIRS:
        turnover = turnover * (1 + 2 * strength * np.sqrt(parts[:, first] * parts[:, second]))

    # Particles: crowded on a small surface, and sintered above the Tammann temperature unless anchored.
    crowding = (1 + active / (0.05 * area**0.6)) ** 0.8
    sintering = 1 + 0.35 * (1 - 0.5 * anchoring) * _softplus((metal_c - tammann_c) / 100)
    size_nm = SMALLEST_NM * prepared_size * crowding * sintering * (1 + 0.25 * _softplus((calcined_c - 650) / 100))

    # Reduction: hot calcination binds base metals to the support; a noble metal spills hydrogen over to the others.
    bound = anchoring * (1 - noble) * _logistic((calcined_c - 740) / 40)
    needed_c = intrinsic_c + 60 * anchoring + SPINEL_C * bound - 150 * np.tanh(6 * noble) * (1 - noble)
    strength_c = np.where(hydrogen > 0, 12 * np.log(np.maximum(hydrogen, 0.1) / 100), -200.0)
    effective_c = reduction_c + 20 * np.log(reduction_h / TYPICAL_TIME_H[1]) + strength_c
    before = np.where(reduction_c > 0, _logistic((effective_c - needed_c) / REDUCTION_WIDTH_C), 0.0)
    in_situ = IN_SITU * _logistic((runs.reaction_c - 120 - needed_c) / REDUCTION_WIDTH_C)
    reduced = 1 - (1 - before) * (1 - in_situ)

    # Promoters act by how many of them there are to a metal atom, and too many cover the metal.
    promoters = moles[:, _PROMOTER]
    presence = promoters / (promoters + 0.3 * (active[:, None] + 0.2))
    protection, boost = (presence @ _METAL[_PROMOTER, 5:7]).T
    cover = 1 + (promoters.sum(axis=1) / (2 * active + 0.5)) ** 2
    rate = RATE_700 * active * reduced / size_nm * turnover * (1 + 0.4 * basicity) * np.exp(boost) / cover
    fouling: Floats = coking * (size_nm / 10) * np.exp(-1.6 * protection - 1.2 * basicity - 0.9 * oxygen)
    return Catalyst(size_nm, reduced, rate + BACKGROUND_700, fouling, anchoring, tammann_c)


def conversion(runs: Runs) -> Floats:
    """Noise-free CH4 conversion, between 0 and that of the equilibrium, shape ``(B,)``."""
    state = catalyst(runs)
    kelvin = np.clip(runs.reaction_c, *GAS_RANGE_C) + 273.15
    ch4, co2, _ = runs.feed.T / runs.feed.sum(axis=1)
    ratio = np.clip(co2 / ch4, 1e-3, 1e3)
    # Carbon gathers where both of its sources allow it, around 600 degC, and CO2 burns it off.
    window = 0.15 + np.exp(-(((runs.reaction_c - 600) / 130) ** 2))
    coking = COKING_PER_MIN * state.fouling * window * ratio**-1.5 * np.sqrt(ch4)
    sintering = SINTERING_PER_MIN * (1 - 0.5 * state.anchoring) * _softplus((runs.reaction_c - state.tammann_c) / 80)
    activity = ACTIVITY_LEFT + (1 - ACTIVITY_LEFT) / (1 + (coking + sintering) * runs.minutes)
    arrhenius = np.exp(-ACTIVATION_KJ / GAS_CONSTANT * (1 / kelvin - 1 / 973.15))
    orders = ratio**0.25 * (2 * ch4) ** -0.2  # apparent orders: 0.25 in CO2/CH4, a little below 1 in CH4
    limit = equilibrium_conversion(runs.reaction_c, runs.feed)
    reached: Floats = -limit * np.expm1(-state.rate_700 * arrhenius * orders * activity * runs.contact / limit)
    return reached


def _gibbs(coefficients: Floats, kelvin: Floats) -> Floats:
    """Reaction Gibbs energy over RT from two rows of NASA coefficients, shape ``(B,)``."""
    t = kelvin
    enthalpy = np.stack([np.ones_like(t), t / 2, t**2 / 3, t**3 / 4, t**4 / 5, 1 / t, np.zeros_like(t)])
    entropy = np.stack([np.log(t), t, t**2 / 2, t**3 / 3, t**4 / 4, np.zeros_like(t), np.ones_like(t)])
    low, high = coefficients @ (enthalpy - entropy)
    gibbs: Floats = np.where(t < 1000, low, high)
    return gibbs


def _logistic(x: Floats) -> Floats:
    y: Floats = 0.5 * (1 + np.tanh(0.5 * x))  # cannot overflow
    return y


def _softplus(x: Floats) -> Floats:
    y: Floats = np.logaddexp(0.0, x)
    return y
