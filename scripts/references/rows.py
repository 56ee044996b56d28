"""The table as a handwritten model for it would hold it: everything that can be prepared once is prepared once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_hcvae.data import sites
from pyro_hcvae.data.schema import Amounts, Category, Fractions
from references.problem import Problem


class Minibatch(NamedTuple):
    """Rows as the network needs them. ``W`` recipe features: every structure (0/1 or one-hot) and all numbers, 0 where unknown.

    Attributes:
        conditions: Features, 0 where unknown, and which are known, shape ``(B, 2 C)``.
        recipe: Recipe features, shape ``(B, W)``.
        sizes: One-hot numbers of metals and of supports, shape ``(B, 5 + 4)``.
        exists: Which numbers exist, shape ``(B, numbers)``.
        visible: Which blocks are known and not hidden, shape ``(B, blocks)``.
    """

    conditions: Tensor
    recipe: Tensor
    sizes: Tensor
    exists: Tensor
    visible: Tensor


class Rows:
    """The whole table, prepared once: one wide tensor, so that one gather brings a minibatch."""

    def __init__(self, problem: Problem) -> None:
        packed, layout = problem.data.packed, problem.data.layout
        known, filled = ~packed.isnan(), packed.nan_to_num()
        self.features = layout.condition_features
        recipe, sizes, exists, structure_known, owner = [], [], [], [], []
        for i, block in enumerate(problem.schema.blocks):
            first, *rest = (layout.slices[name] for name in sites.of_block(block))
            if isinstance(block, Amounts | Fractions):
                structure = filled[:, first]
                largest = block.set_sizes[-1]
                sizes.append(F.one_hot(structure.sum(1).long(), largest + 1))
            else:
                count = len(block.codes) if isinstance(block, Category) else len(block.states)
                structure = F.one_hot(filled[:, first.start].long(), count)
            structure_known.append(known[:, first].all(1, keepdim=True))
            recipe += [structure, *(filled[:, place] for place in rest)]
            exists += [known[:, place] for place in rest]
            owner += [i] * sum(part.shape[1] for part in recipe[-1 - len(rest) :])
        conditions = [filled[:, : self.features], known[:, : self.features]]
        parts = [*conditions, *(torch.cat(part, dim=1) for part in (recipe, sizes, exists, structure_known))]
        self.widths = [part.shape[1] for part in parts]
        self.table = torch.cat([part.float() for part in parts], dim=1)
        self.owner = torch.tensor(owner)
        """Block of each recipe feature."""

    def minibatch(self, rows: Tensor, hidden: Tensor, blur: Tensor, keep: Tensor) -> Minibatch:
        """Gather rows ``(B,)``, hide blocks of them, and disturb their conditions."""
        conditions, known, recipe, sizes, exists, visible = self.table[rows].split(self.widths, dim=1)
        known = known * keep
        return Minibatch(
            torch.cat([(conditions + blur) * known, known], dim=1), recipe, sizes, exists, visible * ~hidden
        )
