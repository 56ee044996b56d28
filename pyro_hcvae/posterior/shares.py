"""Some shares of a whole given, the others open: how well a draw of the latents explains the given ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_hcvae.model.likelihoods import Numbers

_SMALLEST = 1e-6
"""Stands in for a share that the given ones leave no room for; its draw gets no weight."""


@dataclass(frozen=True)
class OpenShares:
    r"""Shares of one whole, of which some are given.

    With shares :math:`x` of the present components, :math:`U` those that are open, what is known are the log ratios

    .. math:: t_k = \ln\big(x_k \big/ \textstyle\sum_{u \in U} x_u\big)

    of the given ones, and what is open are the log ratios :math:`v` among :math:`U`. The map from :math:`(v, t)` to the log
    ratios that the model draws has a Jacobian of 1, whichever components are present, so that :math:`p(v, t)` is the model's own
    density at the shares as a whole, and comparable between sets of components.

    Attributes:
        presence: Site of the whole's presences.
        given: Parts of 1, 0 where open, shape ``(F,)``.
        known: Which are given, shape ``(F,)``, bool.
        loc: Of the standardised log ratios, shape ``(F,)``.
        scale: Their standard deviations, shape ``(F,)``.
    """

    presence: str
    given: Tensor
    known: Tensor
    loc: Tensor
    scale: Tensor

    def complete(self, ratios: Numbers, presence: Tensor) -> tuple[Tensor, Tensor]:
        r"""Draw the open shares beside the given ones.

        All open shares but one are drawn from the model as if there were no given ones, by their ratio to the reference, and
        one takes up the rest. The weight makes up for that.

        .. math:: \log p(r) - \log q(r_{drawn}) + \log |\partial v / \partial r_{drawn}|

        Args:
            ratios: Distribution of the standardised log ratios, batch shape ``(M, B)``.
            presence: Which components are present, 0/1, shape ``(M, B, F)``.

        Returns:
            Standardised log ratios ``(M, B, F)``, and the log weight ``(M, B)``, in nats; ``-inf`` where nothing is there to
            take up what the given shares leave.
        """
        present = presence > 0.5
        reference = present & (present.cumsum(-1) == 1)
        free = present & ~self.known
        # The one that takes up the rest: the reference, to which ratios are drawn, or the last one if the reference is given.
        by_reference = (reference & ~self.known).any(-1, keepdim=True)
        last = free & (free.flip(-1).cumsum(-1).flip(-1) == 1)
        rest = torch.where(by_reference, reference, last)
        drawn = free & ~rest
        proposal = ratios.only(drawn)
        r = proposal.sample()
        ratio = torch.where(drawn, (r * self.scale + self.loc).clamp(max=80.0).exp(), 0.0)

        left = 1.0 - self.given.sum()
        of_reference = left / (1.0 + ratio.sum(-1, keepdim=True))
        unit = torch.where(by_reference, of_reference, (self.given * reference).sum(-1, keepdim=True))
        taken = unit * ratio
        last_share = left - taken.sum(-1, keepdim=True)
        shares = torch.where(rest, last_share.clamp(min=_SMALLEST), taken) + self.given * present
        safe = torch.where(present, shares.clamp(min=_SMALLEST), 1.0)
        log_ratio = safe.log() - (safe.log() * reference).sum(-1, keepdim=True)
        out = torch.where(present & ~reference, (log_ratio - self.loc) / self.scale, 0.0)

        stretch = torch.where(by_reference, 0.0, left.log() - last_share.clamp(min=_SMALLEST).log()).squeeze(-1)
        # Densities of standardised ratios -> of the ratios themselves: sets of components differ in how many have one.
        kept = present & ~reference & ~drawn
        weight = ratios.log_prob(out) - proposal.log_prob(r) + stretch - (kept * self.scale.log()).sum(-1)
        possible = rest.any(-1) & (last_share.squeeze(-1) > _SMALLEST)
        return out, torch.where(possible, weight, -torch.inf)
