"""`SubsetBernoulli`, independent Bernoullis conditioned on how many of them are 1, and `SparseMixture`, numbers of what exists."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

_NEVER = -1e4
"""Log weight of an impossible subset: finite, so that no gradient becomes NaN; exp of it is exactly 0."""


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_SMALL = 4
"""Sets up to this size are summed in the dtype of the logits; larger ones in float64, which has room for their products."""


Level = tuple[Tensor, ...]
"""Coefficients of degree 1, 2, ... of N polynomials whose constant term is 1, each of shape ``(N, ...)``."""


def _product(left: Level, right: Level, largest: int) -> Level:
    """Products of polynomials, cut at degree ``largest``."""
    degree = len(left)
    out = []
    for k in range(1, min(2 * degree, largest) + 1):
        lone = [side[k - 1] for side in (left, right) if k <= degree]
        pairs = [(left[i - 1], right[k - i - 1]) for i in range(max(1, k - degree), min(degree, k - 1) + 1)]
        total = lone[0] + lone[1] if lone else pairs[0][0] * pairs[0][1]
        for a, b in pairs if lone else pairs[1:]:
            total = torch.addcmul(total, a, b)
        out.append(total)
    return tuple(out)


def elementary_symmetric(weights: Tensor, largest: int) -> list[Level]:
    r"""Elementary symmetric polynomials by a product tree.

    .. math:: \prod_i (1 + w_i t) = \sum_k e_k(w) t^k

    Args:
        weights: Non-negative :math:`w`, shape ``(F, ...)``: the components come first, so that what is innermost in memory
            stays long up to the root; ``max(w) ** largest`` and its inverse must be in the range of the dtype.
        largest: Degree at which the product is cut.

    Returns:
        Levels of the tree from the leaves to the root. Polynomial ``i`` of a level is the product of ``i`` and ``i + N`` of
        the ``2 N`` below. The root's coefficients, each of shape ``(1, ...)``, are :math:`e_1, e_2, \dots`
    """
    leaves = 1 << max(0, math.ceil(math.log2(weights.shape[0])))
    padding = weights.new_zeros(leaves - weights.shape[0], *weights.shape[1:])
    levels: list[Level] = [(torch.cat([weights, padding]),)]
    while (count := levels[-1][0].shape[0]) > 1:
        left, right = zip(*(coefficient.split(count // 2) for coefficient in levels[-1]), strict=True)
        levels.append(_product(left, right, largest))
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
    def _levels(self) -> list[Level]:
        logits = self.logits if self.largest <= _SMALL else self.logits.double()
        return elementary_symmetric(logits.movedim(-1, 0).contiguous().exp(), max(self.largest, 1))

    def _log_e(self, sizes: Tensor) -> Tensor:
        """Log of the elementary symmetric polynomials of some sizes ``(..., K)``; `_NEVER` where there is no such subset."""
        root = _coefficients(self._levels[-1]).squeeze(-2)
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
        """Draw subsets exactly: the size, then the components one after another."""
        shape = Size(sample_shape) + self.batch_shape
        return self._draw(_choose(self.size_logits.expand(*shape, -1)) + self.smallest)

    @torch.no_grad()
    def sample_completion(self, value: Tensor, known: Tensor) -> Tensor:
        """Draw whole subsets that agree with the known components.

        Args:
            value: 0/1 where known, shape ``(..., F)``.
            known: Which components are known, bool, same shape.
        """
        rest, taken, sizes = self._given(value, known)
        drawn = rest._draw(_choose(sizes) + self.smallest - taken)
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

    def _draw(self, size: Tensor) -> Tensor:
        r"""Draw subsets of given sizes exactly, component after component in their order.

        While k are still to come, the next one lies beyond component i with probability

        .. math:: P(\text{next} > i) = e_k(w_{i+1}, \dots, w_F) \, / \, e_k(w_{h+1}, \dots, w_F)

        with h the previous one, so that one uniform number tells it. It has a positive weight and is followed by k - 1 others
        that have, whatever is rounded.

        Args:
            size: Components in each subset, of the shape of the samples and the batch.
        """
        features = self.event_shape[0]
        remaining = self._remaining(size.shape)
        start = torch.zeros_like(size)
        places = [torch.full_like(size, features)]  # the place behind the last component takes what is not drawn
        for k in range(self.largest, 0, -1):
            e = remaining[:, k]
            height = _uniform(size.shape, e) * e.gather(0, start.unsqueeze(0)).squeeze(0)
            following = (e[1:] > height).sum(dim=0)
            drawn = size >= k
            places.append(torch.where(drawn, following, features))
            start = torch.where(drawn, following + 1, start)
        subset = self.logits.new_zeros(*size.shape, features + 1)
        return subset.scatter_(-1, torch.stack(places, dim=-1), 1.0)[..., :features]

    def _remaining(self, shape: Size) -> Tensor:
        """Elementary symmetric polynomials of each component and all behind it, shape ``(F + 1, largest + 1, *shape)``."""
        logits = self.logits if self.largest <= _SMALL else self.logits.double()
        weights = logits.expand(*shape, -1).movedim(-1, 0).contiguous().exp()
        e = weights.new_zeros(len(weights) + 1, self.largest + 1, *shape)
        e[:, 0] = 1.0
        for i in reversed(range(len(weights))):
            torch.addcmul(e[i + 1, 1:], weights[i], e[i + 1, :-1], out=e[i, 1:])
        return e


def _coefficients(level: Level) -> Tensor:
    """All coefficients of a level, the constant term included, shape ``(..., N, d + 1)``."""
    return torch.stack([torch.ones_like(level[0]), *level], dim=-1).movedim(0, -2)


class SparseMixture(TorchDistribution):  # type: ignore[misc]
    r"""F numbers of which few exist: an independent mixture of K Gaussians for each that does; the others are 0.

    .. math:: p(x) = \prod_{f \text{ exists}} \sum_k \pi_{fk} \, N(x_f; \mu_{fk}, \sigma_{fk})

    Only what exists is computed: a recipe has up to 4 of 23 metals.

    Args:
        logits: Unnormalised log weights of the Gaussians at the positions that count, shape ``(..., P, K)``.
        loc: Their means, same shape.
        scale: Their standard deviations, same shape.
        positions: Which number each of them describes, shape ``(..., P)``; see `existing_positions`.
        exists: Which positions count, shape ``(..., P)``, bool.
        features: How many numbers there are, ``F``.
    """

    arg_constraints: ClassVar = {"logits": constraints.real, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real_vector

    def __init__(
        self,
        logits: Tensor,
        loc: Tensor,
        scale: Tensor,
        positions: Tensor,
        exists: Tensor,
        features: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.loc, self.scale, self.positions, self.exists = logits, loc, scale, positions, exists
        super().__init__(positions.shape[:-1], Size((features,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SparseMixture:
        """Broadcast to a batch shape."""
        shape = Size(batch_shape)
        parts = (self.logits, self.loc, self.scale)
        return SparseMixture(
            *(part.expand(*shape, *part.shape[-2:]) for part in parts),
            *(part.expand(*shape, part.shape[-1]) for part in (self.positions, self.exists)),
            self.event_shape[0],
            validate_args=False,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the numbers ``(..., F)`` that exist; the others are not looked at."""
        return torch.where(self.exists, self._log_probs(value), 0.0).sum(dim=-1)

    def log_prob_known(self, value: Tensor, known: Tensor) -> Tensor:
        """Log density of those existing numbers that are known, the others integrated out; ``known`` ``(..., F)``, bool."""
        counts = self.exists & known.gather(-1, self.positions)
        return torch.where(counts, self._log_probs(value), 0.0).sum(dim=-1)

    def _log_probs(self, value: Tensor) -> Tensor:
        x = value.gather(-1, self.positions).unsqueeze(-1)
        gaussians = self.logits - self.scale.log() - 0.5 * ((x - self.loc) / self.scale) ** 2
        return torch.logsumexp(gaussians, dim=-1) - torch.logsumexp(self.logits, dim=-1) - _HALF_LOG_2PI

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw the numbers that exist."""
        shape = Size(sample_shape) + self.positions.shape
        chosen = _choose(self.logits.expand(*shape, -1)).unsqueeze(-1)
        loc, scale = (part.expand(*shape, -1).gather(-1, chosen).squeeze(-1) for part in (self.loc, self.scale))
        drawn = torch.where(self.exists, torch.normal(loc, scale), 0.0)
        # Added, not assigned: positions that do not count share their place with one that may.
        zeros = drawn.new_zeros(*shape[:-1], *self.event_shape)
        return zeros.scatter_add(-1, self.positions.expand(shape), drawn)


def existing_positions(exists: Tensor, at_most: int) -> tuple[Tensor, Tensor]:
    """Positions of the first ``at_most`` true entries.

    Args:
        exists: Shape ``(..., F)``, bool.
        at_most: How many to look for.

    Returns:
        Positions, shape ``(..., at_most)``, and which of them are real, bool, same shape.
    """
    features = exists.shape[-1]
    if at_most >= features:
        return torch.arange(features, device=exists.device).expand(exists.shape), exists
    # The j-th true entry stands where the running count is less than j for the last time.
    wanted = torch.arange(1, at_most + 1, device=exists.device)
    positions = (exists.cumsum(dim=-1).unsqueeze(-2) < wanted.unsqueeze(-1)).sum(dim=-1)
    return positions.clamp(max=features - 1), positions < features


def _choose(log_weights: Tensor) -> Tensor:
    """Draw positions ``(...)`` in proportion to weights whose logs ``(..., K)`` are given, each by one uniform number."""
    # Not softmax, which is many times slower where K is small.
    sums = (log_weights - log_weights.amax(dim=-1, keepdim=True)).exp().cumsum(dim=-1)
    # The height stays below the last sum, so that what is chosen has a positive weight.
    height = _uniform(sums[..., :1].shape, sums) * sums[..., -1:]
    return (sums <= height).sum(dim=-1)


def _uniform(shape: Size, like: Tensor) -> Tensor:
    """Uniform numbers from 0 up to, but not including, 1."""
    return torch.rand(shape, dtype=like.dtype, device=like.device)


def _broadcast(*shapes: Size) -> Size:
    return Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
