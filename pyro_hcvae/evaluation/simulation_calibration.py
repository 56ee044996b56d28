r"""Simulation-based calibration of the guide, and of the prior against the aggregate posterior.

**Of the guide.** With :math:`z \sim p(z \mid c)` and :math:`x \sim p(x \mid z, c)`, the :math:`z` behind :math:`x` and draws
from the true posterior are exchangeable: the rank of :math:`z` among draws of :math:`q(z \mid x, c)` is uniform if the guide is
the posterior (Talts et al. 2018). Ranks of single latents cannot tell a guide that ignores :math:`x` (it is the prior, which has
uniform ranks too); the rank of :math:`\log p(x \mid z, c)` can (Modrak et al. 2023), and stands beside them.

**Of the prior.** If the model holds, :math:`z \sim q(z \mid x, c)` for real recipes follows the prior :math:`p(z \mid c)` as a
whole, and :math:`\Phi\big((z_l - \mu_l(z_{<l}, c)) / \sigma_l(z_{<l}, c)\big)` is uniform for each unit. Where it is not, draws
from the prior are recipes of regions where no real recipe is, or leave regions out.

References:
    Talts et al. (2018), Validating Bayesian Inference Algorithms with Simulation-Based Calibration, arXiv:1804.06788
    Modrak et al. (2023), Simulation-Based Calibration Checking for Bayesian Computation, arXiv:2211.02383
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro import poutine
from scipy.special import ndtr
from torch import Tensor

from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.evaluation.calibration import randomised_pit
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.importance import effective_sample_size
from pyro_hcvae.posterior.predictive import drawing_scope

Floats = NDArray[np.float64]
FIT = "log p(x | z, c)"
"""Name of the rank that depends on the data."""


class Programs(Protocol):
    """A model and its guide."""

    @property
    def model(self) -> Callable[[RecipeBatch], object]:
        """``p(z, x | c)``; sites that the batch lacks are drawn."""
        ...

    @property
    def guide(self) -> Callable[[RecipeBatch], object]:
        """``q(z | x, c)``."""
        ...


Observe = Callable[[RecipeBatch, Mapping[str, Tensor]], RecipeBatch]
"""Conditions ``(M, B)`` and drawn values of the observed sites -> the batch in which they are observed."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of what was drawn among the guide's draws, as values within 0 to 1.

    Attributes:
        guide: Among draws of the guide; a column for each unit of each latent, and `FIT`; rows are members x conditions.
        resampled: Among draws that were resampled by their importance weights; the same shape.
        effective: Effective sample size of the weights, shape ``(M * B,)``.
    """

    guide: pd.DataFrame
    resampled: pd.DataFrame
    effective: Floats


def guide_ranks(
    programs: Programs,
    conditions: RecipeBatch,
    observe: Observe,
    *,
    draws: int = 100,
    proposals: int = 1000,
    seed: int = 0,
) -> Ranks:
    """Simulate once for each member and row, and rank the latents behind each simulation.

    Args:
        programs: The model and its guide.
        conditions: Shape ``(M, B)``; only the conditions are used.
        observe: Makes a batch of what was simulated.
        draws: Draws that ranks are among.
        proposals: Draws of the guide from which as many are resampled.
        seed: Fixes everything drawn.
    """
    members, rows = conditions.shape
    rng = np.random.default_rng(seed)
    asked = replace(conditions, values={}, known={})
    with drawing_scope(seed):
        truth = poutine.trace(programs.model).get_trace(asked)
        latents = _sites(poutine.trace(programs.guide).get_trace(conditions))
        values = {name: truth.nodes[name]["value"] for name in _sites(truth) if name not in latents}
        batch = observe(asked, values)
        replayed = poutine.trace(poutine.replay(programs.model, trace=truth)).get_trace(batch)
        own = _quantities(latents, replayed, members * rows)
        found, log_weight = _propose(programs, batch, latents, proposals)
        weights = torch.softmax(log_weight.double(), dim=0)
        chosen = torch.multinomial(weights.T, draws, replacement=True).T  # (S, n)
    names = [f"{name}[{i}]" for name in latents for i in range(truth.nodes[name]["value"].shape[-1])] + [FIT]
    again = np.take_along_axis(found, chosen.numpy()[:, :, None], axis=0)
    guide, resampled = (pd.DataFrame(randomised_pit(some, own, rng), columns=names) for some in (found[:draws], again))
    return Ranks(guide, resampled, effective_sample_size(log_weight.T.double()).numpy())


def _propose(programs: Programs, batch: RecipeBatch, latents: list[str], count: int) -> tuple[Floats, Tensor]:
    """Draws of the guide as quantities ``(S, M * B, Q)``, and their log weights ``(S, M * B)``."""
    found, weights = [], []
    for _ in range(count):
        guide = poutine.trace(programs.guide).get_trace(batch)
        model = poutine.trace(poutine.replay(programs.model, trace=guide)).get_trace(batch)
        found.append(_quantities(latents, model, batch.shape[0] * batch.shape[1]))
        guide.compute_log_prob()
        ratios = [model.nodes[name]["log_prob"] - guide.nodes[name]["log_prob"] for name in latents]
        weights.append(torch.stack(ratios).sum(0).flatten() + torch.as_tensor(found[-1][:, -1]))
    return np.stack(found), torch.stack(weights)


def _quantities(latents: list[str], trace: poutine.Trace, count: int) -> Floats:
    """Each unit of each latent, and the log likelihood, of a trace; shape ``(M * B, Q)``."""
    trace.compute_log_prob()
    z = [trace.nodes[name]["value"].double().reshape(count, -1) for name in latents]
    observed = [trace.nodes[name]["log_prob"].double() for name in trace.observation_nodes]
    fit = torch.stack(observed).sum(0).reshape(count, 1)
    return torch.cat([*z, fit], dim=-1).numpy()


def observe_recipes(model: HierarchicalCVAE) -> Observe:
    """How drawn recipes are observed: every structure, and the numbers that exist under it."""

    def observe(batch: RecipeBatch, values: Mapping[str, Tensor]) -> RecipeBatch:
        known = {name: torch.ones_like(x, dtype=torch.bool) for name, x in values.items()}
        for stage in model.stages:
            for block in stage.blocks:
                if block.numbers_site is not None:
                    known[block.numbers_site] = block.applies(values[block.structure_site])
        return replace(batch, values=dict(values), known=known)

    return observe


def prior_ranks(programs: Programs, batch: RecipeBatch, *, seed: int = 0) -> pd.DataFrame:
    """Where one posterior draw of each recipe lies in the prior of its conditions and of the latents above it.

    Args:
        programs: The model and its guide; latents of the model are Gaussian.
        batch: Real recipes, shape ``(M, B)``, one row a recipe.
        seed: Fixes the draws.

    Returns:
        Values within 0 to 1, a column for each unit of each latent; rows are members x recipes.
    """
    columns: dict[str, Floats] = {}
    with drawing_scope(seed):
        guide = poutine.trace(programs.guide).get_trace(batch)
        model = poutine.trace(poutine.replay(programs.model, trace=guide)).get_trace(batch)
        for name in _sites(guide):
            prior = model.nodes[name]["fn"]
            standard = (
                ((guide.nodes[name]["value"] - prior.mean) / prior.variance.sqrt()).double().flatten(0, 1).numpy()
            )
            columns |= {f"{name}[{i}]": ndtr(standard[:, i]) for i in range(standard.shape[-1])}
    return pd.DataFrame(columns)


def _sites(trace: poutine.Trace) -> list[str]:
    """Sites of a trace that are sampled, plates left out."""
    return [
        name
        for name, node in trace.nodes.items()
        if node["type"] == "sample" and not poutine.util.site_is_subsample(node)
    ]
