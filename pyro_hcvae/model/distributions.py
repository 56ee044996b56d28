"""`SubsetBernoulli`, Bernoullis conditioned on how many of them are 1, and `SparseMixture`, numbers of what exists."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

_NEVER = -1e4
"""Log weight of an impossible subset: finite, so that no gradient becomes NaN; exp of it is exactly 0."""


HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_SMALL = 4
"""Sets up to this size are summed in the dtype of the logits; larger ones in float64, which has room for their products."""


def elementary_symmetric(weights: Tensor, largest: int) -> Tensor:
    r"""Terms of the elementary symmetric polynomials, each credited to the last of its components.

    .. math:: t_k(i) = w_i \, e_{k-1}(w_1, \dots, w_{i-1}), \qquad e_k(w) = \sum_i t_k(i)

    Sums of products of positive numbers: nothing cancels. Drawn in proportion to :math:`t_k`, a component is the last one of a
    random subset of size k.

    Args:
        weights: Non-negative :math:`w`, shape ``(..., F)``; ``max(w) ** largest`` and its inverse must be in the range of
            the dtype.
        largest: Largest :math:`k`.

    Returns:
        :math:`t_1, t_2, \dots`, shape ``(..., largest, F)``.
    """
    components = weights.shape[-1]
    # As a matrix product, the sum over all components before is quicker than cumsum, above all backwards.
    before = torch.ones(components, components, dtype=weights.dtype, device=weights.device).triu(1)
    terms = [weights]
    while len(terms) < largest:
        terms.append(weights * (terms[-1] @ before))
    return torch.stack(terms, dim=-2)


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
        self._cache: dict[bool, Tensor] = {}
        super().__init__(batch, logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SubsetBernoulli:
        """Broadcast to a batch shape."""
        shape = Size(batch_shape)
        if shape == self.batch_shape:
            return self
        return SubsetBernoulli(
            self.size_logits.expand(*shape, self.size_logits.shape[-1]),
            self.logits.expand(*shape, self.logits.shape[-1]),
            smallest=self.smallest,
            validate_args=False,
        )

    @property
    def _terms(self) -> Tensor:
        # Kept apart by mode: what a draw computed without gradients must not serve a density that wants them.
        mode = torch.is_grad_enabled()
        if mode not in self._cache:
            logits = self.logits if self.largest <= _SMALL else self.logits.double()
            self._cache[mode] = elementary_symmetric(logits.exp(), max(self.largest, 1))
        return self._cache[mode]

    def _log_e(self, sizes: Tensor) -> Tensor:
        """Log of the elementary symmetric polynomials of some sizes ``(..., K)``; `_NEVER` where there is no such subset."""
        known = torch.nn.functional.pad(self._terms.sum(dim=-1), (1, 0), value=1.0)  # e_0, e_1, ...
        e = known.expand(*sizes.shape[:-1], -1).gather(-1, sizes.clamp(0, known.shape[-1] - 1))
        possible = (sizes >= 0) & (sizes < known.shape[-1]) & (e > 0)
        return torch.where(possible, torch.where(possible, e, 1.0).log(), _NEVER).to(self.logits.dtype)

    @property
    def mean(self) -> Tensor:
        """Probability of each component to be in the subset, the others summed out, shape ``(..., F)``."""
        features = self.event_shape[0]
        each = torch.eye(features, dtype=self.logits.dtype, device=self.logits.device)
        each = each.view(features, *[1] * len(self.batch_shape), features)
        return self.log_prob_known(each, each > 0.5).exp().movedim(0, -1)

    @property
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
        """Draw subsets exactly: the size, then the components from the last to the first."""
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
        """Draw subsets of given sizes exactly, their components from the last to the first.

        While k are still to come, the next one is drawn in proportion to :math:`t_k`; it has a positive weight and is preceded
        by k - 1 others that have, whatever is rounded.

        Args:
            size: Components in each subset, of the shape of the samples and the batch.
        """
        features = self.event_shape[0]
        terms = self._terms.expand(*size.shape, *self._terms.shape[-2:])
        places = torch.arange(features, device=size.device)
        subset = torch.zeros(*size.shape, features, dtype=torch.bool, device=size.device)
        bound = torch.full_like(size, features)
        for k in range(self.largest, 0, -1):
            weights = torch.where(places < bound.unsqueeze(-1), terms[..., k - 1, :], 0.0)
            # A subset that is smaller than k has nothing to draw yet.
            chosen = torch.where(size >= k, _position(weights.cumsum(dim=-1)), features)
            subset |= places == chosen.unsqueeze(-1)
            bound = torch.where(size >= k, chosen, bound)
        return subset.to(self.logits.dtype)


class SparseMixture(TorchDistribution):  # type: ignore[misc]
    r"""F numbers of which few exist: an independent mixture of K Gaussians for each that does; the others are 0.

    .. math:: p(x) = \prod_{f \text{ exists}} \sum_k \pi_{fk} \, N(x_f; \mu_{fk}, \sigma_{fk})

    Only what exists is computed: a recipe has up to 4 of 23 metals.

    Args:
        logits: Unnormalised log weights of the Gaussians at the positions that count, shape ``(..., P, K)``.
        loc: Their means; broadcasts to that shape.
        scale: Their standard deviations; broadcasts to that shape.
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
        if shape == self.batch_shape:
            return self
        logits, loc, scale = (p.expand(*shape, *p.shape[-2:]) for p in (self.logits, self.loc, self.scale))
        positions, exists = (p.expand(*shape, p.shape[-1]) for p in (self.positions, self.exists))
        return SparseMixture(logits, loc, scale, positions, exists, self.event_shape[0], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the numbers ``(..., F)`` that exist; the others are not looked at."""
        return torch.where(self.exists, self._log_probs(value), 0.0).sum(dim=-1)

    def _log_probs(self, value: Tensor) -> Tensor:
        x = value.gather(-1, self.positions).unsqueeze(-1)
        gaussians = self.logits - self.scale.log() - 0.5 * ((x - self.loc) / self.scale) ** 2
        return torch.logsumexp(gaussians, dim=-1) - torch.logsumexp(self.logits, dim=-1) - HALF_LOG_2PI

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw the numbers that exist."""
        drawn = self.sample_existing(sample_shape)
        return at_positions(drawn, self.positions.expand(drawn.shape), self.event_shape[0])

    @torch.no_grad()
    def sample_existing(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw the number at each position ``(..., P)``; 0 where there is none."""
        shape = Size(sample_shape) + self.positions.shape
        chosen = _choose(self.logits.expand(*shape, -1)).unsqueeze(-1)
        loc, scale = (part.expand(*shape, -1).gather(-1, chosen).squeeze(-1) for part in (self.loc, self.scale))
        return torch.where(self.exists, loc + scale * torch.randn_like(loc), 0.0)


def at_positions(numbers: Tensor, positions: Tensor, features: int) -> Tensor:
    """Numbers at their positions ``(..., P)`` among all, shape ``(..., F)``; 0 elsewhere."""
    # Added, not assigned: positions that do not count share their place with one that may.
    return numbers.new_zeros(*numbers.shape[:-1], features).scatter_add(-1, positions, numbers)


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
    return _position((log_weights - log_weights.amax(dim=-1, keepdim=True)).exp().cumsum(dim=-1))


def _position(sums: Tensor) -> Tensor:
    """Draw positions ``(...)`` in proportion to weights whose running sums ``(..., K)`` are given."""
    # A uniform number below 1 keeps the height below the last sum, so that what is chosen has a positive weight.
    height = torch.rand(sums.shape[:-1], dtype=sums.dtype, device=sums.device).unsqueeze(-1) * sums[..., -1:]
    return (sums <= height).sum(dim=-1)


def _broadcast(*shapes: Size) -> Size:
    return Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
