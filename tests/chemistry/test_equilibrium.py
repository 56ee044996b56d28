"""Equilibrium: against Cantera, against known tables, and against its own laws."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.chemistry.equilibrium import INERT, equilibrium, first_value, reachable_temperature
from pyro_hcvae.chemistry.thermodynamics import SPECIES, carbon_constants, gibbs
from pyro_hcvae.data import virtual_chemistry
from pyro_hcvae.errors import InputError
from tests.strategies import QUICK

ORACLE = Path(__file__).parents[2] / "scripts" / "references" / "cantera_equilibrium.py"
EQUIMOLAR = {"CH4": 1.0, "CO2": 1.0}


def random_states(count, seed, *, temperature=(350, 1000)):
    """Temperatures, feeds and pressures; every other gas but CH4 may lack, and the rest may be strongly diluted."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(*temperature, count)
    p = np.exp(rng.uniform(np.log(0.1), np.log(30), count))
    feed = {"CH4": rng.uniform(0.05, 1, count)}
    for name, often in (("CO2", 0.85), ("CO", 0.3), ("H2", 0.3), ("H2O", 0.3)):
        feed[name] = rng.uniform(0.05, 1, count) * (rng.random(count) < often)
    feed[INERT] = 10 ** rng.uniform(-1, 2, count) * (rng.random(count) < 0.6)
    return t, feed, p


@pytest.mark.parametrize("carbon", [False, True])
@pytest.mark.parametrize(
    ("count", "temperature"), [(2000, (350, 1000)), (300, (200, 350)), (300, (1000, 1400))], ids=["use", "cold", "hot"]
)
def test_agrees_with_cantera(carbon, count, temperature):
    pytest.importorskip("cantera", reason="Cantera comes with the extra 'dev'")
    t, feed, p = random_states(count, 0, temperature=temperature)
    ours = equilibrium(t, feed, p, carbon=carbon)
    theirs = runpy.run_path(str(ORACLE))["Oracle"]().solve(t, {name: ours.fed[name] for name in feed}, p, carbon=carbon)
    solved = ~np.isnan(theirs["CH4"])
    assert solved.mean() > 0.98  # Cantera gives up on some
    for name in SPECIES:
        fed = ours.fed[name]
        off = np.abs(ours.moles[name] - theirs[name])[solved]
        assert off.max() < 1e-6, name
        assert (off / np.where(fed > 0, fed, 1.0)[solved]).max() < 1e-3, name
    assert np.abs(ours.carbon - theirs["C"])[solved].max() < 1e-6
    if carbon:
        assert 0.1 < (ours.carbon[solved] > 0).mean() < 0.99  # both kinds of states were compared


@pytest.mark.parametrize(
    ("carbon", "at_1_atm", "at_800", "at_700"),
    [
        (False, [0.149, 0.410, 0.728, 0.905, 0.967], [0.905, 0.697, 0.574, 0.454], [0.455, 0.728, 0.921, 0.971]),
        (True, [0.705, 0.818, 0.910, 0.960, 0.982], [0.960, 0.861, 0.796, 0.726], None),
    ],
)
def test_known_conversions(carbon, at_1_atm, at_800, at_700):
    """CH4 conversions of equimolar feeds that Cantera gave, at 500 to 900 degC, and at 1 to 20 atm; then CO2/CH4 = 0.5 to 3."""
    state = equilibrium([500, 600, 700, 800, 900], EQUIMOLAR, carbon=carbon)
    assert state.conversion() == pytest.approx(at_1_atm, abs=1e-3)
    assert equilibrium(800, EQUIMOLAR, [1, 5, 10, 20], carbon=carbon).conversion() == pytest.approx(at_800, abs=1e-3)
    if at_700:
        ratios = {"CH4": 1.0, "CO2": [0.5, 1.0, 2.0, 3.0]}
        assert equilibrium(700, ratios, carbon=carbon).conversion() == pytest.approx(at_700, abs=1e-3)


def test_formation_data_at_298_k():
    """Reaction Gibbs energies at 298.15 K from CODATA and JANAF tables of formation, in kJ/mol."""
    t, rt = np.array(25.0), 8.314462618e-3 * 298.15
    g = {name: gibbs(name, t) * rt for name in (*SPECIES, "C")}
    assert g["CH4"] - 2 * g["H2"] - g["C"] == pytest.approx(-50.5, abs=0.3)
    assert 2 * g["CO"] - g["CO2"] - g["C"] == pytest.approx(120.0, abs=0.3)
    assert g["CO"] + g["H2"] - g["H2O"] - g["C"] == pytest.approx(91.4, abs=0.3)


