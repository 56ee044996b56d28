"""`RecipeCodec`: table <-> tensors, a bijection on valid recipes, fitted on training rows only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Layout
from pyro_hcvae.data.columns import matrix_of, row_chunks
from pyro_hcvae.data.schema import Amounts, Block, Category, Feed, Fractions, RecipeSchema, Step, Transform

Floats = NDArray[np.float64]
Chunks = Callable[[], Iterator[tuple[Floats, Floats]]]
"""Values ``(rows, columns)`` and weights ``(rows,)`` of some rows at a time; each call runs through all of them again."""
_SHRINKAGE = 3.0
"""Pseudo-rows of the pooled mean in a component's own mean: several components occur in one to three recipes."""


@dataclass(frozen=True)
class Scaler:
    """Invertible map of one column to a standardised scale: ``(transform(x) - loc) / scale``."""

    transform: Transform
    loc: float
    scale: float

    def encode(self, values: Floats) -> Floats:
        """Table value -> standardised value; NaN stays NaN."""
        return (_forward(values, self.transform) - self.loc) / self.scale

    def decode(self, values: Floats) -> Floats:
        """Standardised value -> table value."""
        x = values * self.scale + self.loc
        match self.transform:
            case "log":
                return np.exp(np.minimum(x, 80.0))
            case "log1p":
                return np.expm1(np.minimum(x, 80.0))
            case "linear":
                return x


def transformed(transform: Transform) -> Callable[[Floats], Floats]:
    """The scale of a column: table values -> values on which its differences count."""
    return partial(_forward, transform=transform)


def _forward(values: Floats, transform: Transform) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        match transform:
            case "log":
                return np.log(values)
            case "log1p":
                return np.log1p(values)
            case "linear":
                return values


