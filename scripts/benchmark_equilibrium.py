"""How many equilibria of reforming a second are solved, beside Cantera, which solves the same ones.

States are random: 350 to 1000 degC, 0.1 to 30 atm, CH4 and CO2 with inert gas. Rounds interleave; shown are medians of the
process CPU time as states a second, and the largest difference between the two in moles for a mole of feed. Cantera comes
with the extra ``dev``; it is given one state after the other, since it knows no arrays of states.

Examples:
    python scripts/benchmark_equilibrium.py
    python scripts/benchmark_equilibrium.py --states 1 100 10000 --rounds 9 --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from references.cantera_equilibrium import Oracle

from pyro_hcvae.chemistry.equilibrium import INERT, equilibrium
from pyro_hcvae.chemistry.thermodynamics import SPECIES, Floats

CANTERA_STATES = 500


def random_states(count: int, seed: int) -> tuple[Floats, dict[str, Floats], Floats]:
    """Temperatures in degC, feeds in mole fractions, pressures in atm."""
    rng = np.random.default_rng(seed)
    parts = np.stack([rng.uniform(0.1, 1, count), rng.uniform(0.1, 1, count), rng.uniform(0, 5, count)])
    feed = dict(zip(("CH4", "CO2", INERT), parts / parts.sum(axis=0), strict=True))
    return rng.uniform(350, 1000, count), feed, np.exp(rng.uniform(np.log(0.1), np.log(30), count))


def seconds(work: Callable[[], object]) -> float:
    """Process CPU time of one call, at least a tenth of a second of calls."""
    calls, start = 0, time.process_time()
    while time.process_time() - start < 0.1:
        work()
        calls += 1
    return (time.process_time() - start) / calls


def measure(sizes: Sequence[int], rounds: int) -> list[dict[str, object]]:
    """Median speeds of both."""
    oracle, rows = Oracle(), []
    for carbon in (False, True):
        states = random_states(CANTERA_STATES, 0)
        by_cantera = partial(oracle.solve, *states, carbon=carbon)
        ours, theirs = equilibrium(*states, carbon=carbon), by_cantera()
        off = max(float(np.nanmax(np.abs(ours.moles[name] - theirs[name]))) for name in SPECIES)
        failed = int(np.isnan(theirs["CH4"]).sum())
        spent: dict[int, list[float]] = {size: [] for size in sizes}
        reference: list[float] = []
        for _ in range(rounds):
            reference.append(CANTERA_STATES / seconds(by_cantera))
            for size in sizes:
                by_us = partial(equilibrium, *random_states(size, 1), carbon=carbon)
                spent[size].append(size / seconds(by_us))
        cantera = statistics.median(reference)
        for size in sizes:
            speed = statistics.median(spent[size])
            rows.append(
                {
                    "carbon": carbon,
                    "states": size,
                    "states_per_second": speed,
                    "cantera_per_second": cantera,
                    "ratio": speed / cantera,
                    "largest_difference": off,
                    "cantera_failed": failed,
                }
            )
    return rows


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument(
        "--states", type=int, nargs="+", default=[1, 100, 1000, 10_000, 100_000], help="states of one call"
    )
    out.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    out.add_argument("--json", action="store_true", help="print one JSON object")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    rows = measure(args.states, args.rounds)
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    print("graphite  states  states/s  Cantera/s  ratio  difference  Cantera failed")
    for row in rows:
        print(
            f"{'with' if row['carbon'] else 'without':<8}  {row['states']:6d}  {row['states_per_second']:8.0f}"
            f"  {row['cantera_per_second']:9.0f}  {row['ratio']:5.2f}  {row['largest_difference']:10.1e}"
            f"  {row['cantera_failed']:d} of {CANTERA_STATES}"
        )


if __name__ == "__main__":
    main()
