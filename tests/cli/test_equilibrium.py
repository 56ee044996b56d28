"""`pyro-hcvae equilibrium`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Command


def test_json_holds_both_equilibria(cli: Command) -> None:
    result = cli("equilibrium", "--temperature", 700, "--co2-ch4", 1, "--pressure", 1, "--json")
    assert result.code == 0, result.err
    data = json.loads(result.out)
    [state] = data["states"]
    assert data["feed"]["CH4"] == data["feed"]["CO2"] == 0.5
    assert state["without_carbon"]["conversion_pct"]["CH4"] == pytest.approx(72.8, abs=0.1)
    assert state["with_carbon"]["conversion_pct"]["CH4"] == pytest.approx(91.0, abs=0.1)
    assert state["with_carbon"]["moles_per_mole_fed"]["C"] > state["without_carbon"]["moles_per_mole_fed"]["C"] == 0
    assert state["carbon_activity"] == pytest.approx(3.96, abs=0.01)
    assert state["without_carbon"]["h2_co"] == pytest.approx(0.877, abs=1e-3)
    assert "verdict" not in state
    assert "reachable_c" not in data


def test_a_target_is_judged_at_each_temperature(cli: Command) -> None:
    arguments = ("--temperature", "500:900:100", "--temperature", 950, "--target", 80)
    data = json.loads(cli("equilibrium", *arguments, "--json").out)
    assert [s["temperature_c"] for s in data["states"]] == [500, 600, 700, 800, 900, 950]
    levels = [s["verdict"]["level"] for s in data["states"]]
    assert levels == ["red", "amber", "amber", "green", "green", "green"]
    assert data["reachable_c"]["without_carbon"] == pytest.approx(730.4, abs=1)
    assert data["reachable_c"]["with_carbon"] < data["reachable_c"]["without_carbon"]
    text = cli("equilibrium", *arguments).out
    assert text.count("amber") == 2
    assert "Lowest temperature for 80 % of CH4 without carbon: 731 degC" in text


def test_one_temperature_is_explained(cli: Command) -> None:
    text = cli("equilibrium", "--temperature", 700, "--dilution", 60, "--target", 99.99).out
    assert "20 % CH4, 20 % CO2, 60 % inert; 1 atm" in text
    assert "none from 200 to 1000 degC" in text
    assert "no catalyst reaches it" in text
    assert "Carbon can form" in text
    assert "without" in text


def test_any_feed(cli: Command) -> None:
    result = cli(
        "equilibrium", "--temperature", 300, "--feed", "CO2=1", "--feed", "H2=4", "--target", 90, "--conversion-of", "CO2",
        "--json",
    )  # fmt: skip
    data = json.loads(result.out)
    assert data["states"][0]["verdict"]["level"] == "green"
    assert set(data["states"][0]["without_carbon"]["conversion_pct"]) == {"CO2", "H2"}
    pure = json.loads(cli("equilibrium", "--temperature", 300, "--feed", "CH4=1", "--json").out)
    assert pure["states"][0]["carbon_activity"] is None  # infinite


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "hot"], ["'hot'", "FIRST:LAST:STEP"]),
        (["--temperature", "900:500:50"], ["900:500:50"]),
        (["--temperature", "500:900"], ["500:900:50"]),
        (["--temperature", "1:1000:0.1"], ["1000 temperatures", "larger step"]),
        (["--temperature", "3000"], ["3000 degC", "100 to 1400"]),
        (["--temperature", "nan"], ["nan"]),
        (["--temperature", "700", "--pressure", "0"], ["pressure 0 atm"]),
        (["--temperature", "700", "--feed", "O2=1"], ["'O2'", "CH4"]),
        (["--temperature", "700", "--feed", "CH4"], ["NAME=AMOUNT"]),
        (["--temperature", "700", "--feed", "CH4=much"], ["'much'"]),
        (["--temperature", "700", "--feed", "CH4=1", "--feed", "CH4=2"], ["given twice"]),
        (["--temperature", "700", "--feed", "CH4=1", "--dilution", "5"], ["not both"]),
        (["--temperature", "700", "--dilution", "100"], ["--dilution 100"]),
        (["--temperature", "700", "--co2-ch4", "inf"], ["--co2-ch4"]),
        (["--temperature", "700", "--co2-ch4", "-1"], ["--co2-ch4"]),
        (["--temperature", "700", "--target", "nan"], ["target nan"]),
        (["--temperature", "700", "--target", "50", "--conversion-of", "N2"], ["'N2'"]),
        (["--temperature", "700", "--feed", "CO=1", "--target", "50"], ["no CH4 is fed"]),
        ([], ["--temperature"]),
    ],
)
def test_wrong_input(cli: Command, arguments: list[str], words: list[str]) -> None:
    result = cli("equilibrium", *arguments)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert all(word in result.err for word in words), result.err
    assert not result.out
