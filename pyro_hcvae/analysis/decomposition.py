r"""Splitting the spread of nested draws: S draws of the latents, R recipes for each, by each of M members.

For a number :math:`x`, the law of total variance:

.. math::

    \operatorname{Var}[x] =
        \underbrace{E_m E_{z|m} \operatorname{Var}[x \mid z, m]}_{\text{aleatoric}}
      + \underbrace{E_m \operatorname{Var}_{z|m} E[x \mid z, m]}_{\text{latent}}
      + \underbrace{\operatorname{Var}_m E[x \mid m]}_{\text{epistemic}}

For a structure :math:`s` (whether a component is present, which code, which state), the chain rule of the entropy, in nats:

.. math::

    H\big(\bar p\big) =
        \underbrace{E_m E_{z|m} H(p_{zm})}_{\text{aleatoric}}
      + \underbrace{E_m \big[H(\bar p_m) - E_{z|m} H(p_{zm})\big]}_{\text{latent: } I(s; z \mid m)}
      + \underbrace{H(\bar p) - E_m H(\bar p_m)}_{\text{epistemic: } I(s; m)}

with :math:`\bar p_m = E_{z|m}\, p_{zm}` and :math:`\bar p = E_m\, \bar p_m`. *Aleatoric*: what recipes with the same latents
differ by. *Latent*: what is not known of the latents. *Epistemic*: what members, which began elsewhere and stopped by other
rows, disagree about; it falls when more is measured, the other two need not.

References:
    Depeweg et al. (2018), Decomposition of Uncertainty in Bayesian Deep Learning, arXiv:1710.07283
    Searle, Casella & McCulloch (1992), Variance Components, chapter 3
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

Floats = NDArray[np.float64]
PARTS = ("aleatoric", "latent", "epistemic")
"""What an uncertainty is split into, in this order."""


def split_variance(draws: Floats) -> dict[str, Floats]:
    r"""Parts of the variance, by the nested analysis of variance; its expectations are solved for the parts.

    With sums of squares within latents, between latents and between members, of :math:`n_{ms}` draws that exist, and
    :math:`a = \sum_m \sum_s n_{ms}^2 / n_m`, :math:`b = \sum_{ms} n_{ms}^2 / N`, :math:`c = \sum_m n_m^2 / N`,

    .. math::

        E[SS_R] &= (N - \#z)\, v_R \\
        E[SS_S] &= (\#z - M)\, v_R + (N - a)\, v_S \\
        E[SS_M] &= (M - 1)\, v_R + (a - b)\, v_S + (N - c)\, v_M

    where every draw exists these are the usual :math:`v_S = \overline{\operatorname{var}_s \operatorname{mean}_r} - v_R / R` and
    :math:`v_M = \operatorname{var}_m \operatorname{mean}_{sr} - \overline{\operatorname{var}_s \operatorname{mean}_r} / S`.

    Args:
        draws: Shape ``(S, R, M, ...)`` with ``S`` and ``R`` at least 2; NaN where a number does not exist (a step that was not
            done in this draw): the parts are those among the draws that have it.

    Returns:
        ``aleatoric``, ``latent``, ``epistemic`` (NaN with one member), each at least 0, and ``variance``, their sum; of shape
        ``(...)``. All NaN where the draws that exist are too few to tell.
    """
    exists = np.isfinite(draws)
    values = np.where(exists, draws, 0.0)
    n_zm, n_m, n = exists.sum(1), exists.sum((0, 1)), exists.sum((0, 1, 2))
    sum_zm = values.sum(1)
    mean_zm = _ratio(sum_zm, n_zm)
    mean_m = _ratio(sum_zm.sum(0), n_m)
    mean = _ratio(sum_zm.sum((0, 1)), n)
    groups, members = (n_zm > 0).sum((0, 1)), (n_m > 0).sum(0)
    within = np.where(exists, (draws - mean_zm[:, None]) ** 2, 0.0).sum((0, 1, 2))
    between_z = (n_zm * (mean_zm - mean_m) ** 2).sum((0, 1))
    between_m = (n_m * (mean_m - mean) ** 2).sum(0)
    a = _ratio((n_zm**2).sum(0), n_m).sum(0)
    b, c = _ratio((n_zm**2).sum((0, 1)), n), _ratio((n_m**2).sum(0), n)

    aleatoric = _ratio(within, n - groups)
    # Where all draws of a member are one latent's (or nothing is left), the parts cannot be told apart.
    latent = np.maximum(_ratio(between_z - (groups - members) * aleatoric, n - a), 0.0)
    raw_latent = _ratio(between_z - (groups - members) * aleatoric, n - a)
    epistemic = _ratio(between_m - (members - 1) * aleatoric - (a - b) * raw_latent, n - c)
    told = (n > groups) & (groups > members) & (members > 0)
    if draws.shape[2] == 1:
        epistemic = np.full_like(aleatoric, np.nan)
    else:
        told &= members > 1
        epistemic = np.maximum(epistemic, 0.0)
    parts = {name: np.where(told, x, np.nan) for name, x in zip(PARTS, (aleatoric, latent, epistemic), strict=True)}
    return parts | {"variance": parts["aleatoric"] + parts["latent"] + np.nan_to_num(parts["epistemic"])}


def split_entropy(probabilities: Floats) -> dict[str, Floats]:
    r"""Parts of the entropy of an event with ``K`` outcomes, in nats.

    The means over few draws make the latent and the epistemic part uncertain by about :math:`(K - 1) / 2S` nats.

    Args:
        probabilities: Of each outcome given the latents, shape ``(S, M, ..., K)``; they sum to 1.

    Returns:
        ``aleatoric``, ``latent``, ``epistemic`` (NaN with one member), each at least 0, and ``entropy``, their sum; of shape
        ``(...)``.
    """
    each = entr(probabilities).sum(-1).mean((0, 1))
    of_members = probabilities.mean(0)
    member = entr(of_members).sum(-1).mean(0)
    whole = entr(of_members.mean(0)).sum(-1)
    alone = probabilities.shape[1] == 1
    epistemic = np.full_like(whole, np.nan) if alone else np.maximum(whole - member, 0.0)
    return {"aleatoric": each, "latent": np.maximum(member - each, 0.0), "epistemic": epistemic, "entropy": whole}


def _ratio(a: NDArray[np.generic], b: NDArray[np.generic]) -> Floats:
    """``a / b``, 0 where there is nothing to divide by."""
    top, bottom = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom > 0)
