"""Likelihoods of the blocks of a schema, as modules that return distributions.

Every block is a *structure* (which components are present, which code, in which way a step was carried out) and, given it,
*numbers* (amounts, log ratios, settings) for that part of the block which the structure says exists.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor, nn

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, Step
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.distributions import (
    SparseMixture,
    SubsetBernoulli,
    at_positions,
    existing_positions,
    largest_logit,
)
from pyro_hcvae.model.networks import MemberLinear, MemberTable, look_up, one_hot, soft_clamp

Gaussians = tuple[Tensor, Tensor, Tensor]
"""Log weights, means, and widths or scales of ``K`` Gaussians for each number, shapes that broadcast to ``(M, B, P, K)``."""
_KERNEL = 0.1
"""Smallest width, in standard deviations, of the kernels by which a number is told to others: narrow levels blend smoothly."""


class NumbersHead(nn.Module):
    """Hidden state and structure -> distribution of ``F`` standardised numbers, batch shape ``(M, B)``, event ``(F,)``.

    One network serves all numbers of the block. A learned vector tells it which of them it describes, and it runs only for those
    that exist: rare components share what common ones teach, and absent ones cost nothing.

    Each number is a mixture of Gaussians, or one Gaussian, whose scale stays above a floor: a continuous likelihood is
    unbounded where a column has few levels (Mattei & Frellsen, 2018).

    Args:
        members: Number of members.
        hidden: Size of the hidden state.
        structure: Size of the structure features.
        features: How many numbers there are, ``F``.
        at_most: How many of them can exist in one recipe.
        config: Form and number of the Gaussians, and floor of the scale.
    """

    def __init__(
        self, members: int, hidden: int, structure: int, features: int, at_most: int, config: ModelConfig
    ) -> None:
        super().__init__()
        self.features, self.at_most = features, at_most
        self.components, self.floor = config.mixture_components, config.scale_floor
        self.free = config.mixture == "free"
        self.trunk = MemberLinear(members, hidden + structure, hidden)
        self.which = MemberTable(members, features, hidden)
        self.chain = (
            Chain(members, features, self.components, hidden) if config.chained != "no" and at_most > 1 else None
        )
        self.head = MemberLinear(members, hidden, self.components * (3 if self.free else 1))
        # Log weights, means and raw widths of each number, which the network weighs, or also moves and stretches.
        self.gaussians = nn.Parameter(torch.zeros(members, features, 3, self.components))
        with torch.no_grad():  # they start at different places, or they would stay one
            self.gaussians[:, :, 1] = torch.linspace(-1.5, 1.5, self.components) if self.components > 1 else 0.0

    @torch.no_grad()
    def start_at(self, levels: Levels) -> None:
        """Begin with given Gaussians, the same for every member."""
        self.gaussians[:, :, 0] = levels.log_weights
        self.gaussians[:, :, 1] = levels.loc
        above = (levels.scale - self.floor).clamp(min=0.1 * self.floor)
        self.gaussians[:, :, 2] = above.expm1().log()  # inverse of softplus

    def forward(self, hidden: Tensor, structure: Tensor, exists: Tensor) -> TorchDistribution:
        """Distribution given the hidden state ``(M, B, H)``, structure features ``(M, B, T)`` and what exists ``(M, B, F)``."""
        shared = self.trunk(torch.cat([hidden, structure], dim=-1))
        positions, exists = existing_positions(exists, self.at_most)
        at = positions if self.at_most < self.features else None
        # Widths are computed in the table, which is small, and not in the minibatch.
        logits, loc, raw = self.gaussians.unbind(-2)
        table = torch.cat([logits, loc, torch.nn.functional.softplus(raw)], dim=-1)
        own_logits, own_loc, own_width = look_up(table, at).chunk(3, dim=-1)
        own = (own_logits, own_loc, own_width)
        return Numbers(self, shared.unsqueeze(-2) + self.which(at), own, positions, exists)

    def mixture(self, state: Tensor, gaussians: Gaussians) -> Gaussians:
        """Logits, means and scales ``(M, B, P, K)`` from states ``(M, B, P, H)`` and the numbers' own Gaussians."""
        raw = self.head(torch.nn.functional.silu(state).flatten(1, 2)).view(*state.shape[:-1], -1)
        logits, loc, width = gaussians
        if self.free:
            weights, shift, stretch = raw.chunk(3, dim=-1)
            return logits + weights, loc + shift, self.floor + width * soft_clamp(stretch).exp()
        return logits + raw, loc, self.floor + width


class Chain(nn.Module):
    """What a number says about those after it in the block: silver is weighed in as much as platinum, a hot step is short.

    A number enters by the levels that it is near to, under the learned gate of its component.

    Args:
        members: Number of members.
        features: How many numbers there are, ``F``.
        components: Gaussians of each, ``K``.
        hidden: Size of the state.
    """

    def __init__(self, members: int, features: int, components: int, hidden: int) -> None:
        super().__init__()
        self.levels = MemberLinear(members, components, hidden)
        self.gate = MemberTable(members, features, hidden)

    def forward(self, x: Tensor, gaussians: Gaussians, positions: Tensor | None, exists: Tensor) -> Tensor:
        """Messages ``(M, B, P, H)`` of numbers ``(M, B, P)`` with their own Gaussians; 0 where there is none."""
        _, loc, width = gaussians
        near = torch.softmax(-0.5 * ((x.unsqueeze(-1) - loc) / (_KERNEL + width)) ** 2, dim=-1)
        said: Tensor = self.levels(near.flatten(1, 2)).view(*x.shape, -1)
        gate: Tensor = self.gate(positions)
        return said * gate * exists.unsqueeze(-1)


