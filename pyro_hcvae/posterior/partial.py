"""Completion of partial recipes, from rows of a table to rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import join_rows, with_columns
from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.schema import Category, Fractions, RecipeSchema, Step
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.data.written import WrittenValues
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.completion import complete_recipe
from pyro_hcvae.posterior.conditional import Given
from pyro_hcvae.posterior.shares import OpenShares


@dataclass(frozen=True)
class Completion:
    """Completions of one row.

    Attributes:
        row: Row of the partial table.
        frame: Recipe, condition and performance columns, then what else the row holds (its number, its name); what was given is
            as given. Equal completions stand as often as drawn.
        effective: Effective sample size of the importance weights.
        proposed: Number of weighted draws.
    """

    row: int
    frame: pd.DataFrame
    effective: float
    proposed: int


def complete_rows(
    model: HierarchicalCVAE,
    codec: RecipeCodec,
    partial: RecipeTable,
    n: int,
    *,
    proposals: int,
    seed: int,
    written: WrittenValues | None,
) -> Iterator[Completion]:
    """Complete each row. Arguments as for `RecipeDesigner.complete`; without ``written`` open cells stay as drawn.

    Raises:
        InputError: If a row cannot be completed; names the row and what is in conflict.
    """
    if n < 1:
        raise InputError(f"the number of completions must be at least 1, got {n}")
    schema, layout = codec.schema, codec.layout
    frame = partial.frame.reindex(columns=list(schema.columns))  # a component that was passed over is open
    named = None if partial.beside is None else partial.beside.drop(columns=list(schema.columns), errors="ignore")
    for block in schema.blocks:
        if isinstance(block, Fractions):
            close_shares(frame, block, partial.report.source)
    for position, row in enumerate(frame.index):
        given = frame.iloc[[position]]

        def accept(rows: Tensor, given: pd.DataFrame = given) -> Tensor:
            drawn = codec.decode(rows)
            agree = _agrees(drawn, given, schema)
            agree[agree] = is_valid(keep_given(drawn[agree], given, schema), schema)
            return torch.from_numpy(agree).to(rows.device)

        out = complete_recipe(
            model, given_part(codec, given), layout.pack, accept, draws=n, proposals=proposals, seed=seed + position
        )
        if not len(out.packed):
            raise InputError(
                f"{partial.report.source}: row {row} cannot be completed: none of {out.proposed} draws agrees with the cells "
                "that it gives. Leave more cells open, or check that they go together"
            )
        drawn = codec.decode(out.packed)
        filled = keep_given(drawn, given, schema)
        if written is not None:
            filled = _settled([keep_given(written(drawn), given, schema), filled], given, schema)
        beside = given[[*schema.condition_columns, schema.performance.name]]
        if named is not None:
            beside = pd.concat([beside, named.iloc[[position]]], axis=1)
        beside = beside.iloc[np.zeros(n, dtype=int)].reset_index(drop=True)
        yield Completion(int(row), pd.concat([filled, beside], axis=1), out.effective, out.proposed)


def given_part(codec: RecipeCodec, row: pd.DataFrame) -> Given:
    """What one row gives, shape ``(1, 1)``: NaN cells are open, and so are columns that lack."""
    row = row.reindex(columns=list(codec.schema.columns))
    return Given(codec.layout.unpack(codec.encode(row)[None]), _possible(row, codec.schema), _open_shares(row, codec))


def _settled(forms: Sequence[pd.DataFrame], given: pd.DataFrame, schema: RecipeSchema) -> pd.DataFrame:
    """Each recipe in the first of its forms that is valid with its open cells on the grid; else in the last form as it is."""
    keep = [name for name in schema.recipe_columns if not pd.isna(given[name].iloc[0])]
    out = forms[-1]
    for form in reversed(forms):
        rounded = round_to_grid(form, schema, keep)
        good = is_valid(rounded, schema)
        out = join_rows(good, rounded[good], out[~good])
    return out


def close_shares(frame: pd.DataFrame, block: Fractions, source: str, *, tolerance: float | None = None) -> None:
    """Set open shares to 0 where the given ones are the whole already, up to a relative tolerance (that of the block)."""
    tolerance = block.tolerance if tolerance is None else tolerance
    columns = list(block.columns)
    values = frame[columns].to_numpy(np.float64).copy()
    given = np.nansum(values, axis=1)
    is_open = np.isnan(values).any(axis=1)
    if (over := is_open & (given > block.total * (1 + tolerance))).any():
        row = frame.index[int(np.argmax(over))]
        raise InputError(f"{source}: row {row}: given shares of {block.name!r} already exceed {block.total:g}")
    whole = is_open & (given >= block.total * (1 - tolerance))
    values[whole[:, None] & np.isnan(values)] = 0.0
    values[whole] *= (block.total / values[whole].sum(axis=1))[:, None]
    frame[columns] = values


def _possible(given: pd.DataFrame, schema: RecipeSchema) -> dict[str, Tensor]:
    """Positions of each code and state site that agree with the given cells, shape ``(1, 1, positions)``."""
    out: dict[str, Tensor] = {}
    for block in schema.blocks:
        match block:
            case Category():
                value = given[block.column].iloc[0]
                fits = [pd.isna(value) or code == value for code in block.codes]
            case Step():
                values = given[list(block.names())].to_numpy(np.float64)[0]
                fits = [_state_fits(values, pattern, block, i) for i, pattern in enumerate(block.applies())]
            case _:
                continue
        out[next(iter(sites.of_block(block)))] = torch.tensor(fits)[None, None]
    return out


def _open_shares(given: pd.DataFrame, codec: RecipeCodec) -> dict[str, OpenShares]:
    """Wholes of which the row gives some shares above 0, and leaves others open, by the site of their log ratios."""
    out: dict[str, OpenShares] = {}
    for block in codec.schema.blocks:
        if isinstance(block, Fractions):
            parts = given[list(block.columns)].to_numpy(np.float64)[0] / block.total
            if np.isnan(parts).any() and np.nansum(parts) > 0:
                scalers = [codec.scalers[name] for name in block.columns]
                out[sites.ratio(block)] = OpenShares(
                    presence=sites.presence(block),
                    given=torch.tensor(np.nan_to_num(parts), dtype=torch.float32),
                    known=torch.tensor(~np.isnan(parts)),
                    loc=torch.tensor([scaler.loc for scaler in scalers]),
                    scale=torch.tensor([scaler.scale for scaler in scalers]),
                )
    return out


def _state_fits(values: NDArray[np.float64], pattern: tuple[bool, ...], block: Step, state: int) -> bool:
    if block.optional and state == 0:
        return bool((np.isnan(values) | (values == block.absent)).all())
    for i, (value, number) in enumerate(zip(values, pattern, strict=True)):
        if np.isnan(value):
            continue
        if block.optional and i == 0 and value == block.absent:
            return False
        if block.columns[i].zero_means is not None and (value != 0) != number:
            return False
    return True


def _agrees(drawn: pd.DataFrame, given: pd.DataFrame, schema: RecipeSchema) -> NDArray[np.bool_]:
    """Whether open shares can take up what the given ones leave; everything else agrees by construction."""
    agree = np.ones(len(drawn), dtype=bool)
    for block in schema.blocks:
        if isinstance(block, Fractions):
            values = given[list(block.columns)].to_numpy(np.float64)[0]
            unknown = np.isnan(values)
            if unknown.any() and np.nansum(values) > 0:
                agree &= (drawn[list(block.columns)].to_numpy(np.float64)[:, unknown] > 0).any(axis=1)
    return agree


def keep_given(drawn: pd.DataFrame, given: pd.DataFrame, schema: RecipeSchema) -> pd.DataFrame:
    """Put the given cells in place exactly; open shares take up what the given ones leave, in their drawn proportions."""
    new: dict[str, NDArray[Any]] = {}
    cells = given.iloc[0].to_dict()
    for block in schema.blocks:
        if isinstance(block, Fractions):
            columns = list(block.columns)
            values = np.array([cells[name] for name in columns], dtype=np.float64)
            unknown = np.isnan(values)
            if unknown.any() and np.nansum(values) > 0:
                shares = drawn[columns].to_numpy(np.float64).copy()
                rest = block.total - np.nansum(values)
                drawn_rest = shares[:, unknown].sum(axis=1)
                # Where no open share was drawn there is nothing to take up the rest: the sum stays wrong, the row is no recipe.
                shares[:, unknown] *= (rest / np.where(drawn_rest > 0, drawn_rest, 1.0))[:, None]
                new |= dict(zip(columns, shares.T, strict=True))
    for name in schema.recipe_columns:
        if not pd.isna(cells[name]):
            new[name] = np.full(len(drawn), cells[name])
    return with_columns(drawn, new)
