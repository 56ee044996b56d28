"""Parts of variances and entropies whose true values are known."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae.analysis.decomposition import PARTS, split_entropy, split_variance


def nested(latents: int, repeats: int, members: int, tables: int, sd: tuple[float, float, float]) -> np.ndarray:
    """Draws ``(S, R, M, tables)`` with standard deviations of noise, latents and members."""
    rng = np.random.default_rng(0)
    noise, latent, member = sd
    effect = rng.normal(0, member, (1, 1, members, tables)) + rng.normal(0, latent, (latents, 1, members, tables))
    return effect + rng.normal(0, noise, (latents, repeats, members, tables))


@pytest.mark.parametrize("sd", [(3.0, 1.0, 2.0), (1.0, 2.0, 0.5), (1.0, 0.0, 0.0)])
def test_each_part_is_estimated_without_bias(sd: tuple[float, float, float]) -> None:
    # Unclipped on average: many small tables, so that what is cut off at zero shows only where a part is zero.
    parts = split_variance(nested(20, 5, 8, 1500, sd))
    for name, true in zip(PARTS, sd, strict=True):
        bias = 0.05 if true == 0 else 0.0
        assert parts[name].mean() == pytest.approx(true**2, rel=0.06, abs=0.02 + bias), name
    np.testing.assert_allclose(sum(parts[name] for name in PARTS), parts["variance"])


def test_balanced_draws_give_the_textbook_estimates() -> None:
    draws = nested(6, 4, 5, 3, (1.0, 1.0, 1.0))
    within = draws.var(axis=1, ddof=1).mean(axis=(0, 1))
    between = draws.mean(axis=1).var(axis=0, ddof=1).mean(axis=0)
    members = draws.mean(axis=(0, 1)).var(axis=0, ddof=1)
    parts = split_variance(draws)
    np.testing.assert_allclose(parts["aleatoric"], within)
    np.testing.assert_allclose(parts["latent"], np.maximum(between - within / 4, 0))
    np.testing.assert_allclose(parts["epistemic"], np.maximum(members - between / 6, 0))


def test_numbers_that_some_draws_lack_are_split_among_those_that_have_them() -> None:
    draws = nested(20, 5, 8, 1500, (3.0, 2.0, 1.5))
    missing = np.random.default_rng(1).random(draws.shape) < np.linspace(0.2, 0.8, 8)[:, None]
    parts = split_variance(np.where(missing, np.nan, draws))
    for name, true in zip(PARTS, (9.0, 4.0, 2.25), strict=True):
        assert parts[name].mean() == pytest.approx(true, rel=0.06), name


def test_too_little_to_tell_is_not_guessed() -> None:
    draws = nested(6, 4, 3, 1, (1.0, 1.0, 1.0))
    alone = split_variance(draws[:, :, :1])
    assert np.isnan(alone["epistemic"]).all()
    assert np.isfinite(alone["variance"]).all()
    nowhere = np.full_like(draws, np.nan)
    assert all(np.isnan(x).all() for x in split_variance(nowhere).values())
    one_latent = nowhere.copy()
    one_latent[0] = draws[0]  # no second draw of the latents: latent and member cannot be told apart
    assert np.isnan(split_variance(one_latent)["variance"]).all()
    one_member = nowhere.copy()
    one_member[:, :, 0] = draws[:, :, 0]
    assert np.isnan(split_variance(one_member)["epistemic"]).all()
    constant = split_variance(np.full((4, 3, 2, 1), 5.0))
    assert all((x == 0).all() for x in constant.values())


def test_mutual_information_by_hand() -> None:
    # Certain given latents and member; the latents of each member decide: one bit of log 2 is the latents'.
    latents = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    parts = split_entropy(latents)
    assert parts["latent"] == pytest.approx(np.log(2))
    assert parts["aleatoric"] == pytest.approx(0)
    assert parts["epistemic"] == pytest.approx(0)
    # Certain members that contradict each other: it is theirs.
    members = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert split_entropy(members)["epistemic"] == pytest.approx(np.log(2))
    # A fair die whatever the latents and the member: nobody knows better.
    die = np.full((3, 2, 6), 1 / 6)
    assert split_entropy(die)["aleatoric"] == pytest.approx(np.log(6))
    assert split_entropy(die)["entropy"] == pytest.approx(np.log(6))
    # Two members of 0.2 and 0.4: H(0.3) - (H(0.2) + H(0.4)) / 2.
    p = np.array([[[0.8, 0.2], [0.6, 0.4]]])

    def h(x: float) -> float:
        return -x * np.log(x) - (1 - x) * np.log(1 - x)

    assert split_entropy(p)["epistemic"] == pytest.approx(h(0.3) - (h(0.2) + h(0.4)) / 2)
    assert np.isnan(split_entropy(p[:, :1])["epistemic"])


def test_parts_of_the_entropy_sum_to_it() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=(7, 3, 5))
    parts = split_entropy(p)
    assert parts["entropy"].shape == (5,)
    np.testing.assert_allclose(sum(parts[name] for name in PARTS), parts["entropy"])
    assert all((parts[name] >= 0).all() for name in PARTS)
