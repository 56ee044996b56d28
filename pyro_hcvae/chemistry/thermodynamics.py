r"""Standard Gibbs energies of the gases of reforming and of graphite, from NASA 7-coefficient polynomials.

.. math::
    \frac{G^\circ}{RT} = \frac{H^\circ}{RT} - \frac{S^\circ}{R} = a_1 (1 - \ln T) - \frac{a_2}{2} T - \frac{a_3}{6} T^2
    - \frac{a_4}{12} T^3 - \frac{a_5}{20} T^4 + \frac{a_6}{T} - a_7

References:
    McBride, Gordon and Reno (1993), Coefficients for Calculating Thermodynamic and Transport Properties of Individual Species,
    NASA Technical Memorandum 4513. A work of the US government, in the public domain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPECIES = ("CH4", "CO2", "CO", "H2", "H2O")
"""Gases that react."""
TEMPERATURE_C = (100.0, 1400.0)
"""Range of use. The polynomials hold from 200 K to above 4000 K; colder, nothing reacts, and hotter, other species matter."""
STANDARD_PRESSURE_ATM = 1.0
"""The polynomials were fitted for 1 bar. They are read as of 1 atm here, as Cantera reads them and as the virtual laboratory
does: conversions change by less than 0.3 points."""
GRAPHITE_CM3_MOL = 12.011 / 2.16
"""Molar volume: at 30 atm pressure makes graphite 0.1 to 0.3 % more active."""
_GAS_CONSTANT = 82.05736608096  # cm3 atm/(mol K), CODATA 2018
_BREAK_K = 1000.0

# Below and above 1000 K.
_NASA7 = {
    "CH4": (
        (5.14987613, -1.36709788e-2, 4.91800599e-5, -4.84743026e-8, 1.66693956e-11, -1.02466476e4, -4.64130376),
        (1.63552643, 1.00842795e-2, -3.36916254e-6, 5.34958667e-10, -3.15518833e-14, -1.00056455e4, 9.99313326),
    ),
    "CO2": (
        (2.35677352, 8.98459677e-3, -7.12356269e-6, 2.45919022e-9, -1.43699548e-13, -4.83719697e4, 9.90105222),
        (4.63659493, 2.74131991e-3, -9.95828531e-7, 1.60373011e-10, -9.16103468e-15, -4.90249341e4, -1.93534855),
    ),
    "CO": (
        (3.57953347, -6.10353680e-4, 1.01681433e-6, 9.07005884e-10, -9.04424499e-13, -1.43440860e4, 3.50840928),
        (3.04848583, 1.35172818e-3, -4.85794075e-7, 7.88536486e-11, -4.69807489e-15, -1.42661171e4, 6.01709790),
    ),
    "H2": (
        (2.34433112, 7.98052075e-3, -1.94781510e-5, 2.01572094e-8, -7.37611761e-12, -9.17935173e2, 0.683010238),
        (2.93286579, 8.26607967e-4, -1.46402335e-7, 1.54100359e-11, -6.88804432e-16, -8.13065597e2, -1.02432887),
    ),
    "H2O": (
        (4.19864056, -2.03643410e-3, 6.52040211e-6, -5.48797062e-9, 1.77197817e-12, -3.02937267e4, -0.849032208),
        (2.67703787, 2.97318329e-3, -7.73769690e-7, 9.44336689e-11, -4.26900959e-15, -2.98858938e4, 6.88255571),
    ),
    "C": (  # graphite
        (-0.310872072, 4.40353686e-3, 1.90394118e-6, -6.38546966e-9, 2.98964248e-12, -1.08650794e2, 1.11382953),
        (1.45571829, 1.71702216e-3, -6.97562786e-7, 1.35277032e-10, -9.67590652e-15, -6.95138814e2, -8.52583033),
    ),
}


def gibbs(species: str, temperature_c: Floats) -> Floats:
    """Standard Gibbs energy over RT (unitless) of a gas, or of graphite (``"C"``), in the shape of ``temperature_c``."""
    return _gibbs(np.array(_NASA7[species]), temperature_c)


def carbon_constants(temperature_c: Floats, pressure_atm: Floats) -> tuple[Floats, Floats, Floats]:
    """Equilibrium constants of three reactions with graphite at a pressure, for partial pressures in atm.

    They fix all others: dry reforming, CH4 + CO2 = 2 CO + 2 H2, has the product of the first two, and the reverse water-gas
    shift, CO2 + H2 = CO + H2O, the second over the third.

    Args:
        temperature_c: Within `TEMPERATURE_C`, any shape.
        pressure_atm: Pressure on the graphite, same shape.

    Returns:
        Cracking, CH4 = C + 2 H2 (atm); reverse Boudouard, CO2 + C = 2 CO (atm); gasification, H2O + C = CO + H2 (atm).
    """
    ch4, co2, co, h2, h2o, c = (np.array(_NASA7[name]) for name in (*SPECIES, "C"))
    reactions = (c + 2 * h2 - ch4, 2 * co - co2 - c, co + h2 - h2o - c)
    graphite = GRAPHITE_CM3_MOL * (pressure_atm - STANDARD_PRESSURE_ATM) / (_GAS_CONSTANT * (temperature_c + 273.15))
    cracking, boudouard, gasification = (
        STANDARD_PRESSURE_ATM * np.exp(sign * graphite - _gibbs(reaction, temperature_c))
        for reaction, sign in zip(reactions, (-1, 1, 1), strict=True)
    )
    return cracking, boudouard, gasification


def _gibbs(coefficients: Floats, temperature_c: Floats) -> Floats:
    """Two rows of coefficients, below and above 1000 K."""
    t = np.asarray(temperature_c, dtype=np.float64) + 273.15
    terms = np.stack([1 - np.log(t), -t / 2, -(t**2) / 6, -(t**3) / 12, -(t**4) / 20, 1 / t, -np.ones_like(t)])
    low, high = np.tensordot(coefficients, terms, axes=1)
    return np.asarray(np.where(t < _BREAK_K, low, high), dtype=np.float64)
