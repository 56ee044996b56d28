"""`SubsetBernoulli`: independent Bernoullis conditioned on how many of them are 1."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

_NEVER = -1e4
"""Log weight of an impossible subset: finite, so that no gradient becomes NaN; exp of it is exactly 0."""


def _pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Index ``k - i`` and penalty of the terms ``a_i b_{k-i}`` of a truncated product, each ``(size, size)``."""
    k = torch.arange(size, device=device)
    other = k[:, None] - k[None, :]
    return other.clamp(min=0), torch.where(other < 0, _NEVER, 0.0)


def elementary_symmetric(logits: Tensor, largest: int) -> list[Tensor]:
    r"""Logs of elementary symmetric polynomials of :math:`w_i = e^{l_i}`, by a product tree.

    .. math:: \prod_i (1 + w_i t) = \sum_k e_k(w) t^k

    Args:
        logits: :math:`\log w`, shape ``(..., F)``.
        largest: Degree at which the product is cut.

    Returns:
        Levels of the tree from the leaves to the root. A level has shape ``(..., N, largest + 1)``: log coefficients of
        the N partial products. ``N = 1`` at the root, which holds :math:`\log e_0 \dots \log e_{largest}`.
    """
    features = logits.shape[-1]
    leaves = 1 << max(0, math.ceil(math.log2(features)))
    impossible = logits.new_full((*logits.shape[:-1], leaves - features), _NEVER)
    ones = torch.cat([logits, impossible], dim=-1)
    rest = logits.new_full((*ones.shape, largest - 1), _NEVER)
    levels = [torch.cat([torch.zeros_like(ones).unsqueeze(-1), ones.unsqueeze(-1), rest], dim=-1)]
    other, penalty = _pairs(largest + 1, logits.device)
    while levels[-1].shape[-2] > 1:
        left, right = levels[-1][..., 0::2, :], levels[-1][..., 1::2, :]
        levels.append(torch.logsumexp(left.unsqueeze(-2) + right[..., other] + penalty, dim=-1))
    return levels


