"""What each member is shown: minibatches, noise and hidden blocks, all from the member's own seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from pyro_hcvae.data.batch import Layout
from pyro_hcvae.data.splits import hold_out
from pyro_hcvae.inference.config import TrainConfig

_MAX_VALIDATION_ROWS = 2048


@dataclass(frozen=True)
class TrainingData:
    """Encoded rows and how they belong together.

    Attributes:
        packed: Encoded rows, shape ``(N, W)``.
        layout: Where each site lies in a row.
        recipes: Recipe of each row, shape ``(N,)``.
        groups: What is kept whole when validation rows are set aside, shape ``(N,)``.
        weights: How much each row counts, shape ``(N,)``, above 0; a recipe counts the mean of its rows. None: all alike.
        splits: Rows that the member of each seed learns from, and those that stop it; None: its seed chooses among the groups.
    """

    packed: Tensor
    layout: Layout
    recipes: NDArray[np.int64]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None
    splits: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None


class RecipeStream:
    """Minibatches of one member: recipes in shuffled order, epoch after epoch, one random row of each, as often as it counts.

    All recipes come once an epoch where all count alike; otherwise one that counts more than the mean comes more than once in
    some epochs, and one that counts less is missing in some. Everything follows from the member's seed and the position in
    training; what a step costs does not depend on the table.

    Args:
        data: Encoded rows.
        config: Settings.
        seed: Of the member.
        all_rows: Whether the rows that the member set aside are learned from, too.
    """

    def __init__(self, data: TrainingData, config: TrainConfig, seed: int, *, all_rows: bool = False) -> None:
        self._seed, self._config, self._layout = seed, config, data.layout
        if data.splits is None:
            train, self._held = hold_out(data.groups, config.validation_fraction, seed=seed)
        else:
            train, self._held = data.splits[seed]
        if all_rows:
            train = np.union1d(train, self._held)
        self._recipes = data.recipes
        self._weights = data.weights
        order = train[np.argsort(data.recipes[train], kind="stable")]
        _, start, count = np.unique(data.recipes[order], return_index=True, return_counts=True)
        until = np.cumsum(np.ones(len(order)) if data.weights is None else data.weights[order])
        before = np.concatenate([[0.0], until[start[1:] - 1]])
        weight = np.diff(before, append=until[-1])
        ends = np.cumsum(weight / count)
        ends *= len(ends) / ends[-1]
        self._order, self._start, self._count = map(torch.from_numpy, (order, start, count))
        self._until, self._before, self._weight, self._ends = map(torch.from_numpy, (until, before, weight, ends))
        self._epoch, self._shuffled = -1, torch.empty(0, dtype=torch.int64)

    def chunk(self, interval: int, steps: int, dims: int) -> tuple[Tensor, ...]:
        """All random choices of one interval.

        Returns:
            Rows ``(steps, B)``; noise of the latents ``(steps, B, D)``; hidden blocks ``(steps, B, blocks)``; noise on the
            conditions and which of them stay known, both ``(steps, B, C)``.
        """
        config, generator = self._config, _generator(self._seed, 0, interval)
        size, features = (steps, config.batch_size), self._layout.condition_features
        wanted = steps * config.batch_size
        chosen = self._recipes_from(interval * config.interval * config.batch_size, wanted)
        weight = self._before[chosen] + torch.rand(wanted, generator=generator) * self._weight[chosen]
        first, last = self._start[chosen], self._start[chosen] + self._count[chosen] - 1
        rows = self._order[torch.searchsorted(self._until, weight, right=True).clamp(first, last)].view(size)
        noise = torch.randn(*size, dims, generator=generator)
        partial = torch.rand(*size, 1, generator=generator) < config.hide_probability
        hidden = partial & (torch.rand(*size, self._layout.blocks, generator=generator) < 0.5)
        blur = config.condition_jitter * torch.randn(*size, features, generator=generator)
        blurred = torch.rand(*size, 1, generator=generator) < config.condition_dropout
        keep = ~(blurred & (torch.rand(*size, features, generator=generator) < 0.5))
        return rows, noise, hidden, blur, keep

    def _recipes_from(self, start: int, count: int) -> Tensor:
        """A stretch of the endless sequence of shuffled epochs, shape ``(count,)``."""
        recipes, parts = len(self._start), []
        while count > 0:
            epoch, place = divmod(start, recipes)
            if epoch != self._epoch:
                self._epoch = epoch
                generator = _generator(self._seed, 2, epoch)
                order = torch.randperm(recipes, generator=generator)
                # Each takes up as much of the epoch as it counts; every step of length 1 picks the one that it falls into.
                steps = torch.arange(recipes) + torch.rand(1, generator=generator, dtype=self._ends.dtype)
                self._shuffled = torch.searchsorted(self._ends, steps, right=True).clamp(max=recipes - 1)[order]
            parts.append(self._shuffled[place : place + count])
            start, count = start + len(parts[-1]), count - len(parts[-1])
        return torch.cat(parts)

    def validation_rows(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Held-out rows, and weights that sum to 1: of each row what it counts, over the rows of its recipe."""
        rng = np.random.default_rng([self._seed, 3])
        rows = rng.permutation(self._held)[:_MAX_VALIDATION_ROWS]
        _, inverse, count = np.unique(self._recipes[rows], return_inverse=True, return_counts=True)
        weights = (1.0 if self._weights is None else self._weights[rows]) / count[inverse]
        return rows, weights / weights.sum()

    def validation_noise(self, rows: int, dims: int) -> Tensor:
        """Noise of the latents in every validation, shape ``(rows, D)``."""
        return torch.randn(rows, dims, generator=_generator(self._seed, 1))


def _generator(*key: int) -> Generator:
    """Generator of a member's seed, a purpose, and a position."""
    mixed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return Generator().manual_seed(mixed % 2**63)
