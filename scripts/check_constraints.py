"""Put random sets of constraints to the test: what can hold is repaired to exactly, what cannot is named quickly and rightly.

For each set: if it is feasible, a recipe of the virtual laboratory is repaired, written to CSV, read again, and must satisfy it
to the last digit and lie on the grid. If it is not, the conflict must be named within a second, must be infeasible by itself,
and must become feasible when any one of its constraints is dropped.

Examples:
    python scripts/check_constraints.py --sets 300
    python scripts/check_constraints.py --sets 10000 --seed 1
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pyro_hcvae import RecipeSchema, RecipeTable, VirtualLab
from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.feasibility import feasible
from pyro_hcvae.constraints.language import (
    Cost,
    Count,
    Exclude,
    Fix,
    Item,
    NotDone,
    Only,
    Range,
    Require,
    Shared,
    Sum,
)
from pyro_hcvae.constraints.parsing import parse
from pyro_hcvae.constraints.repair import repair
from pyro_hcvae.constraints.scale import RecipeScale
from pyro_hcvae.data.schema import Amounts, Category, Fractions, Step


@dataclass
class Outcome:
    """Counts and times, and every failure in words."""

    sets: int = 0
    infeasible: int = 0
    slowest_conflict: float = 0.0
    slowest_repair: float = 0.0
    distances: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def random_constraints(schema: RecipeSchema, rng: np.random.Generator) -> Constraints:
    """One to eight constraints of all kinds; some sets can hold, some cannot."""
    prices = {c: float(np.round(rng.uniform(0.1, 30), 2)) for c in schema.component_columns}
    items = [_random_item(schema, rng) for _ in range(rng.integers(1, 9))]
    return Constraints(schema, tuple(items), prices)


def _random_item(schema: RecipeSchema, rng: np.random.Generator) -> Item:
    block = schema.blocks[rng.integers(len(schema.blocks))]
    match block:
        case Category():
            codes = [block.codes[i] for i in rng.permutation(len(block.codes))]
            if rng.random() < 0.5:
                return Fix(column=block.column, value=codes[0])
            return Only(block=block.column, allowed=tuple(codes[: max(1, len(codes) // 2)]))
        case Step():
            return _about_a_step(block, rng)
        case Amounts() | Fractions():
            return _about_components(block, rng)


def _about_a_step(block: Step, rng: np.random.Generator) -> Item:
    kind = rng.choice(["done", "fix", "fix", "range", "range", "shared"])
    if kind == "done":
        return NotDone(step=block.name) if block.optional and rng.random() < 0.6 else Require(names=(block.name,))
    column = block.columns[rng.integers(len(block.columns))]
    if kind == "shared":
        return Shared(names=(column.name,))
    low, high = column.bounds
    first, last = np.sort(rng.uniform(low, min(high, low + 600), 2)).round(2).tolist()
    if kind == "range":
        return Range(names=(column.name,), minimum=first, maximum=last)
    step = column.resolution or 1.0
    value = first if rng.random() < 0.3 else round(max(first // step, 1) * step, 9)
    return Fix(column=column.name, value=float(np.clip(value, low, high)))


def _about_components(block: Amounts | Fractions, rng: np.random.Generator) -> Item:
    names = [block.columns[i] for i in rng.permutation(len(block.columns))]
    some = tuple(names[: rng.integers(1, 1 + min(3, len(names)))])
    scale = block.total if isinstance(block, Fractions) else (block.max_total or 30.0) / 2
    step = block.resolution or 0.01 * scale
    first, last = np.sort(rng.uniform(0, scale, 2)).round(3).tolist()
    match rng.choice(["exclude", "require", "only", "fix", "off grid", "range", "sum", "count", "cost"]):
        case "exclude":
            return Exclude(names=some)
        case "require":
            return Require(names=some[:2] if rng.random() < 0.8 else (block.name,))
        case "only":
            return Only(block=block.name, allowed=tuple(names[: max(2, len(names) // 3)]))
        case "fix":
            return Fix(column=names[0], value=round(first // step * step, 9))
        case "off grid":
            return Fix(column=names[0], value=first)
        case "range":
            return Range(names=some, minimum=None if rng.random() < 0.3 else first, maximum=last)
        case "sum":
            own = some if rng.random() < 0.7 else (block.name,)
            return Sum(names=own, minimum=first if rng.random() < 0.4 else None, maximum=last)
        case "count":
            most = int(rng.integers(0, 4))
            return Count(
                names=(block.name,) if rng.random() < 0.6 else some,
                minimum=int(rng.integers(0, most + 1)),
                maximum=most,
            )
        case _:
            return Cost(maximum=round(first * 10, 2))


def check(schema: RecipeSchema, recipes: pd.DataFrame, sets: int, seed: int, *, every: int = 0) -> Outcome:
    """Try random sets.

    Args:
        schema: Meaning of the columns.
        recipes: Valid recipes, one of which is repaired for each set, and from which is learned what is usual.
        sets: How many.
        seed: Fixes them.
        every: Print a line after so many sets; 0: never.
    """
    rng, scale = np.random.default_rng(seed), RecipeScale.fit(schema, recipes)
    outcome = Outcome()
    for number in range(1, sets + 1):
        constraints = random_constraints(schema, rng)
        start = recipes.iloc[[rng.integers(len(recipes))]]
        outcome.sets += 1
        began = time.monotonic()
        conflict = feasible(constraints)
        took = time.monotonic() - began
        if conflict is not None:
            outcome.infeasible += 1
            outcome.slowest_conflict = max(outcome.slowest_conflict, took)
            _check_conflict(constraints, conflict.items, conflict.minimal, outcome)
        else:
            began = time.monotonic()
            repaired, distance = repair(start, constraints, scale=scale)
            outcome.slowest_repair = max(outcome.slowest_repair, time.monotonic() - began)
            if np.isnan(distance[0]):
                outcome.failures.append(f"can hold, but no recipe was found: {constraints}")
            else:
                outcome.distances.append(float(distance[0]))
                _check_repaired(constraints, repaired, outcome)
        for item in constraints.items:
            if parse(str(item), schema) != item:
                outcome.failures.append(f"text is misread: {item}")
        if every and number % every == 0:
            print(f"{number} sets, {outcome.infeasible} infeasible, {len(outcome.failures)} failures", flush=True)
    return outcome


def _check_conflict(constraints: Constraints, items: tuple[Item, ...], minimal: bool, outcome: Outcome) -> None:
    def holds(some: Sequence[Item]) -> bool:
        return feasible(Constraints(constraints.schema, tuple(some), constraints.prices)) is None

    if not minimal:
        outcome.failures.append(f"not narrowed down in time: {constraints}")
    elif holds(items):
        outcome.failures.append(f"named as a conflict, but can hold: {'; '.join(map(str, items))}")
    elif not all(holds([i for i in items if i != item]) for item in items):
        outcome.failures.append(f"conflict is not minimal: {'; '.join(map(str, items))}")


def _check_repaired(constraints: Constraints, repaired: pd.DataFrame, outcome: Outcome) -> None:
    frame = pd.read_csv(io.StringIO(repaired.to_csv(index=False)))
    if not constraints.satisfied(frame)[0]:
        broken = constraints.violations(frame).iloc[0]
        outcome.failures.append(f"broken after repair: {list(broken.index[broken])} of {constraints}")
    fixed = {item.column for item in constraints.items if isinstance(item, Fix)}
    for block in constraints.schema.blocks:
        if isinstance(block, Fractions) and fixed & set(block.columns):
            continue  # what a share off the grid leaves of the whole need not be on it
        columns = {c.name: c.resolution for c in block.columns} if isinstance(block, Step) else {}
        if isinstance(block, Amounts | Fractions):
            columns = dict.fromkeys(block.columns, block.resolution)
        for name, step in columns.items():
            if step and name not in fixed:
                steps = float(frame[name].iloc[0]) / step
                if abs(steps - round(steps)) > 1e-6:
                    outcome.failures.append(f"{name} = {frame[name].iloc[0]} is off the grid for {constraints}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    schema = RecipeSchema.load("drm")
    table = RecipeTable.from_frame(VirtualLab().experiments(recipes=300, seed=0), schema)
    recipes = table.frame[list(schema.recipe_columns)].drop_duplicates().reset_index(drop=True)
    began = time.monotonic()
    outcome = check(schema, recipes, options.sets, options.seed, every=500)
    print(f"{outcome.sets} sets in {time.monotonic() - began:.0f} s, {outcome.infeasible} infeasible")
    print(f"slowest conflict {outcome.slowest_conflict:.2f} s, slowest repair {outcome.slowest_repair:.2f} s")
    if outcome.distances:
        print(f"median distance of a repaired recipe {np.median(outcome.distances):.2f}")
    print(f"failures: {len(outcome.failures)}")
    for failure in outcome.failures[:20]:
        print("  ", failure)
    if outcome.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