def test_the_virtual_laboratory_has_the_same_equilibrium():
    t, feed, _ = random_states(500, 1)
    gases = {"CH4": feed["CH4"], "CO2": feed["CO2"] + 0.05, INERT: feed[INERT]}
    theirs = virtual_chemistry.equilibrium_conversion(t, np.stack(list(gases.values()), axis=1))
    assert equilibrium(t, gases, carbon=False).conversion() == pytest.approx(theirs, abs=2e-3)


amounts = st.one_of(st.just(0.0), st.floats(-6, 0).map(lambda x: 10**x))


@QUICK
@given(
    st.lists(
        st.tuples(st.floats(100, 1400), st.floats(-2, 2), *[amounts] * len(SPECIES), st.one_of(st.just(0.0), st.floats(0, 1e4))),
        min_size=1,
        max_size=20,
    ).filter(lambda rows: all(sum(row[2:-1]) > 1e-7 for row in rows)),
    st.booleans(),
)  # fmt: skip
def test_laws_hold_for_any_feed(rows, carbon):
    t, p, *parts = np.array(rows).T
    p, feed = 10**p, dict(zip((*SPECIES, INERT), parts, strict=True))
    state = equilibrium(t, feed, p, carbon=carbon)
    fed, moles = state.fed, state.moles
    reacting = sum(fed[name] for name in SPECIES)
    assert all((x >= 0).all() for x in moles.values())
    assert (state.carbon >= 0).all()
    carbon_atoms, *others = {"CH4": 1, "CO2": 1, "CO": 1}, {"CH4": 4, "H2": 2, "H2O": 2}, {"CO2": 2, "CO": 1, "H2O": 1}
    for element in (carbon_atoms, *others):
        before = sum(n * fed[name] for name, n in element.items())
        after = sum(n * moles[name] for name, n in element.items())
        after = after + state.carbon if element is carbon_atoms else after
        assert (np.abs(before - after) <= 1e-8 * reacting).all()
    # Complementarity: graphite only where the gas without it is supersaturated, and there its activity falls to 1.
    assert not state.carbon[state.carbon_activity <= 1].any()
    again = equilibrium(t, moles, p, carbon=False)
    if carbon:
        settled = again.carbon_activity[(state.carbon > 1e-3 * reacting) & (state.carbon_activity < 1e6)]
        assert settled == pytest.approx(np.ones_like(settled), rel=1e-3)
    # Mass action, where no gas is so scarce that rounding decides.
    y = {name: x / sum(moles.values()) * p for name, x in moles.items()}
    plenty = np.min([moles[name] for name in SPECIES], axis=0) > 1e-9 * reacting
    cracking, boudouard, gasification = (k[plenty] for k in carbon_constants(t, p))
    y = {name: x[plenty] for name, x in y.items()}
    with np.errstate(invalid="ignore"):
        reforming = (y["CO"] * y["H2"]) ** 2 / (y["CH4"] * y["CO2"])
        shift = y["CO"] * y["H2O"] / (y["CO2"] * y["H2"])
    assert reforming == pytest.approx(cracking * boudouard, rel=1e-3)
    assert shift == pytest.approx(boudouard / gasification, rel=1e-3)


@pytest.mark.parametrize(
    ("feed", "activity"),
    [("CH4", np.inf), ("CO", np.inf), ("CO2", 0.0), ("H2", 0.0), ("H2O", 0.0)],
)
def test_gases_that_are_alone(feed, activity):
    """Without graphite nothing can happen to any of them; with it, CH4 and CO deposit carbon."""
    state = equilibrium([100, 700, 1400], {feed: 3.0}, carbon=False)
    assert state.moles[feed] == pytest.approx([1, 1, 1])
    assert (state.carbon_activity == activity).all()
    carbon = equilibrium([100, 700, 1400], {feed: 3.0}, carbon=True).carbon
    assert (carbon > 0).all() == (activity > 1)
    if feed == "CH4":  # 1 - x of CH4 and 2 x of H2, in 1 + x of gas
        x = carbon[1]
        assert 4 * x**2 / ((1 - x) * (1 + x)) == pytest.approx(carbon_constants(np.array(700.0), np.array(1.0))[0])


