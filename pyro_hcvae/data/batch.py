"""`RecipeBatch`: encoded recipes as the model sees them, and the packed rows that they are cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.schema import RecipeSchema


@dataclass(frozen=True)
class RecipeBatch:
    """Recipes, their conditions, and what is known of them.

    Attributes:
        conditions: Standardised condition features, shape ``(M, B, C)``, finite everywhere.
        conditions_known: Which of them are known, same shape, bool.
        values: Observed sites by name, shape ``(M, B)`` or ``(M, B, F)``, finite everywhere. A site that is missing
            here is sampled by the model.
        known: For each site in ``values``, where its value counts: same shape, bool. Amounts of absent components and
            settings of steps that were not carried out do not exist, hence are not known.
    """

    conditions: Tensor
    conditions_known: Tensor
    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    _inputs: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Members and rows."""
        return int(self.conditions.shape[0]), int(self.conditions.shape[1])

    def condition_inputs(self, frequencies: int = 0) -> Tensor:
        """Conditions as network input; the same tensor at every call.

        Args:
            frequencies: Of the `periodic` features beside the plain ones.

        Returns:
            Features, 0 where unknown, and which are known, shape ``(M, B, 2 C (1 + frequencies))``.
        """
        if frequencies not in self._inputs:
            known = self.conditions_known.to(self.conditions.dtype)
            shown = [self.conditions * known, known]
            if frequencies:
                waves = periodic(self.conditions, frequencies) * known.repeat(1, 1, 2 * frequencies)
                shown.append(waves)
            self._inputs[frequencies] = torch.cat(shown, dim=-1)
        return self._inputs[frequencies]

    def blur(self, noise: Tensor, keep: Tensor) -> RecipeBatch:
        """Disturb the conditions, so that they tell less about which laboratory a row is from.

        Args:
            noise: Added to the features, shape ``(M, B, C)``.
            keep: Features that stay known, bool, same shape.
        """
        return replace(self, conditions=self.conditions + noise, conditions_known=self.conditions_known & keep)

    def conditions_only(self) -> RecipeBatch:
        """The same conditions with nothing observed: the model then generates."""
        return replace(self, values={}, known={})

    def hide(self, hidden: Mapping[str, Tensor]) -> RecipeBatch:
        """Take some sites of some rows out of sight.

        Args:
            hidden: For a site, rows that lose it, shape ``(M, B)``, bool.
        """
        known = dict(self.known)
        for name, rows in hidden.items():
            mask = known[name]
            known[name] = mask & ~(rows if mask.dim() == rows.dim() else rows.unsqueeze(-1))
        return replace(self, known=known)

    def repeat_rows(self, times: int) -> RecipeBatch:
        """Each row ``times`` times in succession, rows axis ``B * times``."""
        return self._map(lambda x: x.repeat_interleave(times, dim=1))

    def rows(self, start: int, stop: int) -> RecipeBatch:
        """A slice along the rows axis."""
        return self._map(lambda x: x[:, start:stop])

    def expand_members(self, members: int) -> RecipeBatch:
        """The same rows for every member, from a batch with one member."""
        return self._map(lambda x: x.expand(members, *x.shape[1:]))

    def _map(self, function) -> RecipeBatch:  # type: ignore[no-untyped-def]
        return RecipeBatch(
            function(self.conditions),
            function(self.conditions_known),
            {name: function(x) for name, x in self.values.items()},
            {name: function(x) for name, x in self.known.items()},
        )


@dataclass(frozen=True)
class Levels:
    """Gaussians that a site's numbers start from, standardised; each of shape ``(F, K)``.

    Attributes:
        log_weights: Logs of their shares.
        loc: Means.
        scale: Standard deviations; 0 for a single value.
    """

    log_weights: Tensor
    loc: Tensor
    scale: Tensor


def periodic(x: Tensor, frequencies: int) -> Tensor:
    r"""Sines and cosines of standardised numbers: ``(..., C) -> (..., 2 C K)``.

    .. math:: \sin(2^k \pi x / 4), \; \cos(2^k \pi x / 4), \qquad k = 0 \dots K - 1

    A network of the plain numbers is smooth in them; these let it tell values apart that lie close together.

    References:
        Gorishniy et al. (2022), On Embeddings for Numerical Features in Tabular Deep Learning, arXiv:2203.05556
    """
    scales = torch.pi / 4 * 2.0 ** torch.arange(frequencies, dtype=x.dtype, device=x.device)
    angles = (x.unsqueeze(-2) * scales.unsqueeze(-1)).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Layout:
    """Where each site lies in a packed row.

    Packed rows are one float32 tensor ``(..., W)``: condition features first, then the sites in sampling order. NaN marks
    what is not known or does not exist, so that one gather brings a whole minibatch.
    """

    def __init__(self, schema: RecipeSchema, condition_features: int) -> None:
        self.condition_features = condition_features
        self.blocks = len(schema.blocks)
        self.slices: dict[str, slice] = {}
        self.scalar: set[str] = set()
        offset = condition_features
        for name, size in sites.observed(schema).items():
            width = 1 if size is None else size
            if size is None:
                self.scalar.add(name)
            self.slices[name] = slice(offset, offset + width)
            offset += width
        self.width = offset

    def unpack(self, packed: Tensor) -> RecipeBatch:
        """Cut packed rows ``(M, B, W)`` into a batch."""
        known = ~torch.isnan(packed)
        filled = torch.nan_to_num(packed)
        values, masks = {}, {}
        for name, place in self.slices.items():
            if name in self.scalar:
                values[name] = filled[..., place.start]
                masks[name] = known[..., place.start]
            else:
                values[name] = filled[..., place]
                masks[name] = known[..., place]
        c = self.condition_features
        return RecipeBatch(filled[..., :c], known[..., :c], values, masks)

    def unpack_conditions(self, conditions: Tensor) -> RecipeBatch:
        """A batch with nothing observed, from the condition features ``(M, B, C)`` of packed rows."""
        return RecipeBatch(torch.nan_to_num(conditions), ~torch.isnan(conditions), {}, {})

    def pack(self, values: Mapping[str, Tensor], conditions: Tensor) -> Tensor:
        """Join sampled sites and conditions ``(M, B, C)`` into packed rows ``(M, B, W)``."""
        parts = [conditions]
        for name in self.slices:
            site = values[name].to(conditions.dtype)
            parts.append(site.unsqueeze(-1) if name in self.scalar else site)
        return torch.cat(parts, dim=-1)
