"""What the neural baselines share: seeding, layers, and a training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Torch's random numbers on the CPU follow from ``rng`` inside; the caller's state is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def reparameterised(loc: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of ``N(loc, scale)``, shape ``(B, D)``, and its KL to ``N(0, I)`` in nats, shape ``(B,)``."""
    kl = 0.5 * (loc**2 + (2 * log_scale).exp() - 2 * log_scale - 1).sum(-1)
    return loc + log_scale.exp() * torch.randn_like(loc), kl


def train(
    module: nn.Module,
    loss: Callable[[tuple[Tensor, ...]], Tensor],
    data: Sequence[Tensor],
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> None:
    """Minimise a loss with Adam over shuffled minibatches.

    Args:
        module: Its parameters are fitted.
        loss: Mean loss of a minibatch of ``data``.
        data: Tensors with ``B`` rows.
        epochs: Passes through the rows.
        batch: Rows of a minibatch.
        learning_rate: Step size.
        weight_decay: L2 penalty added to the gradient.
    """
    optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate, weight_decay=weight_decay)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(data[0])), batch):
            optimiser.zero_grad()
            loss(tuple(part[rows] for part in data)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
