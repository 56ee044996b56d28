"""Numbers of a block in the handwritten model: those that exist, and the mixtures of Gaussians that describe them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN, COMPONENTS = 64, 24
KERNEL, FLOOR = 0.1, 0.05


class Existing(NamedTuple):
    """The ``N`` numbers of a block that exist in a minibatch, row by row.

    Attributes:
        row: Row of each, shape ``(N,)``.
        column: Which number each is.
        slot: Where each stands if every row has as many places as can exist.
        values: Their values.
    """

    row: Tensor
    column: Tensor
    slot: Tensor
    values: Tensor


def existing(values: Tensor, exist: Tensor, most: int) -> Existing:
    """Numbers that exist, at most so many in a row, of ``(B, F)``."""
    row, column = exist.nonzero(as_tuple=True)
    slot = row * most + exist.cumsum(1)[row, column].long() - 1
    return Existing(row, column, slot, values[row, column])


class Numbers(nn.Module):
    """Mixtures of Gaussians for the numbers of a block, given its structure and each the numbers before it.

    One network weighs Gaussians of their own. A number is told to those after it by which of its Gaussians it is near to.
    """

    def __init__(self, structure: int, features: int, most: int) -> None:
        super().__init__()
        self.most = most
        self.trunk = nn.Linear(HIDDEN + structure, HIDDEN)
        self.which = nn.Embedding(features, HIDDEN)
        self.say = nn.Linear(COMPONENTS, HIDDEN)
        self.gate = nn.Embedding(features, HIDDEN)
        self.head = nn.Linear(HIDDEN, COMPONENTS)
        self.gaussians = nn.Embedding(features, 3 * COMPONENTS)

    def forward(self, hidden: Tensor, structure: Tensor, numbers: Existing) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and scales of the numbers, each ``(N, 24)``."""
        own, loc, raw_width = self.gaussians(numbers.column).chunk(3, dim=1)
        width = F.softplus(raw_width)
        shared = self.trunk(torch.cat([hidden, structure], dim=1)).index_select(0, numbers.row)
        state = shared + self.which(numbers.column) + self._earlier(loc, width, numbers, len(hidden))
        return own + self.head(F.silu(state)), loc, width + FLOOR

    def _earlier(self, loc: Tensor, width: Tensor, numbers: Existing, rows: int) -> Tensor:
        """Sum of what the numbers before each in its row say, shape ``(N, 64)``."""
        near = (-0.5 * ((numbers.values.unsqueeze(1) - loc) / (KERNEL + width)).square()).softmax(1)
        said = self.say(near) * self.gate(numbers.column)
        places = said.new_zeros(rows * self.most, HIDDEN).index_copy(0, numbers.slot, said)
        places = places.view(rows, self.most, HIDDEN)
        return (places.cumsum(1) - places).flatten(0, 1).index_select(0, numbers.slot)
