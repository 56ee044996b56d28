"""Feasibility rules: small objects that mark the recipes that they find unusual or impossible to make.

A rule is anything with a name, a severity, a reason, a source and a vectorised `FeasibilityRule.broken`. Those of a reaction are
declared in its schema (`RecipeSchema.rules`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.schema import RecipeSchema


class FeasibilityRule(Protocol):
    """One rule."""

    @property
    def name(self) -> str:
        """What the rule asks for, in words."""

    @property
    def severity(self) -> Literal["hard", "warning"]:
        """Whether a recipe that breaks it cannot be made, or wants a second look."""

    @property
    def reason(self) -> str:
        """Why the rule is there."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    def broken(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Whether each row breaks the rule, shape ``(rows,)``; a cell that is no number breaks none."""


def feasibility_rules(schema: RecipeSchema) -> tuple[FeasibilityRule, ...]:
    """Rules that hold for recipes of a schema."""
    return schema.rules


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
