r"""`HierarchicalCVAE`: the generative story and its guide.

.. math::

    z_l \sim p(z_l \mid z_{<l}, c), \qquad x_l \sim p(x_l \mid z_{\le l}, c), \qquad l = 1 \dots L

with one latent and one group of columns for each stage of the schema, in the order in which a laboratory decides. The guide
walks in the same order and describes each posterior relative to the learned prior (Vahdat & Kautz, 2020, NVAE):

.. math::

    p(z_l \mid \cdot) = N(\mu, \sigma), \qquad q(z_l \mid \cdot) = N(\mu + \Delta\mu, \sigma\,\Delta\sigma)

`HierarchicalCVAE.model` and `HierarchicalCVAE.guide` are plain Pyro programs. Nothing about training stands in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyro
import torch
from torch import Tensor, nn

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Levels, RecipeBatch
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema, Stage, Step
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.latents import Latent
from pyro_hcvae.model.likelihoods import BlockLikelihood, likelihood
from pyro_hcvae.model.networks import MLP, one_hot, reset_members


def block_features(
    block: Block, values: Mapping[str, Tensor], known: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What a network is shown of a block.

    A block counts as known when its whole structure is; otherwise it enters as zeros with its flag at 0.

    Args:
        block: The block.
        values: Its sites, ``(M, B)`` or ``(M, B, F)``.
        known: Where they count; sites that are missing here count everywhere.
        dtype: Of the result.

    Returns:
        Structure and numbers, shape ``(M, B, W)``, and the flag, shape ``(M, B, 1)``.
    """
    structure_site, *numbers_site = sites.of_block(block)
    structure = values[structure_site]
    mask = known.get(structure_site)
    if isinstance(block, Amounts | Fractions):
        features = structure
        whole = torch.ones_like(structure[..., 0], dtype=torch.bool) if mask is None else mask.all(dim=-1)
    else:
        count = len(block.codes) if isinstance(block, Category) else len(block.states)
        features = one_hot(structure, count, dtype)
        whole = torch.ones_like(structure, dtype=torch.bool) if mask is None else mask
    numbers = [values[name] for name in numbers_site]
    numbers = [x * known[name] if name in known else x for name, x in zip(numbers_site, numbers, strict=True)]
    flag = whole.unsqueeze(-1).to(dtype)
    return torch.cat([features, *numbers], dim=-1) * flag, flag


def _width(block: Block) -> int:
    """Length of `block_features`."""
    match block:
        case Amounts() | Fractions():
            return 2 * len(block.columns)
        case Category():
            return len(block.codes)
        case Step():
            return len(block.states) + len(block.columns)


