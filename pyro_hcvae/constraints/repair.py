"""The nearest recipe that satisfies everything: one small integer program a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.feasibility import feasible
from pyro_hcvae.constraints.language import Fix, Novelty, Shared
from pyro_hcvae.constraints.program import Floats, Program, Terms, TimeLimitError
from pyro_hcvae.constraints.rows import compile_program
from pyro_hcvae.constraints.scale import RecipeScale
from pyro_hcvae.data.codec import step_states
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import Amounts, Category, Code, Fractions, Step
from pyro_hcvae.errors import InputError

_SECONDS = 5.0
"""Computing time for one recipe; the best one that was found by then is taken."""
_ADDED = 2.0
"""Weight of the deviation of a number that was not there before from what is typical."""
_EMPTIED = 10.0
"""Cost of taking the last component out of a block: more than replacing it."""
_MARGINS = (0.0, 2e-6)
"""The solver satisfies inequalities to 1e-6; where that is not enough, they are tightened."""


def repair(
    frame: pd.DataFrame, constraints: Constraints, *, scale: RecipeScale | None = None
) -> tuple[pd.DataFrame, Floats]:
    r"""Bring each recipe to the nearest one on the laboratory's grid that satisfies all constraints.

    A recipe that satisfies them once it is rounded stays as it is. For the others this is minimised, exactly:

    .. math::
        \sum_\text{kept} |x - x_0| / s + \sum_\text{taken out} (1 + x_0 / s) + \sum_\text{added} (2 - f + 2\,|x - t| / s)
        + \sum_\text{other code or state} (2 - f) + 10 \cdot \text{emptied blocks}

    with the spread :math:`s` and the typical value :math:`t` of each column, and the frequency :math:`f` of the component, code
    or state that is chosen (`RecipeScale`). What is added aims at its typical amount: a trace is not what was asked for. Of
    absent components that no constraint tells apart, the most frequent ones are candidates.

    Args:
        frame: Recipe columns, and any others, which stay as they are.
        constraints: What must hold. `Novelty` is not repaired towards: look at `Constraints.satisfied` afterwards. Columns of
            `Shared` get one value for the whole frame, that of `pick_shared`.
        scale: What is usual, e.g. learned from the known recipes; None: learned from the frame itself.

    Returns:
        The recipes, in the order and with the index of ``frame``, and the distance of each, shape ``(rows,)``; 0 where nothing
        but rounding was done. A recipe that could not be repaired is returned as it was, with the distance NaN: none was found in
        5 s, or the one that was found breaks a hard rule that applies to some recipes only (``where``), which cannot be repaired
        towards.

    Raises:
        InputError: If no recipe satisfies the constraints ("'require A' contradicts 'exclude A': drop or loosen one of them", see
            `Conflict`) or that could not be decided in time, or if a cell of a recipe holds no finite number.
    """
    _check(frame, constraints)
    conflict = feasible(constraints)
    if conflict is not None:
        raise InputError(str(conflict))
    scale = scale or RecipeScale.fit(constraints.schema, frame)
    if any(isinstance(item, Shared) for item in constraints.items):
        shared = _sharing(frame, constraints, scale)
        if shared is None:
            return frame.copy(), np.full(len(frame), np.nan)
        constraints = shared
    return _repaired(frame, constraints, scale)


def pick_shared(frame: pd.DataFrame, constraints: Constraints) -> dict[str, float | Code]:
    """The value of each column of `Shared` that most recipes have among those that satisfy everything else.

    Where none does, all recipes are looked at. A value with which the constraints could not hold together is passed over.

    Args:
        frame: Candidates, rounded to the grid.
        constraints: What must hold.

    Returns:
        Column -> value; a column for which no value of the frame will do is left out.
    """
    wanted = [item for item in constraints.items if isinstance(item, Shared)]
    columns = constraints.vocabulary.columns([name for item in wanted for name in item.names])
    left = Constraints(
        constraints.schema,
        tuple(item for item in constraints.items if not isinstance(item, Shared | Novelty)),
        constraints.prices,
    )
    good = left.satisfied(frame)
    candidates = frame[good] if good.any() else frame
    picked: dict[str, float | Code] = {}
    for column in columns:
        for value, _ in Counter(candidates[column].tolist()).most_common():
            try:
                pinned = left.adding(Fix(column=column, value=value))
            except InputError:  # a value outside of the limits
                continue
            if feasible(pinned) is None:
                picked[column], left = value, pinned
                candidates = candidates[candidates[column] == value]
                break
    return picked


def changes(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """What was changed in each row, in words: ``Ni 4.9 -> 5; Pt 0.5 -> 0``; empty where nothing was.

    Args:
        before: Recipes.
        after: The same rows, of which the columns of ``before`` are compared.
    """
    words: list[list[str]] = [[] for _ in range(len(before))]
    for name in before.columns.intersection(after.columns, sort=False):
        for i, (old, new) in enumerate(zip(before[name], after[name], strict=True)):
            if old != new and not (pd.isna(old) and pd.isna(new)):
                words[i].append(f"{name} {_short(old)} -> {_short(new)}")
    return ["; ".join(w) for w in words]


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check(frame: pd.DataFrame, constraints: Constraints) -> None:
    codes = {block.column for block in constraints.schema.blocks if isinstance(block, Category)}
    for name in constraints.schema.recipe_columns:
        if name not in frame:
            raise InputError(f"the recipes have no column {name!r}")
        if name not in codes:
            good = np.isfinite(pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64))
            if not good.all():
                row = int(np.argmin(good))
                raise InputError(
                    f"row {frame.index[row]}, column {name!r}: {frame[name].iloc[row]} is no finite number; only whole recipes "
                    "can be repaired"
                )


def _sharing(frame: pd.DataFrame, constraints: Constraints, scale: RecipeScale) -> Constraints | None:
    """The constraints with a value for each shared column; None if no row could be repaired to give one."""
    schema = constraints.schema
    wanted = [item for item in constraints.items if isinstance(item, Shared)]
    left = Constraints(
        schema, tuple(item for item in constraints.items if not isinstance(item, Shared)), constraints.prices
    )
    columns = constraints.vocabulary.columns([name for item in wanted for name in item.names])
    picked = pick_shared(round_to_grid(frame, schema), constraints)
    if len(picked) < len(columns) and len(frame):
        # No value of the frame will do; that of a recipe which satisfies everything else does.
        pinned = left.adding(*(Fix(column=c, value=v) for c, v in picked.items()))
        tried = (_repaired(frame.iloc[[row]], pinned, scale) for row in range(len(frame)))
        recipe = next((recipe for recipe, distance in tried if not np.isnan(distance[0])), None)
        if recipe is None:
            return None
        picked = pick_shared(recipe, constraints)
    return left.adding(*(Fix(column=c, value=v) for c, v in picked.items()))


def _repaired(frame: pd.DataFrame, constraints: Constraints, scale: RecipeScale) -> tuple[pd.DataFrame, Floats]:
    schema = constraints.schema
    items = [item for item in constraints.items if not isinstance(item, Novelty)]
    constraints = Constraints(schema, tuple(items), constraints.prices)
    fixed = {item.column for item in items if isinstance(item, Fix)}
    out = round_to_grid(frame, schema, keep=fixed)
    good = constraints.satisfied(out)
    distance = np.zeros(len(frame))
    if good.all():
        return out, distance
    numeric = [name for name in schema.recipe_columns if constraints.vocabulary.category(name) is None]
    reach = {name: float(np.abs(out[name].to_numpy(np.float64)).max()) for name in numeric}
    nearest = _Nearest(constraints, compile_program(constraints, reach), scale)
    before = {name: out[name].tolist() for name in schema.recipe_columns}
    states = {block.name: step_states(out, block) for block in schema.blocks if isinstance(block, Step)}
    for margin in _MARGINS:
        found: dict[int, dict[str, Any]] = {}
        for row in np.flatnonzero(~good & ~np.isnan(distance)).tolist():
            recipe = {name: values[row] for name, values in before.items()}
            try:
                found[row], distance[row] = nearest(
                    recipe, {name: int(state[row]) for name, state in states.items()}, margin
                )
            except TimeLimitError:
                distance[row] = np.nan
        out = _with_rows(out, found)
        good = constraints.satisfied(out)
        if good.all():
            return out, distance
    distance[~good] = np.nan
    given = {name: frame[name].tolist() for name in schema.recipe_columns}
    failed = np.flatnonzero(~good).tolist()
    return _with_rows(out, {row: {name: cells[row] for name, cells in given.items()} for row in failed}), distance


def _with_rows(frame: pd.DataFrame, rows: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """A frame with some rows replaced, by position."""
    if not rows:
        return frame
    columns = {}
    for name in next(iter(rows.values())):
        cells = frame[name].tolist()
        for row, recipe in rows.items():
            cells[row] = recipe[name]
        columns[name] = pd.Series(cells, index=frame.index, dtype=object if frame[name].dtype == object else None)
    return frame.assign(**columns)


class _Nearest:
    """Solves for one recipe after the other; the rows of the program stay, the objective changes."""

    def __init__(self, constraints: Constraints, program: Program, scale: RecipeScale) -> None:
        self.constraints, self.program, self.scale = constraints, program, scale
        self.kinds = program.kinds()
        self.items = range(len(constraints.items))

    def __call__(self, recipe: dict[str, Any], states: dict[str, int], margin: float) -> tuple[dict[str, Any], float]:
        cost, deviations, constant = self._objective(recipe, states)
        without = self._idle(recipe)
        cost = {v: c for v, c in cost.items() if self.program.owner.get(v, "") not in without}
        deviations = [(t, w) for t, w in deviations if not any(self.program.owner.get(v, "") in without for v in t)]
        problem = self.program.problem(self.items, without=without, margin=margin)
        solution = problem.solve(cost=cost, deviations=deviations, time_limit=_SECONDS)
        if solution is None:  # some recipe satisfies them, though not by the margin: that was made sure of before
            raise TimeLimitError
        terms = sum(c * solution[v] for v, c in cost.items())
        away = sum(w * abs(sum(c * solution[v] for v, c in t.items())) for t, w in deviations)
        return self._decode(solution), float(constant + terms + away)

    def _objective(
        self, recipe: dict[str, Any], states: dict[str, int]
    ) -> tuple[Terms, list[tuple[Terms, float]], float]:
        cost: Terms = {}
        constant = 0.0
        deviations: list[tuple[Terms, float]] = []
        scale, program = self.scale, self.program
        for block in self.constraints.schema.blocks:
            if isinstance(block, Category):
                for code, variable in program.codes[block.column].items():
                    if code != recipe[block.column]:
                        cost[variable] = 2 - scale.frequency[block.column, code]
                continue
            if isinstance(block, Step):
                for state, variable in enumerate(program.states[block.name]):
                    if state != states[block.name]:
                        cost[variable] = 2 - scale.frequency[block.name, state]
            for i, name in enumerate(block.names()):
                quantity, value = program.quantities[name], float(recipe[name])
                weight = quantity.step / scale.spread[name]
                kept = block.applies()[states[block.name]][i] if isinstance(block, Step) else value > 0
                aim = value if kept else scale.typical[name]
                deviations.append((quantity.away(aim / quantity.step), weight if kept else _ADDED * weight))
                if isinstance(block, Step):
                    continue
                on = quantity.on[0]
                cost[on] = -(1 + value / scale.spread[name]) if kept else 2 - scale.frequency[name, True]
                constant += 1 + value / scale.spread[name] if kept else 0.0
            if isinstance(block, Amounts | Fractions) and any(recipe[name] > 0 for name in block.columns):
                cost[program.empty[block.name]] = _EMPTIED
        return cost, deviations, constant

    def _idle(self, recipe: dict[str, Any]) -> set[str]:
        """Absent components that could only take the place of a more frequent one of their kind."""
        idle: set[str] = set()
        for block in self.constraints.vocabulary.component_blocks:
            taken: Counter[tuple[str, ...]] = Counter()
            for name in sorted(block.columns, key=lambda n: -self.scale.frequency[n, True]):
                if recipe[name] <= 0:
                    kind = self.kinds[name]
                    if taken[kind] >= block.set_sizes[-1]:
                        idle.add(name)
                    taken[kind] += 1
        return idle

    def _decode(self, solution: Floats) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for block in self.constraints.schema.blocks:
            if isinstance(block, Category):
                codes = self.program.codes[block.column]
                found[block.column] = max(codes, key=lambda code: solution[codes[code]])
                continue
            for name in block.names():
                found[name] = self.program.quantities[name].value(solution)
        return found
