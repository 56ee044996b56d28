"""`pyro-hcvae equilibrium`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    from pyro_hcvae.chemistry.equilibrium import Equilibrium
    from pyro_hcvae.chemistry.verdicts import EquilibriumVerdict

_MOST = 1000  # temperatures of one call


def command(
    temperature: Annotated[
        list[str],
        typer.Option("--temperature", help="degC: 700, or FIRST:LAST:STEP; may be repeated.", show_default=False),
    ],
    co2_ch4: Annotated[
        float | None, typer.Option("--co2-ch4", min=0, help="CO2/CH4 of the feed [1].", show_default=False)
    ] = None,
    dilution: Annotated[
        float | None, typer.Option("--dilution", min=0, help="% of inert gas in the feed [0].", show_default=False)
    ] = None,
    feed: Annotated[
        list[str] | None,
        typer.Option(
            "--feed",
            metavar="NAME=AMOUNT",
            help="Instead of both: CH4, CO2, CO, H2, H2O or inert, in any common unit; may be repeated.",
        ),
    ] = None,
    pressure: Annotated[float, typer.Option("--pressure", help="Total pressure in atm.")] = 1.0,
    target: Annotated[
        float | None, typer.Option("--target", help="Wanted conversion in %: is it possible, and from where on?")
    ] = None,
    species: Annotated[str, typer.Option("--conversion-of", help="Whose conversion the target is.")] = "CH4",
    json: options.Json = False,
) -> None:
    """Equilibrium of CH4, CO2, CO, H2, H2O and inert gas, with and without solid carbon.

    No catalyst passes the equilibrium with carbon; above that without, it must form carbon. Carbon can form where its activity in
    the gas is above 1.

    Examples:
      pyro-hcvae equilibrium --temperature 700 --co2-ch4 1 --pressure 1

      pyro-hcvae equilibrium --temperature 500:900:50 --dilution 80 --target 85

      pyro-hcvae equilibrium --temperature 800 --feed CH4=1 --feed H2O=3 --pressure 20 --json
    """
    temperatures = [t for text in temperature for t in _temperatures(text)]
    if len(temperatures) > _MOST:
        raise InputError(f"--temperature: {len(temperatures)} temperatures are more than {_MOST}; use a larger step")
    if feed and (co2_ch4 is not None or dilution is not None):
        raise InputError("--feed: give either all gases, or --co2-ch4 and --dilution, not both")
    if dilution is not None and not dilution < 100:
        raise InputError(f"--dilution {dilution:g}: must be below 100 %")
    if co2_ch4 is not None and not co2_ch4 < float("inf"):
        raise InputError(f"--co2-ch4 {co2_ch4:g}: not a finite number")
    gases = _gases(feed) if feed else _mixture(1.0 if co2_ch4 is None else co2_ch4, dilution or 0.0)

    from pyro_hcvae.chemistry.equilibrium import LABORATORY_C, equilibrium, reachable_temperature
    from pyro_hcvae.chemistry.verdicts import verdict

    states = [equilibrium(temperatures, gases, pressure, carbon=carbon) for carbon in (False, True)]
    reachable = [float("nan")] * 2
    verdicts: list[EquilibriumVerdict] = []
    if target is not None:
        reachable = [
            float(reachable_temperature(target, gases, pressure, carbon=carbon, species=species))
            for carbon in (False, True)
        ]
        verdicts = verdict(target, temperatures, gases, pressure, species=species)
    if json:
        data: dict[str, Any] = {
            "pressure_atm": pressure,
            "feed": {name: float(x.flat[0]) for name, x in states[0].fed.items()},
            "states": [
                {
                    "temperature_c": t,
                    "carbon_activity": states[0].carbon_activity[i],
                    "without_carbon": _record(states[0], i),
                    "with_carbon": _record(states[1], i),
                }
                | ({"verdict": asdict(verdicts[i])} if verdicts else {})
                for i, t in enumerate(temperatures)
            ],
        }
        if target is not None:
            data |= {
                "target": {"conversion_of": species, "pct": target},
                "reachable_c": dict(zip(("without_carbon", "with_carbon"), reachable, strict=True)),
            }
        options.print_json(data)
        return
    _show(temperatures, states, pressure, [v.level for v in verdicts])
    if target is not None:
        for what, found in zip(("without carbon", "with carbon"), reachable, strict=True):
            low, high = LABORATORY_C
            where = f"none from {low:g} to {high:g}" if math.isnan(found) else f"{math.ceil(found)}"
            typer.echo(f"Lowest temperature for {target:g} % of {species} {what}: {where} degC")
    if len(verdicts) == 1:
        typer.echo("\n".join(filter(None, (verdicts[0].reason, verdicts[0].carbon_risk))))


def _temperatures(text: str) -> list[float]:
    """``700`` or ``500:900:50``, with both ends."""
    remedy = f"--temperature {text!r}: write degC as 700, or FIRST:LAST:STEP as 500:900:50"
    try:
        first, last, step = [float(x) for x in text.split(":")] if ":" in text else [float(text)] * 2 + [1.0]
    except ValueError:
        raise InputError(remedy) from None
    if not (step > 0 and first <= last < float("inf")):
        raise InputError(remedy)
    count = (last - first) / step
    if count > _MOST:
        raise InputError(f"--temperature {text!r}: more than {_MOST} temperatures; use a larger step")
    return [first + i * step for i in range(int(count + 1e-9) + 1)]


def _gases(pairs: list[str]) -> dict[str, float]:
    gases: dict[str, float] = {}
    for pair in pairs:
        name, sign, text = (part.strip() for part in pair.partition("="))
        if not (name and sign) or name in gases:
            problem = "given twice" if name in gases else "write NAME=AMOUNT, e.g. --feed CH4=20"
            raise InputError(f"--feed {pair!r}: {problem}")
        try:
            gases[name] = float(text)
        except ValueError:
            raise InputError(f"--feed {pair!r}: {text!r} is not a number") from None
    return gases


def _mixture(co2_ch4: float, dilution: float) -> dict[str, float]:
    reacting = 100 - dilution
    return {"CH4": reacting / (1 + co2_ch4), "CO2": reacting * co2_ch4 / (1 + co2_ch4), "inert": dilution}


def _record(states: Equilibrium, i: int) -> dict[str, Any]:
    """One state in plain numbers."""
    return {
        "conversion_pct": {name: 100 * states.conversion(name)[i] for name in _reactants(states)},
        "h2_co": states.h2_co[i],
        "moles_per_mole_fed": {name: moles[i] for name, moles in states.moles.items()} | {"C": states.carbon[i]},
    }


def _reactants(states: Equilibrium) -> list[str]:
    return [name for name, fed in states.fed.items() if name != "inert" and fed.flat[0] > 0]


def _show(temperatures: list[float], states: list[Equilibrium], pressure: float, levels: list[str]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console()
    fed = states[0].fed
    shown = ", ".join(f"{100 * amount.flat[0]:.4g} % {name}" for name, amount in fed.items() if amount.flat[0] > 0)
    console.print(f"Feed: {shown}; {pressure:g} atm", highlight=False)
    table = Table(box=SIMPLE, show_edge=False)
    reactants = _reactants(states[0])
    headers = ["degC", "solid\ncarbon", *(f"{name}\nconv. %" for name in reactants), "H2/CO"]
    for header in headers + ["carbon\nactivity", "carbon\nmol/mol fed"] + ["verdict"] * bool(levels):
        table.add_column(header, justify="right")
    for i, t in enumerate(temperatures):
        for state, allowed in zip(states, ("without", "with"), strict=True):
            first = allowed == "without"
            table.add_row(
                f"{t:g}" if first else "",
                allowed,
                *(f"{100 * state.conversion(name)[i]:.1f}" for name in reactants),
                f"{state.h2_co[i]:.3g}",
                f"{state.carbon_activity[i]:.3g}" if first else "",
                "" if first else f"{state.carbon[i]:.3f}",
                *(levels[i : i + 1] if first else []),
            )
    console.print(table)
