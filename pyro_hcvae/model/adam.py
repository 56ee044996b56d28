"""Steps of Adam on tensors that the caller keeps.

Torch's optimizer classes import its compiler as soon as one is made, which takes two seconds of every command that trains; the
functions behind them do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw


@torch.no_grad()
def adam_step(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    taken: Sequence[Tensor],
    *,
    rate: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    fused: bool = True,
) -> None:
    """Take one step, in place, with the usual decay of the moments (0.9, 0.999).

    Args:
        values: What is learned.
        gradients: Of the same shapes.
        first: First moments, of the same shapes; zeros before the first step.
        second: Second moments, likewise.
        taken: Steps taken so far, one float tensor without a shape for each of the values; counted up.
        rate: Learning rate.
        weight_decay: Of the values.
        decoupled: Whether they decay apart from the gradient (AdamW), and not as a part of it.
        fused: Whether torch's fused kernel is used, which differs by rounding.

    References:
        Kingma & Ba (2015), Adam; Loshchilov & Hutter (2019), Decoupled Weight Decay Regularization
    """
    step = adamw if decoupled else adam
    step(
        list(values),
        list(gradients),
        list(first),
        list(second),
        [],
        list(taken),
        foreach=False,
        fused=fused,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=rate,
        weight_decay=weight_decay,
        eps=1e-8,
        maximize=False,
    )
