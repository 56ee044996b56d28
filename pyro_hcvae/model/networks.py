"""Small networks whose every parameter carries a leading member dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn


class MemberLinear(nn.Module):
    r"""Affine map of each member: ``(M, B, I) -> (M, B, O)``.

    Args:
        members: Number of members :math:`M`.
        inputs: Size :math:`I`.
        outputs: Size :math:`O`.
        zero: Start at zero, so that the map has no say at first.
    """

    def __init__(self, members: int, inputs: int, outputs: int, *, zero: bool = False) -> None:
        super().__init__()
        self.zero = zero
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    @torch.no_grad()
    def reset_member(self, member: int, generator: Generator) -> None:
        """Draw one member's parameters from its own generator, uniform with variance ``1 / I``."""
        if not self.zero:
            bound = math.sqrt(3.0 / self.weight.shape[1])
            self.weight[member].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map."""
        # Added in place: baddbmm would copy the broadcast bias first, and a second tensor costs more than the sum.
        return torch.bmm(x, self.weight).add_(self.bias)


class MemberTable(nn.Module):
    """One learned vector for each of ``F`` things and each member: positions ``(M, B, P)`` -> ``(M, B, P, W)``.

    Args:
        members: Number of members.
        rows: How many things there are, ``F``.
        width: Size of a vector, ``W``.
    """

    def __init__(self, members: int, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(members, rows, width))

    @torch.no_grad()
    def reset_member(self, member: int, generator: Generator) -> None:
        """Draw one member's vectors from its own generator, uniform with variance 1."""
        self.rows[member].uniform_(-math.sqrt(3.0), math.sqrt(3.0), generator=generator)

    def forward(self, positions: Tensor | None) -> Tensor:
        """Look the vectors up; see `look_up`."""
        return look_up(self.rows, positions)


def look_up(table: Tensor, positions: Tensor | None) -> Tensor:
    """Rows of each member's table: ``(M, F, W)`` at ``(M, B, P)`` -> ``(M, B, P, W)``; at None, all of them: ``(M, 1, F, W)``."""
    if positions is None:
        return table.unsqueeze(1)
    members, rows, _ = table.shape
    first = torch.arange(0, members * rows, rows, device=table.device).view(-1, 1, 1)
    # As an embedding the gradient is added up row by row; that of a gather would be of the size of the minibatch's tables.
    return torch.nn.functional.embedding(positions + first, table.flatten(0, 1))


class MLP(nn.Module):
    """Hidden layers, and optionally a linear head.

    Args:
        members: Number of members.
        inputs: Input features.
        hidden: Widths of the hidden layers.
        outputs: Width of the head; None: the last hidden layer is the output.
        zero_head: Start the head at zero.
        activation: After each hidden layer.
        layer: Kind of the affine maps.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int | None = None,
        *,
        zero_head: bool = False,
        activation: Callable[[Tensor], Tensor] = torch.nn.functional.silu,
        layer: type[MemberLinear] = MemberLinear,
    ) -> None:
        super().__init__()
        self.activation = activation
        widths = [inputs, *hidden]
        self.layers = nn.ModuleList(layer(members, a, b) for a, b in zip(widths, hidden, strict=False))
        self.head = None if outputs is None else layer(members, widths[-1], outputs, zero=zero_head)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(M, B, I)`` to ``(M, B, O)``."""
        for layer in self.layers:
            x = self.activation(layer(x))
        return x if self.head is None else self.head(x)


def reset_members(module: nn.Module, seeds: Sequence[int]) -> None:
    """Initialise every member from its own seed, whatever the number of members beside it."""
    for member, seed in enumerate(seeds):
        generator = Generator().manual_seed(seed)
        for part in module.modules():
            if isinstance(part, MemberLinear | MemberTable):
                part.reset_member(member, generator)


def one_hot(index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Positions ``(...)``, of any dtype, -> indicators ``(..., size)``.

    ``torch.nn.functional.one_hot`` looks at the values, which no captured step can.
    """
    return (index.unsqueeze(-1) == torch.arange(size, device=index.device)).to(dtype)


def soft_clamp(x: Tensor, limit: float = 5.0) -> Tensor:
    """Smoothly keep ``x`` within ``(-limit, limit)`` (NVAE, distributions.py)."""
    return limit * torch.tanh(x / limit)