@dataclass(frozen=True)
class RecipeCodec:
    """Maps validated rows to packed tensors and back.

    Amounts are standardised logs, shares are log ratios to the first present component in schema order (additive log
    ratios: any real vector is a valid point of the simplex), codes and states are positions, and what does not exist is NaN.

    Attributes:
        schema: Meaning of the columns.
        scalers: One for each numeric column and condition feature, by name.
    """

    schema: RecipeSchema
    scalers: Mapping[str, Scaler]

    @classmethod
    def fit(cls, schema: RecipeSchema, frame: pd.DataFrame, weights: Floats | None = None) -> RecipeCodec:
        """Fit the scales on training rows.

        Args:
            schema: Meaning of the columns.
            frame: Canonical rows (`RecipeTable.frame`) of the training split.
            weights: Weight of each row, e.g. one over the number of rows of its recipe; None: equal.
        """
        w = np.ones(len(frame)) if weights is None else weights

        def chunks(read: Callable[[pd.DataFrame], Floats]) -> Chunks:
            return lambda: ((read(frame.iloc[rows]), w[rows]) for rows in row_chunks(len(frame)))

        scalers: dict[str, Scaler] = {}
        for block in schema.blocks:
            match block:
                case Amounts() | Fractions():
                    scalers |= _pooled(block.columns, chunks(partial(_logs, block)), w)
                case Step():
                    transforms = {column.name: column.transform for column in block.columns}
                    scalers |= fit_scalers(transforms, chunks(partial(step_settings, block)))
                case Category():
                    pass
        features = chunks(partial(condition_features, schema))
        return cls(schema, scalers | fit_scalers(feature_transforms(schema), features))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the condition features, the performance last."""
        return tuple(feature_transforms(self.schema))

    @property
    def layout(self) -> Layout:
        """Where each site lies in a packed row."""
        return Layout(self.schema, len(self.feature_names))

    def encode(self, frame: pd.DataFrame) -> Tensor:
        """Encode canonical rows.

        Args:
            frame: Rows as in `RecipeTable.frame`; NaN cells are unknown. A block whose columns lack is unknown.

        Returns:
            Packed rows, shape ``(B, W)``, float32; NaN marks what is unknown or does not exist.
        """
        packed = np.empty((len(frame), self.layout.width), dtype=np.float32)
        for rows in row_chunks(len(frame)):
            np.concatenate(self._encode(frame.iloc[rows]), axis=1, out=packed[rows], casting="same_kind")
        return torch.from_numpy(packed)

    def _encode(self, frame: pd.DataFrame) -> list[Floats]:
        parts = [self.encode_conditions(frame)]
        for block in self.schema.blocks:
            if set(block.names()) <= set(frame.columns):
                parts += self._encode_block(frame, block)
            else:
                width = sum(size or 1 for size in sites.of_block(block).values())
                parts.append(np.full((len(frame), width), np.nan))
        return parts

    def encode_conditions(self, frame: pd.DataFrame) -> Floats:
        """Standardised condition features, shape ``(B, C)``."""
        raw = condition_features(self.schema, frame)
        return np.column_stack([self.scalers[n].encode(raw[:, i]) for i, n in enumerate(self.feature_names)])

    def _encode_block(self, frame: pd.DataFrame, block: Block) -> list[Floats]:
        match block:
            case Amounts() | Fractions():
                return [_presence(matrix_of(frame, block.columns)), self._scale(block.columns, _logs(block, frame))]
            case Category():
                position = {code: float(i) for i, code in enumerate(block.codes)}
                return [frame[block.column].map(lambda v: position.get(v, np.nan)).to_numpy(np.float64)[:, None]]
            case Step():
                settings = step_settings(block, frame)
                scaled = [self.scalers[c.name].encode(settings[:, i]) for i, c in enumerate(block.columns)]
                return [step_states(frame, block)[:, None], np.column_stack(scaled)]

    def _scale(self, columns: Sequence[str], logs: Floats) -> Floats:
        loc = np.array([self.scalers[c].loc for c in columns])
        scale = np.array([self.scalers[c].scale for c in columns])
        scaled: Floats = (logs - loc) / scale
        return scaled

    def decode(self, packed: Tensor, written: Callable[[Floats], Floats] | None = None) -> pd.DataFrame:
        """Decode packed rows ``(B, W)`` to the recipe columns of the table, in schema order.

        Numbers beyond a column's physical limits are set to the limit. Unknown cells decode to NaN.

        Args:
            packed: Rows.
            written: What is done to all numbers ``(B, columns)`` before they become columns, e.g. `WrittenValues.numbers`.
        """
        rows = packed.detach().cpu().to(torch.float64).numpy()
        slices = self.layout.slices
        numbers: list[Floats] = [rows[:, :0]]
        codes: dict[str, NDArray[np.object_]] = {}
        for block in self.schema.blocks:
            first, *rest = (rows[:, slices[name]] for name in sites.of_block(block))
            match block:
                case Amounts():
                    numbers.append(_amounts(first, self._unscale(block.columns, rest[0])))
                case Fractions():
                    numbers.append(block.total * _from_log_ratios(first, self._unscale(block.columns, rest[0])))
                case Category():
                    known = np.array([*block.codes, np.nan], dtype=object)
                    position = np.where(np.isnan(first[:, 0]), len(block.codes), first[:, 0]).astype(np.int64)
                    codes[block.column] = known[position]
                case Step():
                    numbers.append(self._decode_step(block, first[:, 0], rest[0]))
        # All numbers in one matrix, in memory column by column as pandas keeps it: no copy of each column is made.
        matrix = np.concatenate([part.T for part in numbers]).T
        frame = pd.DataFrame(
            matrix if written is None else written(matrix), columns=self.number_columns.copy(), copy=False
        )
        for name, values in codes.items():
            frame.insert(self.schema.recipe_columns.index(name), name, values)
        return frame

    @cached_property
    def number_columns(self) -> pd.Index:
        """Recipe columns that hold numbers; making an index of text takes as long as decoding some hundred rows."""
        return pd.Index(
            [name for block in self.schema.blocks if not isinstance(block, Category) for name in block.names()]
        )

    def decode_feature(self, name: str, values: Floats) -> Floats:
        """Standardised condition feature -> its own units."""
        return self.scalers[name].decode(values)

    def _unscale(self, columns: Sequence[str], values: Floats) -> Floats:
        loc = np.array([self.scalers[c].loc for c in columns])
        scale = np.array([self.scalers[c].scale for c in columns])
        raw: Floats = values * scale + loc
        return raw

    def _decode_step(self, block: Step, state: Floats, scaled: Floats) -> Floats:
        table = np.array([*block.applies(), (True,) * len(block.columns)])  # last: state unknown
        applies = table[np.where(np.isnan(state), len(block.states), state).astype(np.int64)]
        out = np.empty_like(scaled)
        for i, column in enumerate(block.columns):
            values = np.clip(self.scalers[column.name].decode(scaled[:, i]), *column.bounds)
            out[:, i] = np.where(applies[:, i], values, 0.0)
        if block.optional:
            out[state == 0] = block.absent
        return out

    def to_json(self) -> str:
        """Text form of the fitted scales; `from_json` restores them exactly."""
        return json.dumps({name: asdict(scaler) for name, scaler in self.scalers.items()}, indent=1)

    @classmethod
    def from_json(cls, schema: RecipeSchema, text: str) -> RecipeCodec:
        """Restore a codec from `to_json`."""
        return cls(schema, {name: Scaler(**fields) for name, fields in json.loads(text).items()})


def feature_transforms(schema: RecipeSchema) -> dict[str, Transform]:
    """Names and transforms of the condition features; the performance is the last."""
    features: dict[str, Transform] = {c.name: c.transform for c in schema.conditions}
    if schema.feed is not None:
        features |= dict.fromkeys(schema.feed.ratios, "log")
        if schema.feed.diluents:
            features[schema.feed.diluent] = "linear"
    return features | {schema.performance.name: schema.performance.transform}


def condition_features(schema: RecipeSchema, frame: pd.DataFrame) -> Floats:
    """Condition features in their own units, shape ``(B, C)``; the feed becomes ratios and its diluted share."""
    columns = [frame[c.name].to_numpy(np.float64) for c in schema.conditions]
    if schema.feed is not None:
        columns += list(feed_features(schema.feed, frame).T)
    return np.column_stack([*columns, frame[schema.performance.name].to_numpy(np.float64)])


def feed_features(feed: Feed, frame: pd.DataFrame) -> Floats:
    """Ratios of the reactants to the first, and the share of the diluents in the feed (in the feed's unit)."""
    reactants = matrix_of(frame, feed.reactants)
    parts = [reactants[:, i] / reactants[:, 0] for i in range(1, len(feed.reactants))]
    if feed.diluents:
        diluents = matrix_of(frame, feed.diluents).sum(axis=1)
        parts.append(feed.total * diluents / (diluents + reactants.sum(axis=1)))
    return np.column_stack(parts)


def step_states(frame: pd.DataFrame, block: Step) -> Floats:
    """Position of each row's state in `Step.states`, shape ``(B,)``; NaN where it cannot be told, or nothing is of the step."""
    values = matrix_of(frame, block.names())
    state = np.where(np.isnan(values).all(axis=1), np.nan, 0.0)
    for position in block.zeroable:
        zero = np.where(np.isnan(values[:, position]), np.nan, values[:, position] == 0)
        state = 2 * state + zero
    if block.optional:
        absent = values[:, 0] == block.absent
        state = np.where(absent, 0.0, 1.0 + state)
        state[np.isnan(values[:, 0])] = np.nan
    return state


def step_settings(block: Step, frame: pd.DataFrame) -> Floats:
    """Settings of a step, shape ``(B, columns)``; NaN where a row's state has none, or a 0 in its place."""
    states = step_states(frame, block)
    table = np.array([*block.applies(), (True,) * len(block.columns)])
    applies = table[np.where(np.isnan(states), len(block.states), states).astype(np.int64)]
    values = matrix_of(frame, block.names())
    for position in block.zeroable:
        applies[:, position] &= values[:, position] != 0
    return np.where(applies, values, np.nan)


def _presence(values: Floats) -> Floats:
    return np.where(np.isnan(values), np.nan, values > 0)


def _amounts(presence: Floats, logs: Floats) -> Floats:
    amounts = np.where(np.isnan(presence), np.nan, 0.0)
    present = presence > 0  # few are, and exp takes its time
    amounts[present] = np.exp(np.minimum(logs[present], 80.0))
    return amounts


def reference_component(presence: Floats) -> NDArray[np.int64]:
    """First present component of each row, shape ``(B,)``; 0 where there is none."""
    first: NDArray[np.int64] = np.argmax(presence > 0, axis=1)
    return first


def _logs(block: Amounts | Fractions, frame: pd.DataFrame) -> Floats:
    """Logs of the present amounts, or log ratios of the shares, shape ``(B, components)``; NaN elsewhere."""
    values = matrix_of(frame, block.columns)
    return _log_ratios(values) if isinstance(block, Fractions) else np.log(np.where(values > 0, values, np.nan))


def _log_ratios(values: Floats) -> Floats:
    """Log ratios to the first present component; NaN at it, at absent ones, and in rows with an unknown cell."""
    rows = np.arange(len(values))
    first = reference_component(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(values / values[rows, first][:, None])
    ratios[~(values > 0)] = np.nan
    ratios[rows, first] = np.nan
    ratios[np.isnan(values).any(axis=1)] = np.nan
    return ratios


def _from_log_ratios(presence: Floats, ratios: Floats) -> Floats:
    shares = np.zeros_like(ratios)
    # Row after row what is present, which is little: its log ratios, 0 at the first of each row.
    rows, columns = np.nonzero(presence > 0)
    if len(rows):
        logits = ratios[rows, columns]
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        logits[starts] = 0.0
        count = np.diff(starts, append=len(rows))
        parts = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts), count))
        # With one ratio unknown, the sum is, and no share of the row can be told.
        shares[rows, columns] = parts / np.repeat(np.add.reduceat(parts, starts), count)
    unknown = np.isnan(presence)
    if unknown.any():  # nor can it with a component that may be present
        shares[unknown.any(axis=1, keepdims=True) & (presence > 0)] = np.nan
        shares[unknown] = np.nan
    return shares


