"""Our Pyro programs trained as Pyro's own tutorials do it: ``SVI.step`` with a stock optimiser and a stock bound.

Minibatches are drawn as our training draws them. Weights follow a fixed schedule: balancing the layers would need rates that
the stock bound does not give.
"""

from __future__ import annotations

from collections.abc import Callable

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from pyro_hcvae import HierarchicalCVAE
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.inference import schedules
from pyro_hcvae.inference.objective import GivenNoise, SiteScale
from references.problem import Problem

BETA_STEPS = 900
Program = Callable[[RecipeBatch], dict[str, Tensor]]


def programs(network: HierarchicalCVAE, batch_size: int, weights: dict[str, float | Tensor]) -> tuple[Program, Program]:
    """Model and guide with registered parameters, the mean over rows, and a weight on each latent.

    Args:
        network: Our model.
        batch_size: Rows of a minibatch.
        weights: beta * gamma of each latent's site; read at every call.
    """

    def scaled(program: Program) -> Program:
        def run(batch: RecipeBatch) -> dict[str, Tensor]:
            pyro.module("cvae", network)
            with poutine.scale(scale=1 / batch_size), SiteScale(weights):
                return program(batch)

        return run

    return scaled(network.model), scaled(network.guide)


class Loop:
    """The training loop, in a parameter store of its own.

    Args:
        problem: The table.
        batch_size: Rows of a minibatch.
        validation: Pyro's checks of distributions and traces, which are on unless a user turns them off.
    """

    def __init__(self, problem: Problem, batch_size: int, *, validation: bool = True) -> None:
        self.validation = validation
        self.store = {"params": {}, "constraints": {}}
        self.batches = map(problem.batch, problem.draws(batch_size))
        self.network = problem.network()
        self.weights: dict[str, float | Tensor] = dict.fromkeys(self.network.latent_dims, 1.0)
        self.optimizer = ClippedAdam({"lr": 2e-3, "weight_decay": 1e-2})  # the quickest of Pyro's Adam family
        self.svi = SVI(*programs(self.network, batch_size, self.weights), self.optimizer, TraceMeanField_ELBO())
        self.step = 0

    def run(self, steps: int) -> None:
        """Take training steps."""
        with pyro.validation_enabled(self.validation), pyro.get_param_store().scope(self.store) as self.store:
            for _ in range(steps):
                self.weights.update(dict.fromkeys(self.weights, schedules.beta(self.step, BETA_STEPS)))
                self.svi.step(next(self.batches))
                self.step += 1


def check(problem: Problem, *, batch_size: int = 64, tolerance: float = 1e-5) -> float:
    """Check that the stock bound is our objective at the same weights, rows and noise.

    Returns:
        The relative error of the loss.

    Raises:
        AssertionError: If it is more than float32 rounding.
    """
    network = problem.network(stir=0.05)
    draws, values = next(problem.draws(batch_size)), torch.tensor([0.3, 0.7, 1.9])
    names, dims = list(network.latent_dims), list(network.latent_dims.values())
    ours = problem.objective(network, draws, values).loss.item()
    model, guide = programs(network, batch_size, dict(zip(names, values, strict=True)))
    noise = GivenNoise(dict(zip(names, draws.noise.split(dims, dim=-1), strict=True)))
    with pyro.get_param_store().scope():
        theirs = TraceMeanField_ELBO().loss(model, noise(guide), problem.batch(draws))
    error = abs(theirs - ours) / abs(ours)
    if not error <= tolerance:
        raise AssertionError(f"stock Pyro computes something else: {theirs} instead of {ours}")
    return error
