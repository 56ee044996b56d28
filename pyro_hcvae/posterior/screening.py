"""`Screen`: many independent draws, each checked and judged as a proposal is, in pieces that fit into any memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from pyro_hcvae.chemistry.rules import FeasibilityRule
from pyro_hcvae.constraints.feasibility import feasible
from pyro_hcvae.constraints.language import Shared
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.table import PROPOSAL_PREFIX
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.annotations import predicted_columns
from pyro_hcvae.posterior.asked import Asked
from pyro_hcvae.posterior.candidates import Candidates, Goal
from pyro_hcvae.posterior.conditional import draw_from_guide
from pyro_hcvae.posterior.performance import PerformancePredictor
from pyro_hcvae.posterior.predictive import CHUNK_ROWS, drawing_scope, mixed_seed
from pyro_hcvae.posterior.proposals import Request, allowed_recipes, excluded_recipes, hard_rules
from pyro_hcvae.posterior.reasons import KnownRecipes

PIECE_DRAWS = 20_000
"""Some seconds of work."""


@dataclass(frozen=True)
class Screened:
    """What came of one piece.

    Attributes:
        frame: One row a distinct recipe that may be proposed, in the order of the draws: schema columns (the performance is
            empty), then columns that begin with ``proposal:``, as in `Proposals.frame`.
        drawn: Draws made.
        valid: Of these, structurally valid ones.
        novel: Of these, recipes that are neither in the table nor pending.
        allowed: Of these, ones that satisfy the constraints and break no hard rule.
    """

    frame: pd.DataFrame
    drawn: int
    valid: int
    novel: int
    allowed: int


@dataclass(frozen=True)
class Screen:
    """Draws for one set of conditions, neither searched for nor ranked; each piece a pure function of its number.

    What constraints pin for certain is given to the model, which draws the rest (as a search starts); what they say beyond that
    is checked, and draws that break it are dropped.

    Attributes:
        model: Trained members, which take turns.
        asked: Conditions and constraints.
        predictor: Of the performance.
        goal: What is wanted of it.
        excluded: Recipes that are not kept: those of the table, and those under way.
        hard: Rules that no recipe may break.
        request: What was asked for; ``n`` is the number of draws.
        least_probability: Recipes that meet the goal with less than this are dropped.
        piece_draws: Draws of a piece; part of what a seed reproduces.
    """

    model: HierarchicalCVAE
    asked: Asked
    predictor: PerformancePredictor
    goal: Goal
    excluded: pd.DataFrame
    hard: Sequence[FeasibilityRule]
    request: Request
    least_probability: float = 0.0
    piece_draws: int = PIECE_DRAWS

    @classmethod
    def of(
        cls,
        model: HierarchicalCVAE,
        codec: RecipeCodec,
        known: KnownRecipes,
        predictor: PerformancePredictor,
        request: Request,
        *,
        least_probability: float = 0.0,
    ) -> Self:
        """Prepare a screening.

        Raises:
            InputError: If the request makes no sense, or if nothing can satisfy it (names the conflict).
        """
        if not 0 <= least_probability < 1:
            raise InputError(f"the least probability must be at least 0 and below 1, got {least_probability:g}")
        if request.within is not None and not request.within > 0:
            raise InputError(f"within must be above 0, got {request.within:g}")
        if shared := [str(item) for item in request.constraints.items if isinstance(item, Shared)]:
            raise InputError(
                f"constraint {shared[0]!r} is about a short list of recipes, not about a screening: fix a value instead, e.g. "
                f"'{shared[0].removeprefix('same ')} = ...'"
            )
        if (conflict := feasible(request.constraints)) is not None:
            raise InputError(str(conflict))
        schema = codec.schema
        goal = Goal(request.conditions.row[schema.performance.name], request.within)
        asked = Asked(codec, request.conditions, request.constraints, known.written)
        hard = hard_rules(schema, known.table.frame)
        excluded = excluded_recipes(known, request, asked)
        return cls(model, asked, predictor, goal, excluded, hard, request, least_probability)

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return -(-self.request.n // self.piece_draws)

    def settings(self) -> dict[str, Any]:
        """What decides about the rows, as JSON can hold it: numbers and words, and digests of what is large."""
        request, schema = self.request, self.asked.codec.schema
        weights = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        excluded = np.sort(row_hashes(self.excluded, list(schema.recipe_columns)))
        return {
            "draws": request.n,
            "seed": request.seed,
            "conditions": {name: float(value) for name, value in self.asked.conditions.row.items()},
            "within": request.within,
            "constraints": [str(item) for item in request.constraints.items],
            "prices": {name: float(price) for name, price in sorted(request.constraints.prices.items())},
            "least_probability": self.least_probability,
            "recipes left out": hashlib.sha256(excluded.tobytes()).hexdigest(),
            "weights of the run": weights.hexdigest(),
            "draws of a piece": self.piece_draws,
        }

    def piece(self, number: int) -> Screened:
        """Draw, round, check and judge one piece; the same wherever and whenever it is done."""
        asked, request = self.asked, self.request
        allowed = partial(allowed_recipes, request, self.hard)
        candidates = Candidates(
            asked.codec, asked.settle, self.predictor, asked.conditions, self.goal, self.excluded, allowed
        )
        candidates.weigh(self._draw(number))
        recipes, predicted = candidates.found()
        good = predicted["probability"].to_numpy(np.float64) >= self.least_probability
        recipes, predicted = recipes[good].reset_index(drop=True), predicted[good].reset_index(drop=True)
        performance = asked.codec.schema.performance
        at = pd.DataFrame({**asked.conditions.row, performance.name: np.nan}, index=recipes.index)
        at = at.reindex(columns=[*asked.codec.schema.condition_columns, performance.name])
        said = predicted_columns(performance, self.goal, predicted).add_prefix(PROPOSAL_PREFIX)
        frame = pd.concat([recipes, at, said], axis=1)
        return Screened(frame, candidates.drawn, candidates.valid, candidates.novel, candidates.allowed_count)

    def _draw(self, number: int) -> torch.Tensor:
        """Packed draws of a piece ``(S, W)``, the members in turn."""
        members, given = self.model.members, self.asked.given()
        count = min(self.piece_draws, self.request.n - number * self.piece_draws)
        rows = max(1, CHUNK_ROWS // members)
        parts = []
        with drawing_scope(mixed_seed(self.request.seed, number), given.batch.conditions.device, rows=members * rows):
            for start in range(0, count, members * rows):
                each = -(-min(members * rows, count - start) // members)
                drawn = draw_from_guide(self.model, given.expand(members, each), self.asked.codec.layout.pack)
                parts.append(drawn.packed.transpose(0, 1).flatten(0, 1))
        return torch.cat(parts)[:count].cpu()
