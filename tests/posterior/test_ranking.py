"""Batches are good and varied: maximal marginal relevance with answers that can be worked out by hand."""

from __future__ import annotations

import numpy as np

from pyro_hcvae.posterior.ranking import varied


def test_without_variety_utility_alone_decides() -> None:
    utility = np.array([0.2, 0.9, 0.5, 0.8])
    assert varied(utility, np.zeros((4, 2)), 3, variety=0.0, length=1.0).tolist() == [1, 3, 2]


def test_a_twin_waits_until_what_differs_has_been_chosen() -> None:
    # The second is a twin of the first: 0.5 * 0.9 - 0.5 * 1 = -0.05, against 0.5 * 0.4 - 0.5 * exp(-10) = 0.2 far away.
    points = np.array([[0.0], [0.0], [10.0]])
    assert varied(np.array([1.0, 0.9, 0.4]), points, 3, variety=0.5, length=1.0).tolist() == [0, 2, 1]


def test_likeness_fades_with_the_length() -> None:
    points, utility = np.array([[0.0], [1.0], [3.0]]), np.array([1.0, 0.9, 0.6])
    # 0.5 * 0.9 - 0.5 * exp(-1 / 0.1) = 0.45 beats 0.3: at a short length neighbours are not alike.
    assert varied(utility, points, 2, variety=0.5, length=0.1).tolist() == [0, 1]
    # 0.5 * 0.9 - 0.5 * exp(-1 / 10) = -0.002 loses against 0.5 * 0.6 - 0.5 * exp(-3 / 3) at neither: 0.3 - 0.37 = -0.07.
    assert varied(utility, points, 2, variety=0.5, length=10.0).tolist() == [0, 1]
    # 0.45 - 0.5 * exp(-1 / 2) = 0.147 against 0.3 - 0.5 * exp(-3 / 2) = 0.188.
    assert varied(utility, points, 2, variety=0.5, length=2.0).tolist() == [0, 2]


def test_fewer_candidates_than_places_are_all_taken_once() -> None:
    assert sorted(varied(np.ones(3), np.zeros((3, 1)), 10, variety=0.9, length=1.0).tolist()) == [0, 1, 2]