def fit_scalers(transforms: Mapping[str, Transform], chunks: Chunks) -> dict[str, Scaler]:
    """Weighted mean and standard deviation of the finite values of each column; the unit map if there are none.

    Args:
        transforms: Transform of each column, by name.
        chunks: Their values.
    """

    def finite() -> Iterator[tuple[int, Floats, Floats]]:
        for values, weights in chunks():
            for i, transform in enumerate(transforms.values()):
                keep = np.isfinite(values[:, i])
                yield i, _forward(values[keep, i], transform), weights[keep]

    mass, loc, variance = np.zeros((3, len(transforms)))
    for i, _, w in finite():
        mass[i] += w.sum()
    for i, x, w in finite():
        loc[i] += (w / mass[i]) @ x
    for i, x, w in finite():
        variance[i] += (w / mass[i]) @ (x - loc[i]) ** 2
    scale = np.where(np.sqrt(variance) > 1e-6 * np.maximum(1.0, np.abs(loc)), np.sqrt(variance), 1.0)
    return {name: Scaler(t, float(loc[i]), float(scale[i])) for i, (name, t) in enumerate(transforms.items())}


def _pooled(columns: Sequence[str], chunks: Chunks, weights: Floats) -> dict[str, Scaler]:
    """Scalers of one block: own means shrunk to the pooled one, one common scale.

    ``loc`` and ``scale`` act on the logarithm, which ``chunks`` holds: the stored transform is only a record.
    """

    def known() -> Iterator[tuple[Floats, Floats]]:
        for logs, part in chunks():
            finite = np.isfinite(logs)
            yield np.where(finite, logs, 0.0), np.where(finite, part[:, None], 0.0)

    mass, sums, total = np.zeros(len(columns)), np.zeros(len(columns)), 0.0
    for x, w in known():
        mass += w.sum(axis=0)
        sums += (w * x).sum(axis=0)
        total += (w * x).sum()
    if mass.sum() == 0:
        return {name: Scaler("log", 0.0, 1.0) for name in columns}
    pooled = total / mass.sum()
    # Weights are rescaled so that the mean row counts as one in the comparison with the pseudo-rows.
    unit = weights.mean()
    means = (sums / unit + _SHRINKAGE * pooled) / (mass / unit + _SHRINKAGE)
    variance = sum((w * (x - means) ** 2).sum() for x, w in known()) / mass.sum()
    scale = float(np.sqrt(variance)) if variance > 1e-12 else 1.0
    return {name: Scaler("log", float(m), scale) for name, m in zip(columns, means, strict=True)}
