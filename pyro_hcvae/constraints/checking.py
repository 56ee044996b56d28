"""Whether recipes satisfy a constraint, cell by cell, with no more slack than binary fractions need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from pyro_hcvae.constraints.vocabulary import Vocabulary, code_of
from pyro_hcvae.data.codec import step_settings
from pyro_hcvae.data.schema import Category, Step
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    from pyro_hcvae.constraints.collection import Constraints

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_TOLERANCE = 1e-9


def broken(item: Item, frame: pd.DataFrame, constraints: Constraints) -> Bools:
    """Whether each row breaks an item, shape ``(rows,)``.

    Raises:
        InputError: If the item is a `Novelty` and there is no distance to known recipes.
    """
    vocabulary = constraints.vocabulary
    match item:
        case Exclude():
            return _any_present(frame, vocabulary.components(item.names))
        case Require():
            lacking = np.zeros(len(frame), dtype=np.bool_)
            for name in item.names:
                block = vocabulary.blocks.get(name)
                if isinstance(block, Step):
                    lacking |= not_done(frame, block)
                else:
                    lacking |= ~_any_present(frame, vocabulary.components([name]))
            return lacking
        case Only():
            if (category := vocabulary.category(item.block)) is not None:
                codes = [code_of(category, code) for code in item.allowed]
                return np.asarray(~frame[category.column].isin(codes).to_numpy(dtype=bool))
            others = [c for c in vocabulary.components([item.block]) if c not in item.allowed]
            return _any_present(frame, others)
        case Fix():
            block = vocabulary.home[item.column]
            if isinstance(block, Category):
                return np.asarray((frame[item.column] != code_of(block, item.value)).to_numpy(dtype=bool))
            return np.asarray(~(np.abs(frame[item.column].to_numpy(np.float64) - float(item.value)) <= _TOLERANCE))
        case NotDone():
            return ~not_done(frame, vocabulary.step(item.step))
        case Range():
            outside = np.zeros(len(frame), dtype=np.bool_)
            for name in item.names:
                values = numbers(frame, name, vocabulary)
                outside |= ~np.isnan(values) & _outside(values, item.minimum, item.maximum)
            return outside
        case Sum():
            total = frame[list(vocabulary.components(item.names))].to_numpy(np.float64).sum(axis=1)
            return _outside(total, item.minimum, item.maximum)
        case Count():
            count = _present(frame, vocabulary.components(item.names)).sum(axis=1)
            return _outside(count.astype(np.float64), item.minimum, item.maximum)
        case Cost():
            return _outside(cost(frame, constraints), None, item.maximum)
        case Novelty():
            if constraints.distance is None:
                raise InputError(f"constraint {str(item)!r}: there are no known recipes to measure the distance to")
            return _outside(constraints.distance(frame), item.minimum, None)
        case Shared():
            different = np.zeros(len(frame), dtype=np.bool_)
            for name in vocabulary.columns(item.names):
                if len(frame):
                    different |= (frame[name] != frame[name].mode().iloc[0]).to_numpy(dtype=bool)
            return different


def cost(frame: pd.DataFrame, constraints: Constraints) -> Floats:
    """Price of each recipe: the sum of price times amount over all components that have a price, shape ``(rows,)``."""
    priced = [c for c in constraints.schema.component_columns if c in constraints.prices]
    prices = np.array([constraints.prices[c] for c in priced], dtype=np.float64)
    return np.asarray(frame[priced].to_numpy(np.float64) @ prices)


def numbers(frame: pd.DataFrame, name: str, vocabulary: Vocabulary) -> Floats:
    """Values of a column where it holds a number; NaN for an absent component, a step not done, a 0 with its own meaning."""
    block = vocabulary.home[name]
    if isinstance(block, Step):
        return step_settings(block, frame)[:, block.names().index(name)]
    values = frame[name].to_numpy(np.float64)
    return np.where(values > 0, values, np.nan)


def not_done(frame: pd.DataFrame, step: Step) -> Bools:
    """Whether each row lacks a step, shape ``(rows,)``."""
    if not step.optional:
        return np.zeros(len(frame), dtype=np.bool_)
    return np.asarray(frame[step.columns[0].name].to_numpy(np.float64) == step.absent)


def _any_present(frame: pd.DataFrame, columns: Sequence[str]) -> Bools:
    return np.asarray(_present(frame, columns).any(axis=1))


def _present(frame: pd.DataFrame, columns: Sequence[str]) -> Bools:
    return np.asarray(frame[list(columns)].to_numpy(np.float64) > 0)


def _outside(values: Floats, minimum: float | None, maximum: float | None) -> Bools:
    """Whether values pass a limit; NaN does."""
    good = np.ones(len(values), dtype=np.bool_)
    if minimum is not None:
        good &= values >= minimum - _TOLERANCE * max(1.0, abs(minimum))
    if maximum is not None:
        good &= values <= maximum + _TOLERANCE * max(1.0, abs(maximum))
    return ~good