class SubsetBernoulli(TorchDistribution):  # type: ignore[misc]
    r"""Distribution over subsets S of F components: a size, then a conditional Bernoulli given the size.

    .. math:: p(S) = \pi_{|S|} \prod_{i \in S} w_i \, / \, e_{|S|}(w)

    with :math:`e_k` the elementary symmetric polynomials. Every draw has an allowed size by construction.

    Args:
        size_logits: Unnormalised log :math:`\pi` over the allowed sizes, shape ``(..., sizes)``.
        logits: :math:`\log w`, shape ``(..., F)``; only differences between components matter.
        smallest: The first allowed size; the others follow one by one.

    References:
        Chen & Liu (1997), Statistical applications of the Poisson-binomial and conditional Bernoulli distributions.
    """

    arg_constraints = {
        "size_logits": constraints.real_vector,
        "logits": constraints.real_vector,
    }
    support = constraints.independent(constraints.boolean, 1)

    def __init__(
        self, size_logits: Tensor, logits: Tensor, *, smallest: int = 0, validate_args: bool | None = None
    ) -> None:
        self.size_logits, self.logits, self.smallest = size_logits, logits, smallest
        self.largest = smallest + size_logits.shape[-1] - 1
        if self.largest > logits.shape[-1]:
            raise ValueError(f"subsets of size {self.largest} need as many components, got {logits.shape[-1]}")
        batch = torch.broadcast_shapes(size_logits.shape[:-1], logits.shape[:-1])
        super().__init__(batch, logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SubsetBernoulli:
        """Broadcast to a batch shape."""
        shape = Size(batch_shape)
        return SubsetBernoulli(
            self.size_logits.expand(*shape, self.size_logits.shape[-1]),
            self.logits.expand(*shape, self.logits.shape[-1]),
            smallest=self.smallest,
            validate_args=False,
        )

    @cached_property
    def _levels(self) -> list[Tensor]:
        return elementary_symmetric(self.logits, max(self.largest, 1))

    @cached_property
    def size_log_probs(self) -> Tensor:
        """Log probability of each allowed size, shape ``(..., sizes)``."""
        return torch.log_softmax(self.size_logits, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of subsets ``(..., F)`` given as 0/1; minus infinity for a size that is not allowed."""
        size = value.sum(dim=-1).round().long()
        allowed = (size >= self.smallest) & (size <= self.largest)
        index = (size - self.smallest).clamp(0, self.largest - self.smallest).unsqueeze(-1)
        log_e = self._levels[-1][..., 0, self.smallest : self.largest + 1]
        by_size = (self.size_log_probs - log_e).expand(*index.shape[:-1], -1)
        log_prob = by_size.gather(-1, index).squeeze(-1) + (value * self.logits).sum(dim=-1)
        return torch.where(allowed, log_prob, -math.inf)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw subsets exactly: the size, then how it splits between the halves, down the product tree."""
        shape = Size(sample_shape) + self.batch_shape
        size_log_probs = self.size_log_probs.expand(*shape, -1)
        size = _gumbel_argmax(size_log_probs).unsqueeze(-1) + self.smallest
        return self._split(size, shape)

    def sample_completion(self, value: Tensor, known: Tensor) -> Tensor:
        """Draw whole subsets that agree with the known components.

        Args:
            value: 0/1 where known, shape ``(..., F)``.
            known: Which components are known, bool, same shape.
        """
        rest, taken, sizes = self._given(value, known)
        size = _gumbel_argmax(sizes).unsqueeze(-1) + self.smallest - taken.unsqueeze(-1)
        drawn = rest._split(size.clamp(min=0), rest.batch_shape)
        return torch.where(known, value, drawn)

    def log_prob_known(self, value: Tensor, known: Tensor) -> Tensor:
        r"""Log probability that the known components are as given, the others summed out.

        .. math:: \log \sum_k \pi_k \, w_{S_K} \, e_{k-|S_K|}(w_U) / e_k(w)
        """
        return torch.logsumexp(self._given(value, known)[2], dim=-1)

    def _given(self, value: Tensor, known: Tensor) -> tuple[SubsetBernoulli, Tensor, Tensor]:
        present = (value > 0.5) & known
        shape = torch.broadcast_shapes(self.batch_shape, value.shape[:-1])
        free = torch.where(known, _NEVER, self.logits)
        rest = SubsetBernoulli(self.size_logits, free, smallest=self.smallest, validate_args=False).expand(shape)
        taken = present.sum(dim=-1)
        sizes = torch.arange(self.smallest, self.largest + 1, device=value.device)
        left = sizes - taken.unsqueeze(-1)
        log_rest = rest._levels[-1][..., 0, :].gather(-1, left.clamp(min=0).expand(*shape, -1))
        log_all = self._levels[-1][..., 0, self.smallest : self.largest + 1]
        joint = self.size_log_probs - log_all + log_rest + (present * self.logits).sum(-1, keepdim=True)
        return rest, taken, torch.where(left < 0, _NEVER, joint)

    def _split(self, size: Tensor, shape: Size) -> Tensor:
        """Distribute sizes ``(..., 1)`` down the tree to the leaves."""
        counts = size
        for level in reversed(self._levels[:-1]):
            pairs = level.expand(*shape, *level.shape[-2:])
            left, right = pairs[..., 0::2, :], pairs[..., 1::2, :]
            options = torch.arange(left.shape[-1], device=size.device)
            other = counts.unsqueeze(-1) - options
            weights = left + right.gather(-1, other.clamp(min=0)) + torch.where(other < 0, 2 * _NEVER, 0.0)
            first = _gumbel_argmax(weights)
            counts = torch.stack([first, counts - first], dim=-1).flatten(-2)
        return counts[..., : self.event_shape[0]].to(self.logits.dtype)


def _gumbel_argmax(log_weights: Tensor) -> Tensor:
    noise = torch.empty_like(log_weights).exponential_()
    return (log_weights - noise.clamp(min=1e-30).log()).argmax(dim=-1)
