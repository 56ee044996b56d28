"""For all tests: one thread, as their matrices are too small for a second one, and no deadlines: a busy machine is no failure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
FEW = 10


@pytest.fixture(scope="module")
def small_forests() -> Iterator[None]:
    """Let judges and two-sample tests make do with few trees, where a test is about what is scored and not about how finely."""
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestClassifier

    from pyro_hcvae.evaluation import adherence, realism

    def forest(kind: type[Any], trees: int, **options: Any) -> Any:
        return kind(min(trees, FEW), **options)

    def boosting(*, max_iter: int, **options: Any) -> Any:
        return HistGradientBoostingRegressor(max_iter=min(max_iter, FEW), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(realism, "RandomForestClassifier", partial(forest, RandomForestClassifier))
        patch.setattr(adherence, "ExtraTreesRegressor", partial(forest, ExtraTreesRegressor))
        patch.setattr(adherence, "HistGradientBoostingRegressor", boosting)
        yield
