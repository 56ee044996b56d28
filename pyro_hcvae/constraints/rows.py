"""Compiles a schema and its constraints to a `Program`: the blocks first, then each item, then the hard rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.language import (
    Cost,
    Count,
    Exclude,
    Fix,
    Item,
    NotDone,
    Novelty,
    Only,
    Range,
    Require,
    Shared,
    Sum,
)
from pyro_hcvae.constraints.program import Group, Program, Quantity, Terms
from pyro_hcvae.constraints.vocabulary import Components, code_of
from pyro_hcvae.data import rules
from pyro_hcvae.data.schema import Amounts, Category, Fractions, Step

_ON_GRID = 1e-9
_FINE = 1e-4
"""Smallest amount of a column without resolution, as a share of what it can reach."""


def compile_program(constraints: Constraints, reach: Mapping[str, float] | None = None) -> Program:
    """State a set of constraints as a program.

    Args:
        constraints: Items and schema.
        reach: Absolute value up to which a column without limits must reach, e.g. that of a recipe to be repaired.
    """
    return _Compiler(constraints, reach or {}).program


class _Compiler:
    def __init__(self, constraints: Constraints, reach: Mapping[str, float]) -> None:
        self.constraints, self.vocabulary, self.reach = constraints, constraints.vocabulary, reach
        self.program = Program()
        self.off_grid, self.named = self._values()
        for block in constraints.schema.blocks:
            match block:
                case Amounts() | Fractions():
                    self._components(block)
                case Step():
                    self._step(block)
                case Category():
                    codes = {code: self.program.variable() for code in block.codes}
                    self.program.codes[block.column] = codes
                    self._sum(codes.values(), 1, 1)
        if present := [self._on(name) for name in constraints.schema.component_columns]:
            self._sum(present, 1, group="a recipe has at least one component")
        for position, item in enumerate(constraints.items):
            self._item(item, position)
        for rule in constraints.rules:
            self._rule(rule, f"rule of the schema: {rule.name}")

    def _values(self) -> tuple[dict[str, dict[float, list[int]]], dict[str, float]]:
        """Values that items fix off the grid, with these items; and the largest number that items name, by column."""
        off: dict[str, dict[float, list[int]]] = {}
        named: dict[str, float] = {}
        columns: tuple[str, ...]
        for position, item in enumerate(self.constraints.items):
            match item:
                case Fix() if not isinstance(self.vocabulary.home[item.column], Category):
                    value, step = float(item.value), self._resolution(item.column)
                    if value and (step is None or abs(value - round(value / step) * step) > _ON_GRID):
                        off.setdefault(item.column, {}).setdefault(value, []).append(position)
                    numbers, columns = [value], (item.column,)
                case Range():
                    numbers, columns = [item.minimum or 0.0, item.maximum or 0.0], item.names
                case Sum():
                    numbers, columns = [item.minimum or 0.0], self.vocabulary.components(item.names)
                case _:
                    continue
            for name in columns:
                named[name] = max(named.get(name, 0.0), *map(abs, numbers))
        return off, named

    def _resolution(self, name: str) -> float | None:
        block = self.vocabulary.home[name]
        return self.vocabulary.settings[name].resolution if isinstance(block, Step) else block.resolution  # type: ignore[union-attr]

    def _far(self, name: str, limit: float) -> float:
        """Absolute value that a column has to reach: finite, and beyond all that is named."""
        named = max(self.named.get(name, 0.0), self.reach.get(name, 0.0))
        far = max(1000.0, 10 * named)
        if np.isfinite(limit) and (self._resolution(name) is not None or limit < far):
            return limit if named <= limit else 2 * named
        return far

    def _components(self, block: Components) -> None:
        program, plural = self.program, block.name
        whole = block.total if isinstance(block, Fractions) else block.max_total or np.inf
        far = max(self._far(name, whole) for name in block.columns)
        step = block.resolution or _FINE * min(far, 10.0)
        exact = (
            isinstance(block, Fractions)
            and block.resolution is not None
            and (
                any(name in self.off_grid for name in block.columns)
                or abs(whole - round(whole / step) * step) > _ON_GRID
            )
        )
        steps: Terms = {}
        present, numbers, rests = [], [], []
        for name in block.columns:
            on = program.variable(owner=name)
            number = program.variable(np.ceil(far / step), integer=block.resolution is not None, owner=name)
            fixed = self._fixed(name)
            rest = takes = None
            if exact:
                rest, takes = program.variable(integer=False, owner=name), program.variable(owner=name)
                rests.append(takes)
            quantity = Quantity(step, number, (on,), fixed, rest)
            program.quantities[name] = quantity
            program.row({number: 1.0} | {v: -c for v, c in quantity.gridded.items()}, low=0)
            program.row({number: 1.0} | {v: -np.ceil(far / step) * c for v, c in quantity.gridded.items()}, high=0)
            if rest is not None and takes is not None:
                program.row({rest: 1.0, takes: -1.0}, high=0)
                program.row({takes: 1.0} | {v: -c for v, c in quantity.gridded.items()}, high=0)
            steps |= quantity.steps()
            present.append(on)
            numbers.append(number)
        if block.resolution is not None:
            program.loosened[f"{plural} come in steps of {step:g} {block.unit}".rstrip()] = numbers
        if block.max_present is not None and block.max_present < len(present):
            self._sum(present, high=block.max_present, group=f"at most {block.max_present} {plural}")
        empty = program.empty[block.name] = program.variable()
        self._sum([*present, empty], 1)
        for on in present:
            program.row({on: 1.0, empty: 1.0}, high=1)
        if isinstance(block, Amounts):
            if block.max_total is not None:
                group = f"{plural} sum to at most {whole:g} {block.unit}".rstrip()
                program.row(steps, high=whole / step, group=group)
            return
        if rests:
            self._sum(rests, high=1)
        program.row(steps | {empty: whole / step}, whole / step, whole / step, group=f"{plural} sum to {whole:g}")
        if not block.may_be_empty:
            program.row({empty: 1.0}, high=0, group=f"a recipe has at least one of {plural}")

    def _step(self, block: Step) -> None:
        program = self.program
        states = [program.variable() for _ in block.states]
        program.states[block.name] = states
        self._sum(states, 1, 1)
        for i, column in enumerate(block.columns):
            on = tuple(state for state, applies in zip(states, block.applies(), strict=True) if applies[i])
            constants = {s: 0.0 for s in states if s not in on}
            if block.optional:
                constants[states[0]] = block.absent
            low, high = column.bounds
            step = column.resolution or _FINE * (
                high - low if np.isfinite(high - low) else self._far(column.name, np.inf)
            )
            top = self._far(column.name, max(abs(high), abs(low) if np.isfinite(low) else 0.0))
            number = program.variable(
                np.ceil(top / step), lower=-np.ceil(top / step), integer=column.resolution is not None
            )
            quantity = Quantity(step, number, on, self._fixed(column.name), None, constants)
            program.quantities[column.name] = quantity
            program.row(quantity.beyond(np.ceil(top / step)), high=0)
            # The first setting of an optional step tells whether it was done; no number of it may look like "not done".
            floor = -np.ceil(top / step)
            if column.transform == "log" or column.zero_means is not None:
                floor = 1.0
            if block.optional and i == 0 and low <= block.absent <= high:
                floor = max(floor, np.floor(block.absent / step + _ON_GRID) + 1)
            program.row(quantity.beyond(floor), low=0)
            if column.resolution is not None:
                program.loosened[f"{column.name} comes in steps of {step:g} {column.unit}".rstrip()] = [number]
            words = f"{low:g} to {high:g}" if np.isfinite([low, high]).all() else f"{low:g} or above"
            words = words if np.isfinite(low) else f"{high:g} or below"
            group = f"{column.name} is {words} {column.unit}".rstrip()
            if np.isfinite(low):
                program.row(quantity.beyond(low / step), low=0, group=group)
            if np.isfinite(high):
                program.row(quantity.beyond(high / step), high=0, group=group)

    def _fixed(self, name: str) -> dict[float, int]:
        owner = name if name not in self.vocabulary.settings else ""
        fixed = {}
        for value, wanted in self.off_grid.get(name, {}).items():
            fixed[value] = self.program.variable(owner=owner)
            self.program.needed_by[fixed[value]] = wanted
        return fixed

    def _on(self, name: str) -> int:
        return self.program.quantities[name].on[0]

    def _sum(
        self, variables: Iterable[int], low: float = -np.inf, high: float = np.inf, *, group: Group = None
    ) -> None:
        self.program.row(dict.fromkeys(variables, 1.0), low, high, group=group)

    def _item(self, item: Item, group: int) -> None:
        program, vocabulary = self.program, self.vocabulary
        match item:
            case Exclude():
                self._sum(map(self._on, vocabulary.components(item.names)), high=0, group=group)
            case Require():
                for name in item.names:
                    step = vocabulary.blocks.get(name)
                    if isinstance(step, Step):
                        if step.optional:
                            self._sum(program.states[name][:1], high=0, group=group)
                    else:
                        self._sum(map(self._on, vocabulary.components([name])), low=1, group=group)
            case Only():
                if (category := vocabulary.category(item.block)) is not None:
                    allowed = {code_of(category, code) for code in item.allowed}
                    self._sum((program.codes[category.column][code] for code in allowed), 1, 1, group=group)
                else:
                    others = [c for c in vocabulary.components([item.block]) if c not in item.allowed]
                    self._sum(map(self._on, others), high=0, group=group)
            case NotDone():
                self._sum(program.states[item.step][:1], 1, 1, group=group)
            case Fix():
                self._fix(item, group)
            case Range():
                for name in item.names:
                    self._range(program.quantities[name], item, group)
            case Sum():
                cells = self._cells(dict.fromkeys(vocabulary.components(item.names), 1.0))
                self._bounded(cells, item.minimum, item.maximum, group)
            case Count():
                low = -np.inf if item.minimum is None else item.minimum
                high = np.inf if item.maximum is None else item.maximum
                self._sum(map(self._on, vocabulary.components(item.names)), low, high, group=group)
            case Cost():
                prices = {
                    c: p for c, p in self.constraints.prices.items() if c in self.constraints.schema.component_columns
                }
                self._bounded(self._cells(prices), None, item.maximum, group)
            case Novelty() | Shared():
                pass  # about other recipes: checked, and chosen for a batch, outside of the program

    def _fix(self, item: Fix, group: int) -> None:
        block = self.vocabulary.home[item.column]
        if isinstance(block, Category):
            self._sum([self.program.codes[item.column][code_of(block, item.value)]], 1, 1, group=group)
            return
        quantity, value = self.program.quantities[item.column], float(item.value)
        if not isinstance(block, Step) and value == 0:
            self._sum(quantity.on, high=0, group=group)
            return
        elsewhere = [v for v, constant in quantity.constants.items() if constant == value]
        if value in quantity.fixed:
            self._sum([quantity.fixed[value], *elsewhere], 1, 1, group=group)
            return
        self._sum([*quantity.on, *elsewhere], 1, 1, group=group)
        self._sum(quantity.fixed.values(), high=0, group=group)
        steps = round(value / quantity.step)
        self.program.row(quantity.beyond(steps), 0, 0, group=group)

    def _range(self, quantity: Quantity, item: Range, group: int) -> None:
        low = -np.inf if item.minimum is None else item.minimum
        high = np.inf if item.maximum is None else item.maximum
        for value, variable in quantity.fixed.items():
            if not low - _ON_GRID <= value <= high + _ON_GRID:
                self._sum([variable], high=0, group=group)
        if np.isfinite(low):
            self.program.row(quantity.beyond(low / quantity.step), low=0, group=group)
        if np.isfinite(high):
            self.program.row(quantity.beyond(high / quantity.step), high=0, group=group)

    def _cells(self, weights: Mapping[str, float]) -> Terms:
        """Weighted sum of cells; a variable belongs to one column."""
        return {v: w * c for name, w in weights.items() for v, c in self.program.quantities[name].cell().items()}

    def _bounded(self, terms: Terms, low: float | None, high: float | None, group: Group) -> None:
        """Rows of very large or small coefficients would meet the solver's absolute tolerance: scaled to whole steps."""
        scale = min((abs(c) for c in terms.values() if c), default=1.0)
        self.program.row(
            {v: c / scale for v, c in terms.items()},
            -np.inf if low is None else low / scale,
            np.inf if high is None else high / scale,
            group=group,
        )

    def _rule(self, rule: rules.Rule, group: str) -> None:
        """A rule judges cells. Where a number of its own equals the value that excuses, it is held to the rule all the same.

        What is not stated here, a rule with ``where`` or of another kind, is left to `Constraints.satisfied`: it must not keep
        recipes out that it does not speak of.
        """
        if rule.where:
            return
        match rule:
            case rules.Range():
                for name in rule.columns:
                    for limit, low in ((rule.minimum, True), (rule.maximum, False)):
                        if limit is not None:
                            terms, constant = self._excused(name, rule.unless, limit - (rule.unless or 0.0))
                            cell = _plus(self._cells({name: 1.0}), terms)
                            bound = limit - constant
                            self._bounded(cell, bound if low else None, None if low else bound, group)
            case rules.Caps():
                for name, limit in rule.limits.items():
                    self._bounded(self._cells({name: 1.0}), None, limit, group)
            case rules.Sum():
                self._bounded(self._cells(dict.fromkeys(rule.columns, 1.0)), None, rule.maximum, group)
            case rules.Count():
                terms = {}
                for name in rule.columns:
                    quantity = self.program.quantities[name]
                    terms |= dict.fromkeys([*quantity.on, *(v for v, c in quantity.constants.items() if c > 0)], 1.0)
                most = len(rule.columns) if rule.maximum is None else rule.maximum
                self.program.row(terms, low=rule.minimum, high=most, group=group)
            case rules.Ordering():
                far = 2 * sum(self._far(n, self._largest(n)) for n in rule.names()) + abs(rule.offset)
                cells = _plus(self._cells({rule.lower: 1.0}), self._cells({rule.upper: -1.0}))
                bound = rule.offset
                for name in rule.names():
                    terms, constant = self._excused(name, rule.unless, -far)
                    cells, bound = _plus(cells, terms), bound - constant
                self._bounded(cells, None, bound, group)
            case _:
                pass

    def _largest(self, name: str) -> float:
        column = self.vocabulary.settings.get(name)
        block = self.vocabulary.home[name]
        if column is not None:
            return max(map(abs, column.bounds))
        return block.total if isinstance(block, Fractions) else getattr(block, "max_total", None) or np.inf

    def _excused(self, name: str, unless: float | None, weight: float) -> tuple[Terms, float]:
        """``weight`` times (the cell holds no number but ``unless``), as terms and a constant."""
        quantity = self.program.quantities[name]
        if unless is None:
            return {}, 0.0
        if name in self.vocabulary.settings:
            return {v: weight for v, constant in quantity.constants.items() if constant == unless}, 0.0
        return ({quantity.on[0]: -weight}, weight) if unless == 0 else ({}, 0.0)


def _plus(one: Terms, other: Terms) -> Terms:
    return {v: one.get(v, 0.0) + other.get(v, 0.0) for v in one | other}
