"""Schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETA_FLOOR = 1e-3
"""Smallest beta: ``poutine.scale`` refuses 0."""


def beta(step: int, warmup_steps: int) -> float:
    """KL annealing factor, rising linearly from `BETA_FLOOR` to 1.

    Example:
        >>> [beta(step, 100) for step in (0, 50, 100, 1000)]
        [0.001, 0.5, 1.0, 1.0]
    """
    return 1.0 if step >= warmup_steps else max(step / warmup_steps, BETA_FLOOR)


def learning_rate(step: int, steps: int, peak: float, *, warmup_steps: int = 0, final: float = 0.01) -> float:
    """Cosine decay from ``peak`` to ``final * peak`` after a linear warm-up.

    Example:
        >>> [round(learning_rate(step, 100, 1.0), 3) for step in (0, 50, 100)]
        [1.0, 0.505, 0.01]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def balanced_gamma(rates: Tensor, dims: Sequence[int] | Tensor) -> Tensor:
    r"""NVAE's data-balanced layer factors.

    .. math:: \gamma_l = L \, \frac{k_l / \alpha_l}{\sum_j k_j / \alpha_j}, \qquad k_l = |KL_l| + 0.01

    A layer with a small KL gets a small factor, which keeps it from collapsing. :math:`\alpha_l` is the layer's size, the
    tabular analogue of the number of groups at a scale.

    Args:
        rates: Mean KL of each layer, shape ``(L, M)``, in nats.
        dims: Latent size of each layer.

    Returns:
        Factors, shape ``(L, M)``, mean 1 over the layers; no gradient flows through them.

    References:
        Vahdat & Kautz (2020), NVAE, arXiv:2007.03898; NVlabs/NVAE, utils.py.
    """
    share = (rates.detach().abs() + 0.01) / torch.as_tensor(dims, dtype=rates.dtype, device=rates.device)[:, None]
    return len(dims) * share / share.sum(dim=0)


def released(gamma: Tensor, progress: Tensor | float) -> Tensor:
    """Layer factors ``(L, M)`` on their way to 1 as each member's annealing ``(M,)`` comes to its end, 1."""
    return gamma * (1.0 - progress) + progress