class Encoder(nn.Module):
    """The known part of a recipe and its conditions -> a context vector ``(M, B, H)``."""

    def __init__(self, schema: RecipeSchema, members: int, conditions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = schema.blocks
        width = conditions + sum(_width(block) + 1 for block in self.blocks)
        self.network = MLP(members, width, hidden)

    def forward(self, batch: RecipeBatch, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Context ``(M, B, H)`` and whether anything is known ``(M, B, 1)``, from recipes and what is shown of conditions."""
        dtype = batch.conditions.dtype
        shown = [block_features(block, batch.values, batch.known, dtype) for block in self.blocks]
        features, flags = zip(*shown, strict=True)
        known_blocks = torch.cat(flags, dim=-1)
        context = self.network(torch.cat([conditions, *features, known_blocks], dim=-1))
        return context, known_blocks.amax(dim=-1, keepdim=True)


class StageNetworks(nn.Module):
    """What belongs to one stage: its latent, a decoder of all latents so far, and the likelihoods of its blocks.

    Attributes:
        site: Name of the latent's site.
    """

    def __init__(self, stage: Stage, members: int, above: int, size: int, config: ModelConfig) -> None:
        super().__init__()
        self.site = sites.latent(stage)
        self.latent = Latent(members, above, config.hidden[-1], size, config.hidden)
        self.decoder = MLP(members, above + size, config.hidden)
        hidden = config.hidden[-1]
        self._blocks = nn.ModuleList(likelihood(block, members, hidden, config) for block in stage.blocks)
        self._joints = nn.ModuleList()
        for i in range(len(stage.blocks)):
            before = stage.blocks[:i] if config.chained == "stage" else ()
            inputs = hidden + sum(_width(block) + 1 for block in before)
            self._joints.append(MLP(members, inputs, [hidden]) if before else nn.Identity())

    def given(self, position: int, hidden: Tensor, before: Sequence[Tensor]) -> Tensor:
        """The decoder's output ``(M, B, H)`` for a block, joined with what the blocks before it show (`block_features`)."""
        joined: Tensor = self._joints[position](torch.cat([hidden, *before], dim=-1) if before else hidden)
        return joined

    @property
    def blocks(self) -> Iterator[BlockLikelihood]:
        """Likelihoods of the blocks in schema order."""
        return (block for block in self._blocks if isinstance(block, BlockLikelihood))


class HierarchicalCVAE(nn.Module):
    """Hierarchical conditional VAE over the stages of a schema, for ``M`` independent members at once.

    Args:
        schema: Stages, blocks and columns.
        conditions: Number of condition features ``C`` (`RecipeCodec.feature_names`).
        config: Sizes and forms.
        seeds: One seed a member: a member's initial parameters depend on its own seed alone.
    """

    def __init__(
        self, schema: RecipeSchema, conditions: int, config: ModelConfig | None = None, *, seeds: Sequence[int] = (0,)
    ) -> None:
        super().__init__()
        self.schema, self.config = schema, config or ModelConfig()
        self.members, self.conditions = len(seeds), conditions
        above = 2 * conditions * (1 + self.config.condition_frequencies)
        self.encoder = Encoder(schema, self.members, above, self.config.hidden)
        self._stages = nn.ModuleList()
        for position, stage in enumerate(schema.stages):
            part = StageNetworks(stage, self.members, above, self.config.latent_dim(position), self.config)
            above += part.latent.size
            self._stages.append(part)
        reset_members(self, seeds)

    @property
    def stages(self) -> Iterator[StageNetworks]:
        """Networks of each stage, top first."""
        return (part for part in self._stages if isinstance(part, StageNetworks))

    def start_at(self, levels: Mapping[str, Levels]) -> None:
        """Begin with the Gaussians of each number where the table's numbers gather, by site; for every member alike."""
        for part in self.stages:
            for block in part.blocks:
                if block.numbers_site is not None:
                    block.start_at(levels[block.numbers_site])

    @property
    def latent_dims(self) -> dict[str, int]:
        """Size of each latent, by site, top first."""
        return {part.site: part.latent.size for part in self.stages}

    def model(self, batch: RecipeBatch) -> dict[str, Tensor]:
        """``p(z, x | c)``. Sites missing from ``batch.values`` are sampled.

        Args:
            batch: Conditions ``(M, B, C)``, and the recipes where they are observed.

        Returns:
            Value of every site, shape ``(M, B)`` or ``(M, B, event)``.
        """
        members, rows = batch.shape
        values: dict[str, Tensor] = {}
        above: tuple[Tensor, ...] = (batch.condition_inputs(self.config.condition_frequencies),)
        with pyro.plate("members", members, dim=-2), pyro.plate("rows", rows, dim=-1):
            for part in self.stages:
                values[part.site] = pyro.sample(part.site, part.latent.prior(*above))
                above = (*above, values[part.site])
                hidden = part.decoder(torch.cat(above, dim=-1))
                before: list[Tensor] = []
                blocks = list(part.blocks)
                for position, block in enumerate(blocks):
                    values |= _sample_block(block, part.given(position, hidden, before), batch)
                    if self.config.chained == "stage" and block is not blocks[-1]:
                        shown = block_features(block.block, values, batch.known, batch.conditions.dtype)
                        before.append(torch.cat(shown, dim=-1))
        return values

    def guide(self, batch: RecipeBatch) -> dict[str, Tensor]:
        """``q(z | x, c)``, top down in the model's order.

        Args:
            batch: Recipes with their conditions. What is not known of a recipe does not enter.

        Returns:
            Value of every latent site, shape ``(M, B, D)``.
        """
        members, rows = batch.shape
        values: dict[str, Tensor] = {}
        conditions = batch.condition_inputs(self.config.condition_frequencies)
        above: tuple[Tensor, ...] = (conditions,)
        context, anything_known = self.encoder(batch, conditions)
        with pyro.plate("members", members, dim=-2), pyro.plate("rows", rows, dim=-1):
            for part in self.stages:
                posterior = part.latent.posterior(above, context, anything_known)
                values[part.site] = pyro.sample(part.site, posterior)
                above = (*above, values[part.site])
        return values


def _sample_block(block: BlockLikelihood, hidden: Tensor, batch: RecipeBatch) -> dict[str, Tensor]:
    name = block.structure_site
    fn = block.structure(hidden)
    observed = batch.values.get(name)
    if observed is not None:
        known = batch.known[name]
        fn = fn.mask(known.all(dim=-1) if fn.event_dim else known)
    structure = pyro.sample(name, fn, obs=observed)
    values = {name: structure}
    if block.numbers_site is not None:
        name = block.numbers_site
        observed = batch.values.get(name)
        exists = block.applies(structure) if observed is None else batch.known[name]
        fn = block.numbers(hidden, block.structure_features(structure), exists)
        values[name] = pyro.sample(name, fn, obs=observed)
    return values
