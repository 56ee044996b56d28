"""The published protocol: features, scales, splits. What the published architectures read of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_hcvae.data.schema import Amounts, Fractions, RecipeSchema, Step
from pyro_hcvae.data.splits import Grouping, groups_of
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.epochs import MemberRows
from pyro_hcvae.model import architectures as published

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
RateConstant = Literal["divided", "multiplied"]
Split = Literal["row", "recipe", "composition"]
SPLITS: tuple[Split, ...] = get_args(Split)
TRAIN, VALIDATION = 0.6, 0.2
"""Shares of the groups; the rest is for testing."""
_FULL = 1 - 1e-3
"""Conversion from which the rate constant counts as that of this conversion: at 1 it is infinite."""


@dataclass(frozen=True)
class ReactionColumns:
    """Where a table of a reforming reaction keeps what the features are made of.

    Attributes:
        temperature: Column in degC.
        methane: Feed column of CH4.
        dioxide: Feed column of CO2.
        feed: All feed columns.
        contact: Contact time in mg min/mL.
        time: Time on stream in min.
        conversion: Of CH4, in %.
        metals: Amounts that are encoded.
        supports: Shares that the hierarchy encodes.
        settings: Numbers of the pretreatment.
    """

    temperature: str
    methane: str
    dioxide: str
    feed: tuple[str, ...]
    contact: str
    time: str
    conversion: str
    metals: Amounts
    supports: Fractions
    settings: tuple[str, ...]

    @classmethod
    def of(cls, schema: RecipeSchema) -> Self:
        """Find the columns.

        Raises:
            InputError: If the schema is not that of the reforming of methane, or lacks what the study needs; names it.
        """

        def lacking(what: str) -> InputError:
            return InputError(
                f"schema {schema.name!r}: the published study needs {what}. It is about the reforming of methane with CO2, "
                "as in schema 'drm'"
            )

        reaction = schema.reaction
        if reaction is None or not {"CH4", "CO2"} <= set(reaction.species) or reaction.conversion_of != "CH4":
            raise lacking("a [reaction] with the species CH4 and CO2, and the conversion of CH4 as the performance")
        amounts = [block for block in schema.blocks if isinstance(block, Amounts)]
        shares = [block for block in schema.blocks if isinstance(block, Fractions)]
        steps = [block for block in schema.blocks if isinstance(block, Step)]
        if len(amounts) != 1 or len(shares) != 1 or not steps:
            raise lacking("one block of amounts, one block of fractions, and at least one step")
        conditions: dict[str, list[str]] = {}
        for column in schema.conditions:
            conditions.setdefault(column.unit, []).append(column.name)
        for unit, what in (("mg min/mL", "contact time"), ("min", "time on stream")):
            if len(conditions.get(unit, ())) != 1:
                raise lacking(f"one condition with unit {unit!r}, the {what}")
        return cls(
            temperature=reaction.temperature,
            methane=reaction.species["CH4"],
            dioxide=reaction.species["CO2"],
            feed=reaction.feed_columns,
            contact=conditions["mg min/mL"][0],
            time=conditions["min"][0],
            conversion=schema.performance.name,
            metals=amounts[0],
            supports=shares[0],
            settings=tuple(column.name for block in steps for column in block.columns),
        )


def reaction_features(table: RecipeTable, columns: ReactionColumns, rate_constant: RateConstant = "divided") -> Floats:
    r"""What the published models are told of the reaction, shape ``(N, 8)``.

    Reaction temperature; :math:`\ln(y_{CO_2} / y_{CH_4})`; :math:`\ln(1 + \tau y)` of CH4 and of CO2; :math:`\ln(1 + \tau)`;
    :math:`\ln(1 + t)`; the conversion X of CH4 as a share; and the rate constant of a first-order reaction that expands in a
    plug-flow reactor (Levenspiel, 1999, Chemical Reaction Engineering, 3rd ed., ch. 5)

    .. math:: k = \frac{-\epsilon X - (1 + \epsilon) \ln(1 - X)}{\tau}, \qquad \epsilon = 2 y_{CH_4}

    Args:
        table: Rows.
        columns: Where things are.
        rate_constant: ``divided`` by the contact time, as dimensions want it, or ``multiplied``: then the contact time was
            taken for a space velocity, which the column's name says it is.
    """
    frame = table.frame
    value = {name: frame[name].to_numpy(np.float64) for name in (*columns.feed, columns.contact, columns.time)}
    feed = np.sum([value[name] for name in columns.feed], axis=0)
    methane, dioxide = value[columns.methane] / feed, value[columns.dioxide] / feed
    contact = value[columns.contact]
    conversion = frame[columns.conversion].to_numpy(np.float64) / 100
    reacted, expansion = np.clip(conversion, 0.0, _FULL), 2 * methane
    advance = -expansion * reacted - (1 + expansion) * np.log1p(-reacted)
    with np.errstate(divide="ignore", invalid="ignore"):
        features = np.column_stack([
            frame[columns.temperature].to_numpy(np.float64),
            np.log(dioxide / methane),
            np.log1p(contact * methane),
            np.log1p(contact * dioxide),
            np.log1p(contact),
            np.log1p(value[columns.time]),
            conversion,
            advance / contact if rate_constant == "divided" else advance * contact,
        ])  # fmt: skip
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        row = frame.index[bad][0]
        raise InputError(
            f"{table.report.source}: row {row} has no finite features: the study needs CH4, CO2 and contact time above 0, "
            f"and every condition known ({bad.sum()} such row(s)). Leave these rows out"
        )
    return features


@dataclass(frozen=True)
class StudyRows:
    """A table in the parts that architectures read, unscaled, shape ``(N, F)`` each.

    Attributes:
        table: The rows.
        columns: Where things are.
        parts: Columns of each part.
    """

    table: RecipeTable
    columns: ReactionColumns
    parts: dict[str, Floats]

    @classmethod
    def of(cls, table: RecipeTable, *, rate_constant: RateConstant = "divided") -> Self:
        """Read the parts of a table. A setting that was not recorded is 0, as in the file.

        Raises:
            InputError: If the study does not fit the table or its schema.
        """
        columns = ReactionColumns.of(table.schema)
        metals = table.frame[list(columns.metals.columns)].to_numpy(np.float64)
        shares = table.frame[list(columns.supports.columns)].to_numpy(np.float64)
        parts = {
            published.AMOUNTS: metals,
            published.PRESENCE: (metals > 0).astype(np.float64),
            published.SHARES: shares,
            published.SUPPORTED: (shares > 0).astype(np.float64),
            published.TREATMENT: np.nan_to_num(table.frame[list(columns.settings)].to_numpy(np.float64)),
            published.REACTION: reaction_features(table, columns, rate_constant),
        }
        return cls(table, columns, parts)

    @property
    def widths(self) -> dict[str, int]:
        """Number of columns of each part."""
        return {name: part.shape[1] for name, part in self.parts.items()}


@dataclass(frozen=True)
class Repeat:
    """One split, and the scales of its training rows.

    Attributes:
        train: Positions of the rows that are learned from.
        validation: Rows that stop the training.
        test: Rows that are scored.
    """

    train: Positions
    validation: Positions
    test: Positions

    def limits(self, part: Floats) -> tuple[Floats, Floats]:
        """Smallest value and range of each column among the training rows; a constant column has the range 1."""
        low, high = part[self.train].min(axis=0), part[self.train].max(axis=0)
        return low, np.where(high > low, high - low, 1.0)


def split(table: RecipeTable, by: Split, seed: int) -> Repeat:
    """60 % of the groups to learn from, 20 % to stop by, 20 % to test on.

    Args:
        table: All rows.
        by: ``row``, as published: rows of one recipe stand on all sides. ``recipe`` or ``composition``: none is cut.
        seed: Fixes the split.

    Raises:
        InputError: If there are too few groups.
    """
    grouping: Grouping = "leaking-rows" if by == "row" else by
    groups = groups_of(table, grouping)
    count = int(groups.max()) + 1
    ends = [round(TRAIN * count), round((TRAIN + VALIDATION) * count)]
    if not 0 < ends[0] < ends[1] < count:
        raise InputError(
            f"{table.report.source}: {count} {by}(s) are too few to train, validate and test on: 4 are needed at least"
        )
    order = np.random.default_rng([seed, 4]).permutation(count)
    place = np.searchsorted(ends, np.argsort(order), side="right")[groups]
    train, validation, test = (np.flatnonzero(place == i) for i in range(3))
    return Repeat(train, validation, test)


def member_rows(rows: StudyRows, repeats: Sequence[Repeat], reads: Sequence[str]) -> MemberRows:
    """Rows of every repeat for an architecture that reads some parts, each on the scales of its own training rows.

    Numbers are scaled to between 0 and 1 on the training rows. Presences stay what they are.
    """
    packed, slices, start = [], {}, 0
    for name in reads:
        part = rows.parts[name]
        slices[name] = slice(start, start + part.shape[1])
        start += part.shape[1]
        scaled = []
        for repeat in repeats:
            presences = name in (published.PRESENCE, published.SUPPORTED)
            low, width = (0.0, 1.0) if presences else repeat.limits(part)
            scaled.append(torch.from_numpy(((part - low) / width).astype(np.float32)))
        packed.append(torch.stack(scaled))
    return MemberRows(torch.cat(packed, dim=-1), slices, [r.train for r in repeats], [r.validation for r in repeats])
