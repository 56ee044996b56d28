"""What every implementation is given, and what our own objective says about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pyro_hcvae import HierarchicalCVAE, ModelConfig, RecipeSchema, RecipeTable
from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Levels, RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.objective import ElboTerms, ScaledELBO
from pyro_hcvae.inference.step import bound_terms
from pyro_hcvae.inference.streams import RecipeStream, TrainingData
from pyro_hcvae.model.likelihoods import NumbersHead
from pyro_hcvae.model.networks import MemberLinear

LATENT_DIMS = ModelConfig().latent_dims


class Draws(NamedTuple):
    """All that is random in one step.

    Attributes:
        rows: Rows of the minibatch, shape ``(M, B)``.
        noise: Standard normal noise of all latents side by side, shape ``(M, B, D)``.
        hidden: Blocks that are hidden, shape ``(M, B, blocks)``, bool.
        blur: Noise on the conditions, shape ``(M, B, C)``.
        keep: Conditions that stay known, shape ``(M, B, C)``, bool.
    """

    rows: Tensor
    noise: Tensor
    hidden: Tensor
    blur: Tensor
    keep: Tensor


@dataclass(frozen=True)
class Problem:
    """A model and default training settings on a simulated table.

    Attributes:
        codec: Table <-> tensors.
        data: Encoded rows.
        model: Settings of the model; the other implementations know the default ones alone.
    """

    codec: RecipeCodec
    data: TrainingData
    model: ModelConfig = field(default_factory=ModelConfig)

    @classmethod
    def simulated(cls, recipes: int = 1000) -> Problem:
        """A table as large as the dry reforming literature: six rows a recipe."""
        schema = RecipeSchema.load("drm")
        raw = VirtualLab().experiments(recipes, seed=0)
        table = RecipeTable.from_frame(raw, schema, source=raw.attrs["title"])
        codec = RecipeCodec.fit(schema, table.frame)
        recipe = table.recipe_ids()
        return cls(codec, TrainingData(codec.encode(table.frame), codec.layout, recipe, recipe))

    @property
    def schema(self) -> RecipeSchema:
        """Meaning of the columns."""
        return self.codec.schema

    @cached_property
    def levels(self) -> dict[str, Levels]:
        """Where the numbers of the table gather; every recipe counts once."""
        recipes = self.data.recipes
        weights = 1.0 / np.bincount(recipes)[recipes]
        return fit_levels(self.codec, self.data.packed, weights, self.model.mixture_components)

    def network(self, members: int = 1, *, stir: float = 0.0) -> HierarchicalCVAE:
        """Our model at the start of training. With ``stir``, noise on all parameters gives the heads that start at zero a say."""
        network = HierarchicalCVAE(self.schema, len(self.codec.feature_names), self.model, seeds=range(members))
        network.start_at(self.levels)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn(p.shape, generator=generator), alpha=stir)
        return network

    def draws(self, batch_size: int, members: int = 1) -> Iterator[Draws]:
        """Random choices of one training step after another, as our training makes them."""
        config = TrainConfig(members=members, batch_size=batch_size)
        streams = [RecipeStream(self.data, config, seed) for seed in config.seeds]
        for interval in count():
            chunks = (stream.chunk(interval, config.interval, sum(LATENT_DIMS)) for stream in streams)
            parts = (torch.stack(part, dim=1) for part in zip(*chunks, strict=True))
            yield from map(Draws._make, zip(*parts, strict=True))

    def batch(self, draws: Draws) -> RecipeBatch:
        """Minibatch with hidden blocks and blurred conditions."""
        hidden = {
            name: draws.hidden[..., i] for i, block in enumerate(self.schema.blocks) for name in sites.of_block(block)
        }
        return self.data.layout.unpack(self.data.packed[draws.rows]).hide(hidden).blur(draws.blur, draws.keep)

    def objective(self, network: HierarchicalCVAE, draws: Draws, weights: Tensor) -> ElboTerms:
        """Our own objective; ``weights`` is beta * gamma of each latent, shape ``(L,)``."""
        elbo = ScaledELBO(dict(zip(network.latent_dims, weights, strict=True)), row_weights=1 / draws.rows.shape[1])
        return bound_terms(elbo, network, self.batch(draws), draws.noise)


def our_linears(network: HierarchicalCVAE) -> list[MemberLinear]:
    """Affine maps of our model, less heads with one output: a softmax over a single state has nothing to learn."""
    linears = (part for part in network.modules() if isinstance(part, MemberLinear))
    return [layer for layer in linears if layer.weight.shape[-1] > 1]


def our_tables(network: HierarchicalCVAE) -> list[nn.Parameter]:
    """What our heads of numbers look up, shapes ``(M, F, ...)``: of each head the vectors, the gates, then the Gaussians."""
    heads = (part for part in network.modules() if isinstance(part, NumbersHead))
    return [
        table
        for head in heads
        for table in (head.which.rows, *([] if head.chain is None else [head.chain.gate.rows]), head.gaussians)
    ]


def max_error(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Largest norm of a difference relative to the second of a pair; NaN if there is one. Two zeros are equal."""
    tiny = torch.finfo(torch.float32).tiny  # a parameter that a minibatch does not touch has no gradient
    errors = [(a.detach() - b.detach()).norm() / b.detach().norm().clamp(min=tiny) for a, b in pairs]
    return torch.stack(errors).max().item()
