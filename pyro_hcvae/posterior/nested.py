"""`nested_draws`: recipes predicted several times for each draw of the latents, to tell apart where their spread comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Categorical
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.predictive import drawing_scope, structure_only

_CHUNK = 16384
"""Members x rows x draws of one pass."""


@dataclass(frozen=True)
class NestedDraws:
    """Draws of recipes, several for each draw of the latents, axes ``(S, R, M, B, event)``.

    Attributes:
        latents: Latents by site, shape ``(S, M, B, D)``.
        free: Values of every observed site.
        probabilities: For structure sites, of each component, code or state, given the latents and what was drawn before it.
        own: Values of every observed site with the given recipe's own structure; empty where none was given.
        log_likelihood: ``log p(x | z, c)`` of each known site of the given recipes, shape ``(S, M, B)``, in nats; never weighted.
        log_ratio: For each latent, ``log p(z_l | z_<l, c) - log q(z_l | z_<l, x, c)``, shape ``(S, M, B)``, in nats.
    """

    latents: dict[str, Tensor]
    free: dict[str, Tensor]
    probabilities: dict[str, Tensor]
    own: dict[str, Tensor]
    log_likelihood: dict[str, Tensor]
    log_ratio: dict[str, Tensor]

    @property
    def log_weight(self) -> Tensor:
        """Importance weight of each draw, ``log p(x, z | c) - log q(z | x, c)``, shape ``(S, M, B)``, in nats.

        Raises:
            ValueError: If no recipe was given.
        """
        if not self.log_likelihood:
            raise ValueError("without a recipe there is nothing to weigh")
        return torch.stack([*self.log_likelihood.values(), *self.log_ratio.values()]).sum(0)


def nested_draws(
    model: HierarchicalCVAE, batch: RecipeBatch, draws: int, repeats: int = 1, *, seed: int
) -> NestedDraws:
    """What the model expects around recipes, or for conditions alone, split into latents and what follows from them.

    ``z ~ q(z | x, c)``, then ``repeats`` times ``x' ~ p(x' | z, c)``, by every member. Where nothing of a recipe is known the
    guide is the prior, and draws are those of ``p(x' | c)``.

    Args:
        model: Trained members.
        batch: One member axis of size 1, shape ``(1, B)``; shown to every member. Either whole recipes or none of any.
        draws: Draws of the latents for each member, ``S``.
        repeats: Recipes for each of them, ``R``.
        seed: Fixes the draws.
    """
    members, rows = model.members, batch.shape[1]
    shown = batch.expand_members(members)
    given = any(bool(known.any()) for known in batch.known.values())
    size = max(1, _CHUNK // (members * rows))
    parts: list[dict[str, dict[str, Tensor]]] = []
    with drawing_scope(seed, batch.conditions.device):
        for start in range(0, draws, size):
            count = min(size, draws - start)
            # Draws of the latents stand beside each other as rows: a few large passes instead of many small ones.
            once, repeated = _draw(model, shown.repeat_rows(count), repeats, given=given)
            parts.append(
                {kind: {name: _draws_first(x, 1, count) for name, x in some.items()} for kind, some in once.items()}
                | {
                    kind: {name: _draws_first(x, 2, count) for name, x in some.items()}
                    for kind, some in repeated.items()
                }
            )
    joined = {
        kind: {name: torch.cat([part[kind][name] for part in parts]) for name in some}
        for kind, some in parts[0].items()
    }
    return NestedDraws(**joined)


def _draw(
    model: HierarchicalCVAE, batch: RecipeBatch, repeats: int, *, given: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """For one draw of the latents a row: what there is once, ``(M, B, ...)``, and what is repeated, ``(R, M, B, ...)``."""
    guide = poutine.trace(model.guide).get_trace(batch)
    replayed = poutine.replay(model.model, trace=guide)
    nothing, structure = batch.conditions_only(), structure_only(model, batch)
    once: dict[str, dict[str, Tensor]] = {
        "latents": {name: guide.nodes[name]["value"] for name in sites.latents(model.schema)},
        "log_likelihood": {},
        "log_ratio": {},
    }
    if given:
        trace = poutine.trace(replayed).get_trace(batch)
        trace.compute_log_prob()
        once["log_likelihood"] = {name: trace.nodes[name]["log_prob"] for name in batch.values}
        once["log_ratio"] = {
            name: trace.nodes[name]["fn"].log_prob(z) - guide.nodes[name]["fn"].log_prob(z)
            for name, z in once["latents"].items()
        }
    traces = [poutine.trace(replayed).get_trace(nothing) for _ in range(repeats)]
    repeated: dict[str, dict[str, Tensor]] = {
        "free": _stacked([_values(model, trace) for trace in traces]),
        "probabilities": _stacked([_probabilities(model, trace) for trace in traces]),
        "own": _stacked([_values(model, poutine.trace(replayed).get_trace(structure)) for _ in range(repeats)])
        if given
        else {},
    }
    return once, repeated


def _draws_first(x: Tensor, axis: int, count: int) -> Tensor:
    """Rows on ``axis`` that hold ``count`` draws each in succession -> a first axis of draws."""
    return x.view(*x.shape[:axis], -1, count, *x.shape[axis + 1 :]).movedim(axis + 1, 0)


def _values(model: HierarchicalCVAE, trace: poutine.Trace) -> dict[str, Tensor]:
    return {name: trace.nodes[name]["value"] for name in sites.observed(model.schema)}


def _probabilities(model: HierarchicalCVAE, trace: poutine.Trace) -> dict[str, Tensor]:
    """Of each component, code or state, by structure site, shape ``(M, B, K)``."""
    found: dict[str, Tensor] = {}
    for block in model.schema.blocks:
        name = next(iter(sites.of_block(block)))
        fn: Any = trace.nodes[name]["fn"]
        found[name] = fn.probs if isinstance(fn, Categorical) else fn.mean
    return found


def _stacked(some: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in some]) for name in some[0]}
