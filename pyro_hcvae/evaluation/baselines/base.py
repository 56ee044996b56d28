"""What baselines share: columns as numbers, donors from leaves, and joint models conditioned by their nearest draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.features import finite
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.data.table import RecipeTable

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
_POOL = 20_000


class Baseline(ABC):
    """A generator that is fitted on all training rows, each counted once.

    A recipe that was measured often weighs more than in the designer's training, as in the published uses of these methods.
    """

    name: str
    schema: RecipeSchema
    codec: RecipeCodec

    def fit(self, table: RecipeTable, *, seed: int) -> Self:
        """Learn from training rows; see `Generator.fit`."""
        self.schema = table.schema
        self.codec = RecipeCodec.fit(table.schema, table.frame)
        self._fit(table.frame, self.features(table.frame), np.random.default_rng(seed))
        return self

    def sample(self, conditions: pd.DataFrame, draws_per_row: int, *, seed: int) -> pd.DataFrame:
        """Draw recipes for rows of conditions; see `Generator.sample`."""
        recipes = self._draw(self.features(conditions), draws_per_row, np.random.default_rng(seed))
        rows = np.repeat(np.arange(len(conditions)), draws_per_row)
        wanted = conditions.iloc[rows][[*self.schema.condition_columns, self.schema.performance.name]]
        return pd.concat([recipes.set_axis(range(len(rows))), wanted.set_axis(range(len(rows)))], axis=1).set_axis(
            wanted.index
        )

    def features(self, frame: pd.DataFrame) -> Floats:
        """Standardised condition features and performance, shape ``(B, C)``, all finite; scales from the training rows."""
        return finite(self.codec.encode_conditions(frame))

    @abstractmethod
    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        """Learn from canonical rows ``(B, ...)`` and their condition features ``(B, C)``."""

    @abstractmethod
    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        """Recipe columns for condition features ``(B, C)``: ``B * draws_per_row`` rows, those of one row adjacent."""


class JointBaseline(Baseline):
    """A model of recipe and conditions together, conditioned by rejection.

    A pool of joint draws is made once for a call; a row of conditions gets the draws of the pool whose condition features
    lie nearest to its own (Euclidean, standardised), the nearest first.
    """

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        self._fit_joint(np.hstack([features, recipe_matrix(self.schema, frame)]), rng)

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        pool = self._draw_joint(max(_POOL, draws_per_row), rng)
        width = features.shape[1]
        search = NearestNeighbors(n_neighbors=draws_per_row).fit(np.nan_to_num(pool[:, :width]))
        nearest = search.kneighbors(features, return_distance=False).ravel()
        return recipe_frame(self.schema, pool[nearest, width:])

    @abstractmethod
    def _fit_joint(self, joint: Floats, rng: np.random.Generator) -> None:
        """Learn from condition features beside recipe columns, shape ``(B, C + R)``."""

    @abstractmethod
    def _draw_joint(self, count: int, rng: np.random.Generator) -> Floats:
        """Joint draws, shape ``(count, C + R)``."""


def recipe_matrix(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Recipe columns as numbers, shape ``(B, R)``: codes by position, unknown cells by the median of the known ones."""
    code = {block.column: block.codes for block in schema.blocks if isinstance(block, Category)}
    columns: list[Floats] = []
    for name in schema.recipe_columns:
        if name in code:
            position = {c: float(i) for i, c in enumerate(code[name])}
            values = frame[name].map(lambda v, position=position: position.get(v, np.nan)).to_numpy(np.float64)
        else:
            values = frame[name].to_numpy(np.float64)
        known = values[np.isfinite(values)]
        columns.append(np.where(np.isfinite(values), values, np.median(known) if len(known) else 0.0))
    return np.column_stack(columns)


def recipe_frame(schema: RecipeSchema, matrix: Floats) -> pd.DataFrame:
    """Table form of `recipe_matrix`; a position becomes the nearest code."""
    frame = pd.DataFrame(matrix, columns=pd.Index(schema.recipe_columns))
    for block in schema.blocks:
        if isinstance(block, Category):
            at = np.clip(np.rint(np.nan_to_num(frame[block.column])), 0, len(block.codes) - 1).astype(np.int64)
            frame[block.column] = np.array(block.codes, dtype=object)[at]
    return frame


def code_counts(schema: RecipeSchema) -> dict[int, int]:
    """Position of each column of codes among the recipe columns, and how many codes it has."""
    at = {name: i for i, name in enumerate(schema.recipe_columns)}
    return {at[block.column]: len(block.codes) for block in schema.blocks if isinstance(block, Category)}


def one_hot(schema: RecipeSchema, matrix: Floats) -> Floats:
    """`recipe_matrix` with one column a code, shape ``(B, R')``."""
    codes = code_counts(schema)
    return np.hstack([
        np.eye(codes[i])[matrix[:, i].astype(np.int64)] if i in codes else matrix[:, [i]]
        for i in range(matrix.shape[1])
    ])  # fmt: skip


def from_one_hot(schema: RecipeSchema, expanded: Floats) -> Floats:
    """Inverse of `one_hot` for any numbers: the code with the largest one."""
    codes, columns, start = code_counts(schema), [], 0
    for i in range(len(schema.recipe_columns)):
        part = expanded[:, start : start + codes.get(i, 1)]
        columns.append(part.argmax(axis=1).astype(np.float64) if i in codes else part[:, 0])
        start += part.shape[1]
    return np.column_stack(columns)
