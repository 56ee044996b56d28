"""Feasibility rules: small objects that mark the recipes that they find unusual or impossible to make.

A rule is anything with a name, a severity, a reason, a source and a vectorised `FeasibilityRule.broken`. Those of a reaction are
declared in its schema (`RecipeSchema.rules`). `judge` applies them, and says of each recipe what it breaks and by which numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.chemistry.compounds import compound
from pyro_hcvae.data.rule_base import Severity
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.data.tabled_rules import Observed, Sintering
from pyro_hcvae.data.validity import is_valid, structural_problems
from pyro_hcvae.errors import InputError

SEVERITIES: Mapping[Severity, float] = {"hard": 0.0, "strong warning": 3.0, "warning": 1.0, "note": 0.25}
"""Gravest first, with the weight of each in `Verdicts.score`. Hard rules are no matter of degree: `Verdicts.hard` tells."""


class FeasibilityRule(Protocol):
    """One rule."""

    @property
    def name(self) -> str:
        """What the rule asks for, in words."""

    @property
    def severity(self) -> Severity:
        """Whether a recipe that breaks it cannot be made, wants a second look, or is merely worth a note."""

    @property
    def advice(self) -> bool:
        """Whether it is left out of the count of recipes that keep the rules."""

    @property
    def reason(self) -> str:
        """Why the rule is there."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    def names(self) -> tuple[str, ...]:
        """Columns that the rule looks at."""

    def broken(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Whether each row breaks the rule, shape ``(rows,)``; a cell that is no number breaks none."""

    def degree(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """How far each row breaks the rule, shape ``(rows,)``: 0 where it keeps it, 1 where nothing else is said."""

    def evidence(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        """The numbers that decided, in words, for rows that break the rule."""


@dataclass(frozen=True)
class Structure:
    """A recipe is a recipe under its schema: see `structural_problems`."""

    schema: RecipeSchema
    name: str = "valid recipe of the schema"
    severity: Severity = "hard"
    advice: bool = False
    reason: str = "The schema allows no such recipe."

    @property
    def source(self) -> str:
        """The schema."""
        return f"schema {self.schema.name}"

    def names(self) -> tuple[str, ...]:
        """Columns of a recipe."""
        return self.schema.recipe_columns

    def broken(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Whether each row is no valid recipe, shape ``(rows,)``."""
        return np.asarray(~is_valid(frame, self.schema))

    def degree(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """1 for each row that is no valid recipe, shape ``(rows,)``."""
        return self.broken(frame).astype(np.float64)

    def evidence(self, frame: pd.DataFrame, units: Mapping[str, str]) -> list[str]:
        """What is wrong, with the numbers of the block in which it is."""
        problems = structural_problems(frame, self.schema)
        blocks = {b.name: b.names() for b in self.schema.blocks if not isinstance(b, Category)}
        said = []
        for (_, wrong), (_, row) in zip(problems.iterrows(), frame.iterrows(), strict=True):
            parts = []
            for problem in problems.columns[wrong.to_numpy(dtype=bool)]:
                names = blocks.get(problem.partition(": ")[0], ())
                shown = [f"{name} {row[name]:g} {units.get(name, '')}".rstrip() for name in names if row[name] != 0]
                parts.append(f"{problem} ({', '.join(shown)})" if shown else problem)
            said.append("; ".join(parts))
        return said


def feasibility_rules(schema: RecipeSchema, table: pd.DataFrame | None = None) -> tuple[FeasibilityRule, ...]:
    """Rules that hold for recipes of a schema, with the numbers that they take from tables.

    Args:
        schema: Declares the rules.
        table: Rows of the laboratory, recipe and condition columns; without it, rules on what it observed are left out.
    """
    rules: list[FeasibilityRule] = []
    for rule in schema.rules:
        if isinstance(rule, Observed) and not rule.ranges:
            if table is not None:
                rules.append(rule.fit(table))
        else:
            rules.append(_with_melting_points(rule) if isinstance(rule, Sintering) else rule)
    return tuple(rules)


def rules_that_count(schema: RecipeSchema) -> tuple[FeasibilityRule, ...]:
    """Rules of a schema that are more than advice, but those on what a laboratory observed: training and scores go by them."""
    return tuple(rule for rule in feasibility_rules(schema) if not rule.advice)


def broken_rules(frame: pd.DataFrame, rules: Iterable[FeasibilityRule]) -> pd.DataFrame:
    """Check recipes against rules.

    Args:
        frame: Recipe and condition columns.
        rules: Rules with different names.

    Returns:
        One row a recipe, one bool column a rule, True where the rule is broken.
    """
    with np.errstate(invalid="ignore"):  # infinities of both signs have no sum
        return pd.DataFrame({rule.name: rule.broken(frame) for rule in rules}, index=frame.index, dtype=bool)


@dataclass(frozen=True)
class Verdicts:
    """What the rules say of some recipes.

    Attributes:
        rules: All that were applied, gravest first.
        broken: One row a recipe, one bool column a rule by name: True where the recipe fails it, False where it passes.
        frame: The recipes, with the conditions beside.
        units: Unit of each column that has one.
    """

    rules: tuple[FeasibilityRule, ...]
    broken: pd.DataFrame
    frame: pd.DataFrame
    units: Mapping[str, str]

    @property
    def hard(self) -> NDArray[np.bool_]:
        """Whether each recipe breaks a hard rule, and so cannot be made, shape ``(rows,)``."""
        names = [rule.name for rule in self.rules if rule.severity == "hard"]
        return np.asarray(self.broken[names].to_numpy(dtype=bool).any(axis=1))

    @property
    def score(self) -> NDArray[np.float64]:
        """How much there is against each recipe, shape ``(rows,)``; 0: nothing, and less is better.

        The sum over broken rules of the weight of their severity (`SEVERITIES`) times their degree. The degree is 1, or for
        sintering the excess in hundreds of kelvin. Rules that follow each other (a warning above 900 degC, a strong one above
        1100 degC) add up.
        """
        score = np.zeros(len(self.frame))
        for rule in self.rules:
            if weight := SEVERITIES[rule.severity]:
                score += weight * rule.degree(self.frame)
        return score

    def findings(self) -> pd.DataFrame:
        """Broken rules one by one: ``recipe`` (its index), ``rule``, ``severity``, ``evidence``, ``reason``, ``source``.

        Sorted by the order of the recipes, then gravest first.
        """
        parts = []
        for order, rule in enumerate(self.rules):
            at = np.flatnonzero(self.broken[rule.name].to_numpy(dtype=bool))
            said = rule.evidence(self.frame.iloc[at], self.units)
            parts += [
                (i, order, rule.name, rule.severity, text, rule.reason, rule.source)
                for i, text in zip(at, said, strict=True)
            ]
        parts.sort(key=lambda part: part[:2])
        index = self.frame.index.to_list()
        records = [(index[i], *rest) for i, _, *rest in parts]
        return pd.DataFrame(records, columns=["recipe", "rule", "severity", "evidence", "reason", "source"])

    def words(self) -> list[str]:
        """For each recipe all findings in one text, empty if there are none."""
        found = self.findings()
        lines = found["severity"] + ": " + found["evidence"] + ". " + found["reason"]
        by_recipe = lines.groupby(found["recipe"]).agg(" | ".join)
        return [str(by_recipe.get(recipe, "")) for recipe in self.frame.index]


def judge(frame: pd.DataFrame, schema: RecipeSchema, table: pd.DataFrame | None = None) -> Verdicts:
    """Judge recipes for their conditions by the structure that the schema demands and by its rules.

    Args:
        frame: One row a recipe with the conditions for which it is meant; each index once.
        schema: Meaning of the columns, and the rules.
        table: Rows of the laboratory, for rules on what it observed; without it these are not applied.

    Raises:
        InputError: If a column that a rule looks at is not there, or recipes share an index.
    """
    if not frame.index.is_unique:
        raise InputError("recipes to judge share an index: call reset_index first")
    rules = sorted(
        (Structure(schema), *feasibility_rules(schema, table)), key=lambda r: [*SEVERITIES].index(r.severity)
    )
    lacking = [(name, rule.name) for rule in rules for name in rule.names() if name not in frame.columns]
    if lacking:
        columns = ", ".join(dict.fromkeys(name for name, _ in lacking))
        raise InputError(
            f"recipes to judge lack the columns {columns}: rule {lacking[0][1]!r} needs {lacking[0][0]!r}. "
            "Give recipes with the conditions for which they are meant"
        )
    return Verdicts(tuple(rules), broken_rules(frame, rules), frame, schema.units())


def _with_melting_points(rule: Sintering) -> Sintering:
    """The rule with melting points of the metals in the table of components, behind those of its own."""
    known = {column: found.melting_point_k for column in rule.columns if (found := compound(column))}
    points = {column: point for column, point in known.items() if point is not None}
    return rule.model_copy(update={"melting_points_k": points | rule.melting_points_k})
