"""`SubsetBernoulli`: independent Bernoullis conditioned on how many of them are 1."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

_NEVER = -1e4
"""Log weight of an impossible subset: finite, so that no gradient becomes NaN; exp of it is exactly 0."""


_SMALL = 4
"""Sets up to this size are summed in the dtype of the logits; larger ones in float64, which has room for their products."""


def _product(left: Tensor, right: Tensor, largest: int) -> Tensor:
    """Products of polynomials ``(..., N, d + 1)``, cut at degree ``largest``."""
    degree = left.shape[-1] - 1
    size = min(2 * degree, largest) + 1
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2) @ _by_degree(degree, size, left.dtype, left.device)


@lru_cache
def _by_degree(degree: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Constant matrix that adds pairwise products of coefficients of one degree: no gather in the backward pass."""
    i, j = torch.meshgrid(torch.arange(degree + 1), torch.arange(degree + 1), indexing="ij")
    return ((i + j).flatten()[:, None] == torch.arange(size)).to(dtype=dtype, device=device)


def elementary_symmetric(weights: Tensor, largest: int) -> list[Tensor]:
    r"""Elementary symmetric polynomials by a product tree.

    .. math:: \prod_i (1 + w_i t) = \sum_k e_k(w) t^k

    Args:
        weights: Non-negative :math:`w`, shape ``(..., F)``; ``max(w) ** largest`` and its inverse must be in the range of
            the dtype.
        largest: Degree at which the product is cut.

    Returns:
        Levels of the tree from the leaves to the root. A level has shape ``(..., N, d + 1)``: coefficients of its N partial
        products. ``N = 1`` at the root, whose coefficients are :math:`e_0, e_1, \dots`
    """
    leaves = 1 << max(0, math.ceil(math.log2(weights.shape[-1])))
    padded = torch.nn.functional.pad(weights, (0, leaves - weights.shape[-1]))
    levels = [torch.stack([torch.ones_like(padded), padded], dim=-1)]
    while levels[-1].shape[-2] > 1:
        levels.append(_product(levels[-1][..., 0::2, :], levels[-1][..., 1::2, :], largest))
    return levels


def largest_logit(largest: int) -> float:
    """Size of the log weights up to which products of two polynomials of degree ``largest`` stay within the dtype."""
    return 7.5 if largest <= _SMALL else min(15.0, 300.0 / largest)


class SubsetBernoulli(TorchDistribution):  # type: ignore[misc]
    r"""Distribution over subsets S of F components: a size, then a conditional Bernoulli given the size.

    .. math:: p(S) = \pi_{|S|} \prod_{i \in S} w_i \, / \, e_{|S|}(w)

    with :math:`e_k` the elementary symmetric polynomials. Every draw has an allowed size by construction.

    Args:
        size_logits: Unnormalised log :math:`\pi` over the allowed sizes, shape ``(..., sizes)``.
        logits: :math:`\log w`, shape ``(..., F)``, within `largest_logit`; only differences between components matter.
        smallest: The first allowed size; the others follow one by one.

    References:
        Chen & Liu (1997), Statistical applications of the Poisson-binomial and conditional Bernoulli distributions.
    """

    arg_constraints: ClassVar = {
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
        batch = _broadcast(size_logits.shape[:-1], logits.shape[:-1])
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
        logits = self.logits if self.largest <= _SMALL else self.logits.double()
        return elementary_symmetric(logits.exp(), max(self.largest, 1))

    def _log_e(self, sizes: Tensor) -> Tensor:
        """Log of the elementary symmetric polynomials of some sizes ``(..., K)``; `_NEVER` where there is no such subset."""
        root = self._levels[-1][..., 0, :]
        e = root.expand(*sizes.shape[:-1], -1).gather(-1, sizes.clamp(0, root.shape[-1] - 1))
        possible = (sizes >= 0) & (sizes < root.shape[-1]) & (e > 0)
        return torch.where(possible, torch.where(possible, e, 1.0).log(), _NEVER).to(self.logits.dtype)

    @cached_property
    def size_log_probs(self) -> Tensor:
        """Log probability of each allowed size, shape ``(..., sizes)``."""
        return torch.log_softmax(self.size_logits, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of subsets ``(..., F)`` given as 0/1; minus infinity for a size that is not allowed."""
        size = value.sum(dim=-1, keepdim=True).round().long()
        index = size - self.smallest
        allowed = (index >= 0) & (size <= self.largest)
        index = index.clamp(0, self.largest - self.smallest)
        log_size = self.size_log_probs.expand(*index.shape[:-1], -1).gather(-1, index)
        log_given = (value * self.logits).sum(dim=-1, keepdim=True) - self._log_e(index + self.smallest)
        return torch.where(allowed, log_size + log_given, -math.inf).squeeze(-1)

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
        shape = _broadcast(self.batch_shape, value.shape[:-1])
        free = torch.where(known, _NEVER, self.logits)
        rest = SubsetBernoulli(self.size_logits, free, smallest=self.smallest, validate_args=False).expand(shape)
        taken = present.sum(dim=-1)
        sizes = torch.arange(self.smallest, self.largest + 1, device=value.device).expand(*shape, -1)
        log_ratio = rest._log_e(sizes - taken.unsqueeze(-1)) - self._log_e(sizes)
        return rest, taken, self.size_log_probs + log_ratio + (present * self.logits).sum(-1, keepdim=True)

    def _split(self, size: Tensor, shape: Size) -> Tensor:
        """Distribute sizes ``(..., 1)`` down the tree to the leaves."""
        counts = size
        for level in reversed(self._levels[:-1]):
            pairs = level.expand(*shape, *level.shape[-2:])
            left, right = pairs[..., 0::2, :], pairs[..., 1::2, :]
            options = torch.arange(left.shape[-1], device=size.device)
            other = counts.unsqueeze(-1) - options
            weights = left * right.gather(-1, other.clamp(0, left.shape[-1] - 1))
            possible = (other >= 0) & (other < left.shape[-1]) & (weights > 0)
            first = _gumbel_argmax(torch.where(possible, weights.log(), 4 * _NEVER))
            counts = torch.stack([first, counts - first], dim=-1).flatten(-2)
        return counts[..., : self.event_shape[0]].to(self.logits.dtype)


def _gumbel_argmax(log_weights: Tensor) -> Tensor:
    noise = torch.empty_like(log_weights).exponential_()
    return (log_weights - noise.clamp(min=1e-30).log()).argmax(dim=-1)


def _broadcast(*shapes: Size) -> Size:
    return Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
