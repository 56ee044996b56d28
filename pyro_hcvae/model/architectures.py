r"""The published architectures as Pyro programs, to compare with: plain conditional VAEs with a standard normal prior.

.. math:: \mathcal L = \mathrm{BCE}(m, \hat p) + \lVert x - \hat x \rVert^2 + w \, \mathrm{KL}(q(z \mid x, c) \,\|\, N(0, I))

Both losses are negative log likelihoods. Cross-entropy is that of independent Bernoullis; the sum of squares is that of
Gaussians with the fixed variance 1/2, but for a constant:

.. math:: -\log N(x; \hat x, \tfrac12) = (x - \hat x)^2 + \tfrac12 \log \pi

So each published loss is a `ScaledELBO` with the weight ``w`` on its latents. Rows come as a mapping from the names of *parts*
(`AMOUNTS`, `PRESENCE`, ...) to tensors ``(M, B, F)``; a part that is missing is not observed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

import pyro
import torch
from pyro import distributions as dist
from torch import Generator, Tensor, nn

from pyro_hcvae.model.networks import MLP, MemberLinear, reset_members

AMOUNTS, PRESENCE = "metals", "metals present"
SHARES, SUPPORTED = "supports", "supports present"
TREATMENT, REACTION = "pretreatment", "reaction"
LATENT = 8
HIDDEN = (64, 32)
"""Widths of the encoders; decoders have them the other way round."""

Parts = Mapping[str, Tensor]


class Architecture(Protocol):
    """What training and evaluation ask of an architecture.

    Attributes:
        latent_dims: Size of each latent, by site.
        reads: Parts of a row that it needs.
    """

    latent_dims: dict[str, int]
    reads: tuple[str, ...]

    def model(self, parts: Parts) -> dict[str, Tensor]:
        """``p(x, z | c)``.

        Args:
            parts: Conditions, and what is observed of the recipes, ``(M, B, F)`` each.

        Returns:
            What the decoders say: probabilities of presences and means of numbers, by part, ``(M, B, F)``.
        """

    def guide(self, parts: Parts) -> None:
        """``q(z | x, c)``."""


class Linear(MemberLinear):
    """A `MemberLinear` that starts as ``torch.nn.Linear`` does: weights and biases uniform within ``1 / sqrt(inputs)``."""

    @torch.no_grad()
    def reset_member(self, member: int, generator: Generator) -> None:
        """Draw one member's parameters from its own generator."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        self.weight[member].uniform_(-bound, bound, generator=generator)
        self.bias[member].uniform_(-bound, bound, generator=generator)


class Encoder(nn.Module):
    """Gaussian of a latent from whatever it is shown, ``(M, B, F)`` each."""

    def __init__(self, members: int, inputs: int) -> None:
        super().__init__()
        self.network = MLP(members, inputs, HIDDEN, 2 * LATENT, activation=torch.relu, layer=Linear)

    def forward(self, *shown: Tensor) -> Any:
        """``q(z)``, event shape ``(D,)``."""
        loc, log_variance = self.network(torch.cat(shown, dim=-1)).chunk(2, dim=-1)
        return dist.Normal(loc, torch.exp(0.5 * log_variance)).to_event(1)


class Decoder(nn.Module):
    """One number for each column, from latents and conditions, ``(M, B, F)`` each."""

    def __init__(self, members: int, inputs: int, columns: int) -> None:
        super().__init__()
        self.network = MLP(members, inputs, HIDDEN[::-1], columns, activation=torch.relu, layer=Linear)

    def forward(self, *shown: Tensor) -> Tensor:
        """Means of scaled numbers, or log odds of presences, shape ``(M, B, columns)``."""
        out: Tensor = self.network(torch.cat(shown, dim=-1))
        return out


def plates(parts: Parts) -> tuple[Any, Any]:
    """Members outside, rows inside."""
    members, rows, _ = next(iter(parts.values())).shape
    return pyro.plate("members", members, dim=-2), pyro.plate("rows", rows, dim=-1)


def standard_normal(parts: Parts) -> Any:
    """The prior of every latent."""
    like = next(iter(parts.values()))
    zeros = like.new_zeros(*like.shape[:2], LATENT)
    return dist.Normal(zeros, torch.ones_like(zeros)).to_event(1)