class Numbers(TorchDistribution):  # type: ignore[misc]
    r"""Numbers of one block, each a mixture of Gaussians given those that exist before it.

    .. math:: p(x) = \prod_j p(x_j \mid x_{<j})

    Args:
        head: Their network.
        state: Its state for each number that can exist, before it knows the others, shape ``(M, B, P, H)``.
        gaussians: Their own Gaussians.
        positions: Which number each is, shape ``(M, B, P)``.
        exists: Which of them exist, same shape, bool.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector

    def __init__(
        self, head: NumbersHead, state: Tensor, gaussians: Gaussians, positions: Tensor, exists: Tensor
    ) -> None:
        self._head, self._state, self._gaussians = head, state, gaussians
        self.positions, self.exists = positions, exists
        super().__init__(positions.shape[:-1], Size((head.features,)), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Numbers:
        """Only to its own batch shape."""
        if Size(batch_shape) != self.batch_shape:
            raise NotImplementedError(f"numbers of a batch of shape {tuple(self.batch_shape)} stay so")
        return self

    def only(self, which: Tensor) -> Numbers:
        """The distribution of some of the numbers, mask ``(M, B, F)``, which then know of no other one."""
        exists = self.exists & which.gather(-1, self.positions)
        return Numbers(self._head, self._state, self._gaussians, self.positions, exists)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the numbers ``(M, B, F)`` that exist; the others are not looked at."""
        state, chain = self._state, self._head.chain
        if chain is not None:
            messages = chain(value.gather(-1, self.positions), self._gaussians, self.positions, self.exists)
            heard = [torch.zeros_like(messages[..., 0, :])]
            for message in messages.unbind(-2)[:-1]:  # few: a compiler fuses sums, and no cumsum
                heard.append(heard[-1] + message)
            state = state + torch.stack(heard, dim=-2)
        parameters = self._head.mixture(state, self._gaussians)
        return SparseMixture(*parameters, self.positions, self.exists, self._head.features).log_prob(value)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw the numbers that exist, one after the other; a single draw of the batch."""
        if Size(sample_shape):
            raise NotImplementedError("one draw a call: repeat the rows of the batch instead")
        return self._one_by_one()[0]

    def complete(self, value: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the unknown numbers and keep the known ones ``(M, B, F)``.

        Returns:
            All numbers, and the log density of each known one given those before it, summed; shape ``(M, B)``. As an importance
            weight it makes up for the unknown ones having been drawn without regard to those after them.
        """
        out, weight = self._one_by_one((value, known))
        return torch.where(known, value, out), weight

    @torch.no_grad()
    def _one_by_one(self, given: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """All numbers that exist, given ones as they are, and the weight of `complete`.

        Args:
            given: Values and which of them are known; None: nothing is known.
        """
        head, chain = self._head, self._head.chain
        weight = self._state.new_zeros(self.batch_shape)
        message: Tensor | float = 0.0
        numbers: list[Tensor] = []
        last = self.positions.shape[-1] - 1
        for j in range(last + 1):
            here = slice(j, j + 1)
            positions, exists = self.positions[..., here], self.exists[..., here]
            logits, loc, width = (part[:, :, here] for part in self._gaussians)
            gaussians = (logits, loc, width)
            parameters = head.mixture(self._state[:, :, here] + message, gaussians)
            mixture = SparseMixture(*parameters, positions, exists, head.features)
            number = mixture.sample_existing()
            if given is not None:
                value, known = given
                counts = known.gather(-1, positions) & exists
                weight += torch.where(counts.squeeze(-1), mixture.log_prob(value), 0.0)
                number = torch.where(counts, value.gather(-1, positions), number)
            numbers.append(number)
            if chain is not None and j < last:
                message = message + chain(number, gaussians, positions, exists)
        drawn = torch.cat(numbers, dim=-1)
        if self.positions.shape[-1] < head.features:
            drawn = at_positions(drawn, self.positions, head.features)
        return drawn, weight


class BlockLikelihood(nn.Module):
    """Likelihood of one block: a structure site, and perhaps a numbers site.

    Attributes:
        block: The block.
        structure_site: Name of the structure's site.
        numbers_site: Name of the numbers' site; None if the block has no numbers.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        self.structure_site, *rest = sites.of_block(block)
        self.numbers_site: str | None = rest[0] if rest else None

    def structure(self, hidden: Tensor) -> TorchDistribution:
        """Distribution of the structure, batch shape ``(M, B)``."""
        raise NotImplementedError

    def numbers(self, hidden: Tensor, features: Tensor, exists: Tensor) -> TorchDistribution:
        """Distribution of the numbers given `structure_features` and what exists ``(M, B, F)``; batch shape ``(M, B)``."""
        raise NotImplementedError

    def start_at(self, levels: Levels) -> None:
        """Begin with given Gaussians of the numbers."""
        raise NotImplementedError

    def applies(self, structure: Tensor) -> Tensor:
        """Which numbers exist under a structure, shape ``(M, B, F)``, bool."""
        raise NotImplementedError

    def structure_features(self, structure: Tensor) -> Tensor:
        """The structure as network input, shape ``(M, B, T)``."""
        raise NotImplementedError


class ComponentsLikelihood(BlockLikelihood):
    """Presence of components, then the amount (or log ratio) of each present one.

    Attributes:
        references: Present components without a number of their own.
    """

    references = 0

    def __init__(self, block: Amounts | Fractions, members: int, hidden: int, config: ModelConfig) -> None:
        super().__init__(block)
        features = len(block.columns)
        self.sizes = block.set_sizes
        self.independent = config.presence == "independent"
        self.presence_head = MemberLinear(members, hidden, features)
        self.size_head = None if self.independent else MemberLinear(members, hidden, len(self.sizes))
        at_most = features if self.independent else self.sizes[-1] - self.references
        self.numbers_head = NumbersHead(members, hidden, features, features, at_most, config)

    def structure(self, hidden: Tensor) -> TorchDistribution:
        """Presence: independent Bernoullis, or conditioned on their number."""
        logits = self.presence_head(hidden)
        if self.size_head is None:
            return dist.Bernoulli(logits=logits).to_event(1)
        logits = soft_clamp(logits, largest_logit(self.sizes[-1]))
        return SubsetBernoulli(self.size_head(hidden), logits, smallest=self.sizes[0])

    def numbers(self, hidden: Tensor, features: Tensor, exists: Tensor) -> TorchDistribution:
        """Standardised log amounts or log ratios."""
        out: TorchDistribution = self.numbers_head(hidden, features, exists)
        return out

    def start_at(self, levels: Levels) -> None:
        """Begin with given Gaussians of the numbers."""
        self.numbers_head.start_at(levels)

    def structure_features(self, structure: Tensor) -> Tensor:
        """Presence as it is."""
        return structure


class AmountsLikelihood(ComponentsLikelihood):
    """Presence and log amounts."""

    def applies(self, structure: Tensor) -> Tensor:
        """Every present component has an amount."""
        return structure > 0.5


class FractionsLikelihood(ComponentsLikelihood):
    """Presence and log ratios to the first present component."""

    references = 1

    def applies(self, structure: Tensor) -> Tensor:
        """Every present component but the reference has a ratio: a single component is exactly the whole."""
        present = structure > 0.5
        return present & (present.cumsum(dim=-1) > 1)


class CategoryLikelihood(BlockLikelihood):
    """One code of a list."""

    def __init__(self, block: Category, members: int, hidden: int) -> None:
        super().__init__(block)
        self.size = len(block.codes)
        self.head = MemberLinear(members, hidden, self.size)

    def structure(self, hidden: Tensor) -> TorchDistribution:
        """Categorical over the codes."""
        return dist.Categorical(logits=self.head(hidden))

    def structure_features(self, structure: Tensor) -> Tensor:
        """One-hot code."""
        return one_hot(structure, self.size, self.head.weight.dtype)


class StepLikelihood(BlockLikelihood):
    """In which way a step was carried out, if at all, and the settings that it then has."""

    pattern: Tensor

    def __init__(self, block: Step, members: int, hidden: int, config: ModelConfig) -> None:
        super().__init__(block)
        self.size = len(block.states)
        self.head = MemberLinear(members, hidden, self.size)
        self.numbers_head = NumbersHead(members, hidden, self.size, len(block.columns), len(block.columns), config)
        self.register_buffer("pattern", torch.tensor(block.applies()), persistent=False)

    def structure(self, hidden: Tensor) -> TorchDistribution:
        """Categorical over the states."""
        return dist.Categorical(logits=self.head(hidden))

    def numbers(self, hidden: Tensor, features: Tensor, exists: Tensor) -> TorchDistribution:
        """Standardised settings."""
        out: TorchDistribution = self.numbers_head(hidden, features, exists)
        return out

    def start_at(self, levels: Levels) -> None:
        """Begin with given Gaussians of the numbers."""
        self.numbers_head.start_at(levels)

    def applies(self, structure: Tensor) -> Tensor:
        """Settings that the state has."""
        return self.pattern[structure.long()]

    def structure_features(self, structure: Tensor) -> Tensor:
        """One-hot state."""
        return one_hot(structure, self.size, self.head.weight.dtype)


def likelihood(block: Block, members: int, hidden: int, config: ModelConfig) -> BlockLikelihood:
    """Likelihood that fits a block of the schema."""
    match block:
        case Amounts():
            return AmountsLikelihood(block, members, hidden, config)
        case Fractions():
            return FractionsLikelihood(block, members, hidden, config)
        case Category():
            return CategoryLikelihood(block, members, hidden)
        case Step():
            return StepLikelihood(block, members, hidden, config)
