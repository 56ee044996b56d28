"""A fitted designer of the tiny laboratory, made once."""

from __future__ import annotations

import pytest

from pyro_hcvae import RecipeDesigner, TrainConfig
from tests.laboratories import SMALL, tiny_table


@pytest.fixture(scope="package")
def designer() -> RecipeDesigner:
    train = TrainConfig(members=3, steps=60, interval=20, batch_size=16, compile="never")
    table = tiny_table()
    return RecipeDesigner(table.schema, model=SMALL, train=train).fit(table)