def squared_error(part: str, mean: Tensor, parts: Parts) -> Tensor:
    """Observe scaled numbers with the sum of squares for a loss; returns their means."""
    pyro.sample(part, dist.Normal(mean, torch.full_like(mean, math.sqrt(0.5))).to_event(1), obs=parts.get(part))
    return mean


def cross_entropy(part: str, log_odds: Tensor, parts: Parts) -> Tensor:
    """Observe presences with the binary cross-entropy for a loss; returns their probabilities."""
    pyro.sample(part, dist.Bernoulli(logits=log_odds).to_event(1), obs=parts.get(part))
    return torch.sigmoid(log_odds)


LOSSES = {AMOUNTS: squared_error, PRESENCE: cross_entropy, SHARES: squared_error, SUPPORTED: cross_entropy,
          TREATMENT: squared_error}  # fmt: skip
CONDITIONS = (TREATMENT, REACTION)
"""What a flat architecture is told. The hierarchy is told the reaction alone and generates the pretreatment."""


class SingleCVAE(nn.Module):
    """One encoder and one decoder of one part: scaled amounts, or presences.

    Amounts alone are the *single continuous* architecture; a second one of presences, trained apart, makes it *independent*.

    Args:
        widths: Number of columns of each part.
        part: What is encoded and decoded.
        seeds: One a member.
    """

    def __init__(self, widths: Mapping[str, int], part: str = AMOUNTS, *, seeds: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.part, self.reads = part, (part, *CONDITIONS)
        self.latent_dims = {"z": LATENT}
        told = sum(widths[name] for name in CONDITIONS)
        self.encoder = Encoder(len(seeds), widths[part] + told)
        self.decoder = Decoder(len(seeds), LATENT + told, widths[part])
        reset_members(self, seeds)

    def model(self, parts: Parts) -> dict[str, Tensor]:
        """See `Architecture`."""
        members, rows = plates(parts)
        with members, rows:
            z = pyro.sample("z", standard_normal(parts))
            decoded = self.decoder(z, *conditions(parts))
            return {self.part: LOSSES[self.part](self.part, decoded, parts)}

    def guide(self, parts: Parts) -> None:
        """See `Architecture`."""
        members, rows = plates(parts)
        with members, rows:
            pyro.sample("z", self.encoder(parts[self.part], *conditions(parts)))


class SharedCVAE(nn.Module):
    """One encoder, of the amounts, and two decoders of its latent: one of presences, one of amounts.

    Arguments as for `SingleCVAE`.
    """

    def __init__(self, widths: Mapping[str, int], *, seeds: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.reads = (AMOUNTS, PRESENCE, *CONDITIONS)
        self.latent_dims = {"z": LATENT}
        told = sum(widths[name] for name in CONDITIONS)
        self.encoder = Encoder(len(seeds), widths[AMOUNTS] + told)
        self.presence = Decoder(len(seeds), LATENT + told, widths[PRESENCE])
        self.amounts = Decoder(len(seeds), LATENT + told, widths[AMOUNTS])
        reset_members(self, seeds)

    def model(self, parts: Parts) -> dict[str, Tensor]:
        """See `Architecture`."""
        members, rows = plates(parts)
        with members, rows:
            z = pyro.sample("z", standard_normal(parts))
            return {
                PRESENCE: cross_entropy(PRESENCE, self.presence(z, *conditions(parts)), parts),
                AMOUNTS: squared_error(AMOUNTS, self.amounts(z, *conditions(parts)), parts),
            }

    def guide(self, parts: Parts) -> None:
        """See `Architecture`."""
        members, rows = plates(parts)
        with members, rows:
            pyro.sample("z", self.encoder(parts[AMOUNTS], *conditions(parts)))


class JointCVAE(nn.Module):
    """Two encoder-decoder pairs, of presences and of amounts, trained together: what `gated` makes of both is compared.

    Args:
        widths: Number of columns of each part.
        seeds: One a member.
        through_gate: Whether the squared error is that of the amounts after the soft gate, so that both pairs learn from it.
    """

    def __init__(self, widths: Mapping[str, int], *, seeds: Sequence[int] = (0,), through_gate: bool = False) -> None:
        super().__init__()
        self.reads, self.through_gate = (AMOUNTS, PRESENCE, *CONDITIONS), through_gate
        self.latent_dims = {"z presence": LATENT, "z amounts": LATENT}
        told = sum(widths[name] for name in CONDITIONS)
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        for part in (PRESENCE, AMOUNTS):
            self.encoders[part] = Encoder(len(seeds), widths[part] + told)
            self.decoders[part] = Decoder(len(seeds), LATENT + told, widths[part])
        reset_members(self, seeds)

    def model(self, parts: Parts) -> dict[str, Tensor]:
        """See `Architecture`."""
        members, rows = plates(parts)
        with members, rows:
            log_odds, amounts = (
                self.decoders[part](pyro.sample(site, standard_normal(parts)), *conditions(parts))
                for site, part in zip(self.latent_dims, (PRESENCE, AMOUNTS), strict=True)
            )
            presence = cross_entropy(PRESENCE, log_odds, parts)
            squared_error(AMOUNTS, presence * amounts if self.through_gate else amounts, parts)
            return {PRESENCE: presence, AMOUNTS: amounts}

    def guide(self, parts: Parts) -> None:
        """See `Architecture`."""
        members, rows = plates(parts)
        with members, rows:
            for site, part in zip(self.latent_dims, (PRESENCE, AMOUNTS), strict=True):
                pyro.sample(site, self.encoders[part](parts[part], *conditions(parts)))


class PublishedHierarchy(nn.Module):
    """Three levels, metals, supports and pretreatment, each with a latent that all levels below see too.

    Arguments as for `SingleCVAE`. Components have a head of presences and one of amounts; settings have one of numbers.
    """

    LEVELS = ((AMOUNTS, PRESENCE), (SHARES, SUPPORTED), (TREATMENT,))

    def __init__(self, widths: Mapping[str, int], *, seeds: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.reads = (*(part for level in self.LEVELS for part in level), REACTION)
        self.latent_dims = {f"z{i}": LATENT for i in range(1, len(self.LEVELS) + 1)}
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        depths = accumulate(self.latent_dims.values())
        for (site, size), depth, level in zip(self.latent_dims.items(), depths, self.LEVELS, strict=True):
            shown = sum(widths[part] for part in level) + widths[REACTION]
            self.encoders[site] = Encoder(len(seeds), shown + depth - size)
            for part in level:
                self.decoders[part] = Decoder(len(seeds), depth + widths[REACTION], widths[part])
        reset_members(self, seeds)

    def model(self, parts: Parts) -> dict[str, Tensor]:
        """See `Architecture`."""
        members, rows = plates(parts)
        latents: list[Tensor] = []
        out: dict[str, Tensor] = {}
        with members, rows:
            for site, level in zip(self.latent_dims, self.LEVELS, strict=True):
                latents.append(pyro.sample(site, standard_normal(parts)))
                for part in level:
                    out[part] = LOSSES[part](part, self.decoders[part](*latents, parts[REACTION]), parts)
        return out

    def guide(self, parts: Parts) -> None:
        """See `Architecture`."""
        members, rows = plates(parts)
        latents: list[Tensor] = []
        with members, rows:
            for site, level in zip(self.latent_dims, self.LEVELS, strict=True):
                shown = [parts[part] for part in level]
                latents.append(pyro.sample(site, self.encoders[site](*latents, *shown, parts[REACTION])))


def conditions(parts: Parts) -> list[Tensor]:
    """What a flat architecture is told."""
    return [parts[name] for name in CONDITIONS]


def gated(amounts: Tensor, presence: Tensor, gate: str) -> Tensor:
    """Amounts after the gate of their presences.

    Args:
        amounts: Decoded amounts in a unit in which absent is 0.
        presence: Decoded probabilities, same shape.
        gate: ``none``; ``hard``: kept where the probability is at least 1/2; ``soft``: times the probability.
    """
    match gate:
        case "none":
            return amounts
        case "hard":
            return amounts * (presence >= 0.5)
        case "soft":
            return amounts * presence
    raise ValueError(f"unknown gate {gate!r}: choose none, hard or soft")


GATES = ("none", "hard", "soft")
