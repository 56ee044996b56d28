"""For all tests: one thread, as their matrices are too small for a second one, and no deadlines: a busy machine is no failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
FEW = 10


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests first: modules are dealt out whole, and a long one that comes last runs beside nothing."""
    slow = {item.nodeid.partition("::")[0] for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in slow)


@contextmanager
def set_aside(values: dict[tuple[Any, str], Any]) -> Iterator[dict[tuple[Any, str], Any]]:
    """Put other values in place of what stands there, by owner and name; yields what stood there, and restores it."""
    before = {place: getattr(*place) for place in values}
    with pytest.MonkeyPatch.context() as patch:
        for place, value in values.items():
            patch.setattr(*place, value)
        yield before


@pytest.fixture(scope="session", autouse=True)
def quick_predictors() -> Iterator[dict[tuple[Any, str], Any]]:
    """Let predictors of the performance make do with few trees and steps: most tests are about what is done with what they say.

    Yields what was there before, by module and name.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    from pyro_hcvae.posterior import gaussian_process, learners, performance

    def boosting(*, max_iter: int, **options: Any) -> Any:
        return HistGradientBoostingRegressor(max_iter=min(max_iter, 3 * FEW), **options)

    quick = {
        (learners, "_TREES"): FEW,
        (learners, "HistGradientBoostingRegressor"): boosting,
        (gaussian_process, "_STEPS"): FEW,
        (performance, "_SCALE_TREES"): FEW,
    }
    with set_aside(quick) as before:
        yield before


@pytest.fixture(scope="session", autouse=True)
def quick_proposals() -> Iterator[dict[tuple[Any, str], Any]]:
    """Let searches be short where a test does not say how long, and intervals rough: most are about what is done with them.

    Yields what was there before, by owner and name.
    """
    from pyro_hcvae.posterior import intervals
    from pyro_hcvae.posterior.search import SearchConfig

    usual = SearchConfig()
    quick: dict[tuple[Any, str], Any] = {
        (SearchConfig.__init__, "__defaults__"): (usual.proposals // FEW, usual.chains // FEW, FEW, usual.trust),
        (intervals, "_DRAWS"): 2 * FEW,
    }
    with set_aside(quick) as before:
        yield before


@pytest.fixture
def full_proposals(quick_proposals: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Searches and intervals as users have them."""
    with set_aside(quick_proposals):
        yield


@pytest.fixture(scope="module")
def full_predictors(quick_predictors: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Predictors as users have them, for tests of how good they are."""
    with set_aside(quick_predictors):
        yield


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
