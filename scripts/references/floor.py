"""The floor under any implementation: the matrix products of one training step and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_hcvae.model.likelihoods import NumbersHead
from pyro_hcvae.model.networks import MemberLinear
from references.problem import Problem


class Shape(NamedTuple):
    """One affine map in the step of a member.

    Attributes:
        rows: Rows of its input: of a minibatch, or what exists of a block's numbers in one.
        inputs: Columns of its input.
        outputs: Columns of its output.
        passes_on: Whether it passes a gradient on to its input.
    """

    rows: int
    inputs: int
    outputs: int
    passes_on: bool


def shapes(problem: Problem, batch_size: int) -> list[Shape]:
    """Every affine map of the model, for a minibatch of some rows."""
    network = problem.network()
    existing: dict[MemberLinear, int] = {}
    found: dict[MemberLinear, Shape] = {}

    def note_numbers(head: NumbersHead, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
        count = inputs[2].sum(dim=-1)
        existing[head.head] = int(count.sum())  # what our model fills up to a fixed size need not be computed
        if head.chain is not None:  # nor what the last number of a row says: nobody listens
            existing[head.chain.levels] = int((count - 1).clamp(min=0).sum())

    def note(layer: MemberLinear, inputs: tuple[Tensor]) -> None:
        found[layer] = Shape(existing.get(layer, batch_size), *layer.weight.shape[1:], inputs[0].requires_grad)

    notes = {NumbersHead: note_numbers, MemberLinear: note}
    hooks = [part.register_forward_pre_hook(notes[type(part)]) for part in network.modules() if type(part) in notes]
    problem.objective(network, next(problem.draws(batch_size)), torch.ones(len(network.latent_dims)))
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
        for rows, inputs, outputs, passes_on in shapes(problem, batch_size):
            x, y = torch.randn(members, rows, inputs), torch.randn(members, rows, outputs)
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
