"""Rows of a table as batches to analyse, and draws back in the table's columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.schema import Category, Step
from pyro_hcvae.errors import InputError

Floats = NDArray[np.float64]


def encoded(codec: RecipeCodec, rows: pd.DataFrame) -> tuple[RecipeBatch, bool]:
    """Rows as a batch ``(1, B)``, and whether they hold recipes.

    Raises:
        InputError: If some of a recipe is given and some is not, or if there is no row.
    """
    if not len(rows):
        raise InputError("there is no recipe to analyse")
    batch = codec.layout.unpack(codec.encode(rows)[None])
    known = {
        block.name: _whole(batch.known[next(iter(sites.of_block(block)))])[0].numpy() for block in codec.schema.blocks
    }
    given = np.stack(list(known.values()))
    cells = rows.reindex(columns=list(codec.schema.recipe_columns)).notna().to_numpy()
    if not cells.any():
        return batch, False
    if given.all():
        return batch, True
    block, row = (int(i) for i in np.argwhere(~given)[0])
    raise InputError(
        f"row {rows.index[row]} leaves {list(known)[block]!r} open: only whole recipes can be analysed, or conditions "
        "alone"
    )


def _whole(known: torch.Tensor) -> torch.Tensor:
    return known.all(dim=-1) if known.dim() > 2 else known


def decoded(codec: RecipeCodec, values: Mapping[str, torch.Tensor], batch: RecipeBatch) -> dict[str, Floats]:
    """Draws ``(..., M, B, event)`` by site -> numbers by recipe column in the table's units, shape ``(..., M, B)``.

    Components that are absent are 0; settings that a recipe does not have are NaN. Codes are left out: they are no numbers.
    """
    lead = values[next(iter(sites.observed(codec.schema)))].shape[:-1]
    conditions = batch.conditions.expand(*lead, *batch.conditions.shape[2:])
    frame = codec.decode(codec.layout.pack(values, conditions).flatten(0, len(lead) - 1))
    out: dict[str, Floats] = {}
    for block in codec.schema.blocks:
        if isinstance(block, Category):
            continue
        drawn = frame[list(block.names())].to_numpy(np.float64).reshape(*lead, -1)
        if isinstance(block, Step):
            states = values[sites.state(block)].long().numpy()
            drawn = np.where(np.array(block.applies())[states], drawn, np.nan)
        out |= {name: drawn[..., i] for i, name in enumerate(block.names())}
    return out
