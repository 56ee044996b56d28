"""`Program`: all recipes that satisfy a set of constraints, as an integer program over the steps of the laboratory's grid.

Each component has a binary (is it present) and an integer (how many steps of it); each code of a category and each state of a
step is a binary; each setting of a step is an integer. Columns without a resolution are continuous. A value that is fixed off
the grid is one more point of its column's grid. `pyro_hcvae.constraints.rows` states the constraints in these variables.

Rows belong to groups (one for each item, one for each limit of the schema), so that a conflict can be narrowed down by
switching groups off.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from pyro_hcvae.data.schema import Code

Floats = NDArray[np.float64]
Terms = dict[int, float]
"""Variable -> coefficient."""
Group = int | str | None
"""Position of an item, words of a limit of the schema, or None: what always holds."""
_OUT_OF_TIME = 1
_INFEASIBLE = 2
_DECIMALS = 12


class TimeLimitError(RuntimeError):
    """The solver found no answer in the time that it was given."""


@dataclass(frozen=True)
class Quantity:
    """One column of numbers in the variables of a program.

    Attributes:
        step: Value of one step; of a column without resolution, the smallest amount that counts.
        number: Variable that counts steps.
        on: Indicators whose sum is 1 where the column holds a number.
        fixed: Variables of values off the grid, by value; 1 where the column holds it.
        rest: Variable of what is left of a whole that is no multiple of the step, in steps.
        constants: Indicators of states in which the cell holds no number, with what stands in the cell.
    """

    step: float
    number: int
    on: tuple[int, ...]
    fixed: Mapping[float, int]
    rest: int | None = None
    constants: Mapping[int, float] = field(default_factory=dict)

    @property
    def gridded(self) -> Terms:
        """1 where the column holds a number that was not fixed off the grid."""
        return dict.fromkeys(self.on, 1.0) | dict.fromkeys(self.fixed.values(), -1.0)

    def counted(self) -> Terms:
        """The number in steps, if it was not fixed off the grid."""
        return {self.number: 1.0} | ({} if self.rest is None else {self.rest: 1.0})

    def steps(self) -> Terms:
        """The number in steps; 0 where there is none."""
        return self.counted() | {v: value / self.step for value, v in self.fixed.items()}

    def cell(self) -> Terms:
        """What stands in the cell."""
        return {v: c * self.step for v, c in self.steps().items()} | {v: c for v, c in self.constants.items() if c}

    def beyond(self, limit: float) -> Terms:
        """The number in steps minus a limit in steps; 0 where there is no number, or one fixed off the grid."""
        return self.counted() | {v: -limit * c for v, c in self.gridded.items()}

    def away(self, aim: float) -> Terms:
        """The number in steps minus an aim in steps; 0 where there is no number."""
        return self.steps() | dict.fromkeys(self.on, -aim)

    def value(self, solution: Floats) -> float:
        """What stands in the cell, from the values of all variables."""
        for value, variable in self.fixed.items():
            if solution[variable] > 0.5:
                return value  # as it was given
        for variable, constant in self.constants.items():
            if solution[variable] > 0.5:
                return constant
        if solution[list(self.on)].sum() < 0.5:
            return 0.0
        # Binary fractions make noise: 0.15000000000000002 -> 0.15.
        return round(float(sum(c * solution[v] for v, c in self.counted().items())) * self.step, _DECIMALS)


@dataclass
class Program:
    """Variables and rows. Built by `pyro_hcvae.constraints.rows.compile_program`.

    Attributes:
        quantities: Columns of numbers.
        codes: Indicator of each code, by column.
        states: Indicators of the states of each step, by its name.
        empty: Indicator of each block of components: 1 where it has none.
        rows: Coefficients, lowest and highest value, and group of each row.
        loosened: Limit of the schema -> variables that are integers because of it.
        needed_by: Variable of a value off the grid -> items that ask for it; it is 0 without them.
        owner: Variable -> its component.
    """

    quantities: dict[str, Quantity] = field(default_factory=dict)
    codes: dict[str, dict[Code, int]] = field(default_factory=dict)
    states: dict[str, list[int]] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[Terms, float, float, Group]] = field(default_factory=list)
    loosened: dict[str, list[int]] = field(default_factory=dict)
    needed_by: dict[int, list[int]] = field(default_factory=dict)
    owner: dict[int, str] = field(default_factory=dict)
    _bounds: list[tuple[float, float, bool]] = field(default_factory=list)

    def variable(self, upper: float = 1.0, *, lower: float = 0.0, integer: bool = True, owner: str = "") -> int:
        """Add a variable."""
        self._bounds.append((lower, upper, integer))
        if owner:
            self.owner[len(self._bounds) - 1] = owner
        return len(self._bounds) - 1

    def row(self, terms: Terms, low: float = -np.inf, high: float = np.inf, *, group: Group = None) -> None:
        """Add ``low <= sum of terms <= high``."""
        self.rows.append((terms, low, high, group))

    @property
    def size(self) -> int:
        """Number of variables."""
        return len(self._bounds)

    @property
    def limits(self) -> list[str]:
        """Limits of the schema, in order."""
        return list(dict.fromkeys([g for *_, g in self.rows if isinstance(g, str)] + list(self.loosened)))

    @cached_property
    def _matrix(self) -> Floats:
        matrix = np.zeros((len(self.rows), self.size))
        for i, (terms, *_) in enumerate(self.rows):
            for variable, coefficient in terms.items():
                matrix[i, variable] += coefficient
        return matrix

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """What the rows say of each component; those of one kind may stand for each other.

        A component that has to be there has a kind of its own.
        """
        mine: dict[str, list[int]] = {}
        for variable, name in self.owner.items():
            mine.setdefault(name, []).append(variable)
        role = {variable: k for variables in mine.values() for k, variable in enumerate(variables)}
        kinds: dict[str, list[str]] = {name: [] for name in mine}
        for i, (terms, low, high, group) in enumerate(self.rows):
            names = {self.owner[v] for v in terms if v in self.owner}
            others = sorted((v, c) for v, c in terms.items() if v not in self.owner)
            row = repr((low, high, group, others)) if len(names) == 1 else str(i)
            for name in names:
                part = sorted((role[v], terms[v]) for v in mine[name] if v in terms)
                kinds[name].append(f"{row} {part}")
                if len(names) == 1 and low > 0:
                    kinds[name].append(name)
        return {name: tuple(sorted(rows)) for name, rows in kinds.items()}

    def problem(
        self,
        items: Collection[int],
        limits: Collection[str] | None = None,
        *,
        without: Collection[str] = (),
        margin: float = 0.0,
    ) -> Problem:
        """A part of the program, ready to be solved. The program must be complete by now.

        Args:
            items: Positions of the items that must hold.
            limits: Limits of the schema that must hold; None: all.
            without: Components that are left out of consideration.
            margin: By how much inequalities are tightened, against the tolerance of the solver.
        """
        active = np.array(
            [g is None or (g in items if isinstance(g, int) else limits is None or g in limits) for *_, g in self.rows],
            dtype=np.bool_,
        )
        low, high = (np.array([row[k] for row in self.rows], dtype=np.float64)[active] for k in (1, 2))
        between = low < high
        lower, upper, integer = (np.array(x) for x in zip(*self._bounds, strict=True))
        for variable, wanted in self.needed_by.items():
            upper[variable] = float(any(i in items for i in wanted))
        if limits is not None:
            for limit, variables in self.loosened.items():
                if limit not in limits:
                    integer[variables] = False
        left_out = set(without)
        kept = np.array([self.owner.get(v, "") not in left_out for v in range(self.size)], dtype=np.bool_)
        matrix = self._matrix[np.ix_(active, kept)]
        filled = matrix.any(axis=1) | (low > 0) | (high < 0)
        return Problem(
            np.flatnonzero(kept), matrix[filled], (low + margin * between)[filled], (high - margin * between)[filled],
            lower[kept], upper[kept], integer[kept].astype(np.float64), self.size,
        )  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """Arrays of an integer program: ``low <= matrix x <= high``, ``lower <= x <= upper``.

    Attributes:
        kept: Positions of its variables among those of the program.
        matrix: Shape ``(rows, variables)``.
        low: Shape ``(rows,)``.
        high: Shape ``(rows,)``.
        lower: Shape ``(variables,)``.
        upper: Shape ``(variables,)``.
        integer: 1 for integers, shape ``(variables,)``.
        size: Number of variables of the program.
    """

    kept: NDArray[np.intp]
    matrix: Floats
    low: Floats
    high: Floats
    lower: Floats
    upper: Floats
    integer: Floats
    size: int

    def solve(
        self, *, cost: Terms | None = None, deviations: Sequence[tuple[Terms, float]] = (), time_limit: float
    ) -> Floats | None:
        r"""Find the point that minimises ``cost + sum of weight * |terms|``.

        Args:
            cost: Coefficients of the cost; None: any point will do.
            deviations: Terms, whose absolute value is minimised, with their weights.
            time_limit: In seconds of computing by this process; what other programs take does not count.

        Returns:
            Values of all variables of the program, integers rounded; None if there is no such point.

        Raises:
            TimeLimitError: If half of the time or more was used, and none found.
        """
        at = np.full(self.size, -1)
        at[self.kept] = np.arange(len(self.kept))
        count, more = len(self.kept), len(deviations)
        absolute = np.zeros((2 * more, count + more))
        for k, (terms, _) in enumerate(deviations):
            for variable, coefficient in terms.items():
                absolute[2 * k : 2 * k + 2, at[variable]] += (-coefficient, coefficient)
            absolute[2 * k : 2 * k + 2, count + k] = 1.0
        matrix = np.vstack([np.hstack([self.matrix, np.zeros((len(self.matrix), more))]), absolute])
        objective = np.append(np.zeros(count), [weight for _, weight in deviations])
        for variable, coefficient in (cost or {}).items():
            objective[at[variable]] += coefficient
        time_limit = elapsing = max(time_limit, 0.01)
        while True:
            began = time.process_time()
            result = milp(
                objective,
                integrality=np.append(self.integer, np.zeros(more)),
                bounds=Bounds(np.append(self.lower, np.zeros(more)), np.append(self.upper, np.full(more, np.inf))),
                constraints=LinearConstraint(
                    matrix, np.append(self.low, np.zeros(2 * more)), np.append(self.high, np.full(2 * more, np.inf))
                ),
                options={"time_limit": elapsing},
            )
            # The solver looks at the clock on the wall: on a busy machine it is asked again, until it had its share.
            if result.status != _OUT_OF_TIME or time.process_time() - began >= time_limit / 2:
                break
            elapsing *= 2
        if result.x is None:
            if result.status == _INFEASIBLE:
                return None
            raise TimeLimitError(result.message)
        found = result.x[:count]
        values = np.zeros(self.size)
        values[self.kept] = np.where(self.integer > 0, np.round(found), found)
        return values
