"""Conditions that a user asks for, by column name or by the name of a feed ratio -> one complete row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pyro_hcvae.data.codec import feed_features
from pyro_hcvae.data.schema import Feed, RecipeSchema
from pyro_hcvae.errors import InputError


@dataclass(frozen=True)
class Conditions:
    """One complete set of reaction conditions.

    Attributes:
        row: Value of each condition column and of the performance column (the target).
        assumed: Columns or feed ratios that were not asked for, with the typical value taken.
        warnings: Values outside of what the table holds, in words.
    """

    row: Mapping[str, float]
    assumed: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """The row as a frame with one row."""
        return pd.DataFrame([dict(self.row)])


def resolve_conditions(
    schema: RecipeSchema, experiments: pd.DataFrame, settings: Mapping[str, float], target: float
) -> Conditions:
    """Complete what a user asked for with the typical values of the table.

    Args:
        schema: Meaning of the columns.
        experiments: Canonical rows of the table: what is typical, and the range that was tried.
        settings: Values by name of a condition column, of a feed ratio (``CO2/CH4``) or of the diluted share.
        target: Wanted value of the performance column.

    Returns:
        Values for all condition columns. What was not asked for is the median of the table.

    Raises:
        InputError: If a name is unknown or a value impossible; names the remedy.
    """
    feed = schema.feed
    named_features = (*feed.ratios, *((feed.diluent,) if feed.diluents else ())) if feed else ()
    known = (*schema.condition_columns, *named_features)
    for name, value in settings.items():
        if name == schema.performance.name:
            raise InputError(f"{name!r} is the performance: ask for it with --target")
        if name in schema.recipe_columns:
            raise InputError(
                f'{name!r} is part of the recipe, not a condition: ask for it with --constraint "{name} = {value:g}", or write '
                "what you want to fix into a table, and leave the rest open, for: pyro-hcvae complete"
            )
        if name not in known:
            raise InputError(f"unknown condition {name!r}: {schema.did_you_mean(name, known)}")
        if not np.isfinite(value):
            raise InputError(f"condition {name!r}: {value} is not a finite number")
    row: dict[str, float] = {}
    assumed: dict[str, float] = {}
    warnings: list[str] = []
    for column in (*schema.conditions, schema.performance):
        wanted = target if column is schema.performance else settings.get(column.name)
        if wanted is None:
            wanted = assumed[column.name] = float(experiments[column.name].median())
        low, high = column.bounds
        if not np.isfinite(wanted) or abs(wanted) > 1e30:
            raise InputError(f"{column.name} = {wanted:g}: not a usable number")
        if not low <= wanted <= high or (column.transform == "log" and wanted <= 0):
            raise InputError(f"{column.name} = {wanted:g} {column.unit}: must lie within {low:g} to {high:g}")
        row[column.name] = float(wanted)
    if feed is not None:
        gases, typical = _resolve_feed(feed, experiments, settings)
        row |= gases
        assumed |= typical
    for name in (*schema.condition_columns, schema.performance.name):
        low, high = experiments[name].min(), experiments[name].max()
        if not low - 1e-9 <= row[name] <= high + 1e-9:
            warnings.append(f"{name} = {row[name]:g} lies outside of the table ({low:g} to {high:g})")
    return Conditions(
        {c: row[c] for c in (*schema.condition_columns, schema.performance.name)}, assumed, tuple(warnings)
    )


def _resolve_feed(
    feed: Feed, experiments: pd.DataFrame, settings: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    given = {name: float(settings[name]) for name in feed.names() if name in settings}
    ratios = {name: float(settings[name]) for name in feed.ratios if name in settings}
    if any(v < 0 for v in given.values()) or any(v <= 0 for v in ratios.values()):
        raise InputError("shares of the feed must not be negative, and ratios must be above 0")
    # With a share of a reactant given in figures, ratios would say the same thing twice.
    if any(name in given for name in feed.reactants):
        if ratios:
            raise InputError(f"give either shares of the reactants or the ratio {', '.join(ratios)}, not both")
        if any(given.get(name) == 0 for name in feed.reactants):
            raise InputError("a reactant of 0 is not this reaction: set its share above 0")
        if feed.diluent in settings:
            raise InputError(f"give either shares of all gases or {feed.diluent}, not both")
        if missing := [name for name in feed.reactants if name not in given]:
            raise InputError(f"set {', '.join(missing)} too, or describe the feed by {', '.join(feed.ratios)}")
        rest = feed.total - sum(given.values())
        open_diluents = [name for name in feed.diluents if name not in given]
        if rest < -feed.tolerance or (rest > feed.tolerance and not open_diluents):
            raise InputError(f"the feed sums to {feed.total - rest:g} {feed.unit}, not to {feed.total:g}")
        return _with_diluents(feed, experiments, given, rest if open_diluents else 0.0), {}
    medians = dict(zip((*feed.ratios, feed.diluent), np.median(feed_features(feed, experiments), axis=0), strict=False))
    assumed = {name: float(medians[name]) for name in feed.ratios if name not in ratios}
    ratios |= assumed
    diluted = sum(given.values())
    rest = 0.0
    if feed.diluents:
        if feed.diluent in settings:
            rest = float(settings[feed.diluent]) - diluted
            if rest > 1e-9 and all(name in given for name in feed.diluents):
                raise InputError(
                    f"{feed.diluent} = {settings[feed.diluent]:g} is more than the diluents given in figures"
                )
            if rest < -1e-9:
                raise InputError(
                    f"{feed.diluent} = {settings[feed.diluent]:g} is less than the diluents given in figures"
                )
        elif not given:
            rest = assumed[feed.diluent] = float(medians[feed.diluent])
    share = feed.total - diluted - rest
    if share <= 0:
        raise InputError(f"diluents of {diluted + rest:g} {feed.unit} leave no room for the reactants")
    parts = [1.0] + [ratios[name] for name in feed.ratios]
    reactants = {name: share * p / sum(parts) for name, p in zip(feed.reactants, parts, strict=True)}
    return _with_diluents(feed, experiments, given | reactants, max(rest, 0.0)), assumed


def _with_diluents(feed: Feed, experiments: pd.DataFrame, given: dict[str, float], rest: float) -> dict[str, float]:
    """Give what is left of the feed to the most used diluent that was not set."""
    gases = {name: given.get(name, 0.0) for name in feed.names()}
    if rest > 0:
        use = (experiments[list(feed.diluents)] > 0).sum().drop(list(given.keys() & set(feed.diluents)))
        gases[str(use.idxmax())] += rest
    return gases
