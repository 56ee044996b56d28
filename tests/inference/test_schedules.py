"""Schedules are pure functions: tables of values."""

import pytest
import torch

from pyro_hcvae.inference.schedules import BETA_FLOOR, balanced_gamma, beta, learning_rate, released


@pytest.mark.parametrize(
    ("step", "warmup", "expected"),
    [(0, 100, BETA_FLOOR), (1, 100, 0.01), (50, 100, 0.5), (100, 100, 1.0), (10**6, 100, 1.0), (0, 0, 1.0)],
)
def test_beta(step: int, warmup: int, expected: float) -> None:
    assert beta(step, warmup) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.505), (110, 0.01), (500, 0.01)])
def test_learning_rate(step: int, expected: float) -> None:
    assert learning_rate(step, 110, 1.0, warmup_steps=10) == pytest.approx(expected)


def test_balanced_gamma_follows_the_formula_for_each_member() -> None:
    rates = torch.tensor([[3.0, 1.0], [1.0, 1.0], [0.0, 1.0]], requires_grad=True)
    gamma = balanced_gamma(rates, (8, 4, 2))
    k = (rates.detach() + 0.01) / torch.tensor([[8.0], [4.0], [2.0]])
    assert torch.allclose(gamma, 3 * k / k.sum(0))
    assert torch.allclose(gamma.mean(0), torch.ones(2))
    assert not gamma.requires_grad


def test_equal_share_of_the_rate_gives_a_smaller_factor_to_a_larger_layer() -> None:
    gamma = balanced_gamma(torch.ones(3, 1), (2, 4, 8))[:, 0]
    assert gamma[0] > gamma[1] > gamma[2]


def test_released_reaches_one_with_beta() -> None:
    gamma = torch.tensor([1.5, 1.0, 0.5])
    gamma = gamma[:, None].expand(3, 3)
    now = released(gamma, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.allclose(now[:, 0], gamma[:, 0])
    assert torch.allclose(now[:, 1], torch.tensor([1.25, 1.0, 0.75]))
    assert torch.equal(now[:, 2], torch.ones(3))
