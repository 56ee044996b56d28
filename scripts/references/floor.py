"""The floor under any implementation: the matrix products of one training step and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_hcvae.model.networks import MemberLinear
from references.problem import Problem


def shapes(problem: Problem) -> list[tuple[int, int, bool]]:
    """Inputs and outputs of every affine map of the model, and whether it passes a gradient on to its input."""
    network = problem.network()
    found: dict[MemberLinear, tuple[int, int, bool]] = {}

    def note(layer: MemberLinear, inputs: tuple[Any, ...]) -> None:
        found[layer] = (*layer.weight.shape[1:], inputs[0].requires_grad)

    hooks = [part.register_forward_pre_hook(note) for part in network.modules() if isinstance(part, MemberLinear)]
    problem.objective(network, next(problem.draws(2)), torch.ones(len(network.latent_dims)))
    for hook in hooks:
        hook.remove()
    return list(found.values())


class Products:
    """Forward product and the two backward products of every affine map, into preallocated outputs.

    Args:
        problem: Fixes the shapes.
        members: Members.
        batch_size: Rows of a minibatch.
    """

    def __init__(self, problem: Problem, members: int, batch_size: int) -> None:
        self.products: list[tuple[Tensor, Tensor, Tensor]] = []
        for inputs, outputs, passes_on in shapes(problem):
            x, y = torch.randn(members, batch_size, inputs), torch.randn(members, batch_size, outputs)
            weight = torch.randn(members, inputs, outputs)
            self.products.append((x, weight, torch.empty_like(y)))
            self.products.append((x.mT, y, torch.empty_like(weight)))
            if passes_on:
                self.products.append((y, weight.mT, torch.empty_like(x)))

    def run(self, steps: int) -> None:
        """Compute the products of some steps."""
        for _ in range(steps):
            for left, right, out in self.products:
                torch.bmm(left, right, out=out)
