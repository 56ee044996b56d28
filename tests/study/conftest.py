"""A designer of the tiny laboratory, fitted once."""

from __future__ import annotations

import pytest

from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.inference.config import TrainConfig
from tests.laboratories import SMALL, tiny_table


@pytest.fixture(scope="session")
def tiny_designer() -> RecipeDesigner:
    """Two members, hardly trained."""
    train = TrainConfig(members=2, steps=60, batch_size=16, compile="never")
    return RecipeDesigner("drm", model=SMALL, train=train).fit(tiny_table(), device="cpu")