def test_methanation_and_steam_reforming_are_the_same_equilibrium():
    forward = equilibrium(400, {"CO2": 1, "H2": 4}, 5.0, carbon=False)
    back = equilibrium(400, {"CH4": 1, "H2O": 2}, 5.0, carbon=False)
    for name in SPECIES:
        assert forward.fractions()[name] == pytest.approx(back.fractions()[name], rel=1e-8)
    assert forward.conversion("CO2") > 0.9
    assert np.isnan(forward.conversion("CH4"))


def test_shapes_are_broadcast():
    feed = {"CH4": np.ones((3, 1)), "CO2": 1}
    state = equilibrium([600.0, 700.0], feed, carbon=True)
    assert state.conversion().shape == state.carbon.shape == state.h2_co.shape == state.fed[INERT].shape == (3, 2)
    assert float(equilibrium(700, EQUIMOLAR, carbon=True).conversion()) == pytest.approx(state.conversion()[0, 1])
    assert sum(state.fractions().values()) == pytest.approx(np.ones((3, 2)))


@pytest.mark.parametrize("carbon", [False, True])
def test_the_lowest_temperature_that_reaches_a_target(carbon):
    t, feed, p = random_states(30, 2)
    x = 100 * equilibrium(t, {"CH4": feed["CH4"], "CO2": 1.0, INERT: feed[INERT]}, p, carbon=False).conversion()
    feed = {"CH4": feed["CH4"], "CO2": 1.0, INERT: feed[INERT]}
    found = reachable_temperature(x, feed, p, carbon=carbon)
    if carbon:
        assert (found <= t + 0.01).all()
    else:
        assert found == pytest.approx(t, abs=0.01)
    reached = 100 * equilibrium(found, feed, p, carbon=carbon).conversion()
    assert (reached >= x).all()
    assert np.isnan(reachable_temperature([99.9, 101.0], EQUIMOLAR, carbon=carbon)).all()


def test_the_first_value_of_a_window():
    low, high = np.array([0.0, 5.0, 9.0]), np.array([10.0, 10.0, 10.0])
    found = first_value(low, high, lambda x: (x >= np.pi) & (x <= 8))
    assert found[:2] == pytest.approx([np.pi, 5.0], abs=1e-4)
    assert np.isnan(found[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([700, 3000], EQUIMOLAR), ["row 2 of 2", "3000 degC", "100 to 1400"]),
        (([np.nan], EQUIMOLAR), ["nan degC"]),
        ((700, EQUIMOLAR, [1, -1, 2]), ["row 2 of 3", "-1 atm"]),
        ((700, {"CH4": [1, 1], "CO2": [1, -0.5]}), ["row 2 of 2", "CO2 = -0.5"]),
        ((700, {"CH4": [1, np.nan]}), ["row 2 of 2", "CH4 = nan"]),
        ((700, {"CH4": [1, np.inf]}), ["row 2 of 2", "CH4 = inf"]),
        ((700, {"CH4": 1e308, "CO2": 1e308}), ["smaller numbers"]),
        ((700, {"CH4": 1, "O2": 1}), ["'O2'", "inert"]),
        ((700, {INERT: 1}), ["nothing can react"]),
        ((700, {INERT: 1, "CH4": 1e-15}), ["nothing can react"]),
        (([700, 800], {"CH4": [1, 2, 3]}), ["matching shapes"]),
        (("hot", EQUIMOLAR), ["numbers"]),
    ],
)
def test_wrong_input_is_named(arguments, words):
    with pytest.raises(InputError) as caught:
        equilibrium(*arguments, carbon=True)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_conversion_needs_what_is_converted():
    with pytest.raises(InputError, match="no CH4 is fed"):
        reachable_temperature(50, {"CO2": 1, "H2": 4}, carbon=False)
    with pytest.raises(InputError, match="no conversion of 'N2'"):
        reachable_temperature(50, EQUIMOLAR, carbon=False, species="N2")
    with pytest.raises(InputError, match="row 2 of 2"):
        reachable_temperature([50, np.nan], EQUIMOLAR, carbon=False)
