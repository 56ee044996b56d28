"""What the harness asks of anything that generates recipes, and the designer as one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import OnInterval, RecipeDesigner
from pyro_hcvae.evaluation.adherence import density_drops
from pyro_hcvae.evaluation.reconstruction import (
    ONE_MEMBER,
    held_out_density,
    log_density,
    rates,
    reconstruction_r2,
)
from pyro_hcvae.inference.config import RunConfig

if TYPE_CHECKING:
    from pyro_hcvae.evaluation.fold import Fold


class Generator(Protocol):
    """Fitted on training rows; draws recipes for given conditions and a wanted performance.

    Attributes:
        name: What the command line and tables of scores call it.
    """

    name: str

    def fit(self, table: RecipeTable, *, seed: int) -> Self:
        """Learn from training rows.

        Args:
            table: Training rows.
            seed: Fixes whatever is random in the fit.
        """
        ...

    def sample(self, conditions: pd.DataFrame, draws_per_row: int, *, seed: int) -> pd.DataFrame:
        """Draw recipes, as the generator hands them out: nothing is filtered or repaired.

        Args:
            conditions: Condition columns and the performance column (what is wanted), ``B`` rows.
            draws_per_row: Draws for each row, at least 1.
            seed: Fixes the draws.

        Returns:
            ``B * draws_per_row`` rows with the columns ``schema.columns``. The index is the label of the row of ``conditions``
            that a draw belongs to; draws of one row are adjacent, in the order of the rows.
        """
        ...


class Fits:
    """Fits designers with given settings. The last one is kept, for whoever asks for the same again.

    Args:
        config: Settings; the seed is replaced.
        on_interval: Called after each interval of training.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(
        self, config: RunConfig, *, on_interval: OnInterval = lambda trainer: None, device: str = "auto"
    ) -> None:
        self._config, self._on_interval, self._device = config, on_interval, device
        self._last: tuple[RecipeTable, int, RecipeDesigner] | None = None

    def __call__(self, table: RecipeTable, seed: int) -> RecipeDesigner:
        """A designer that was fitted on this very table with this seed."""
        if self._last is None or self._last[0] is not table or self._last[1] != seed:
            train = self._config.train.model_copy(update={"seed": seed})
            designer = RecipeDesigner(table.schema, model=self._config.model, train=train)
            designer.fit(table, on_interval=self._on_interval, device=self._device)
            self._last = (table, seed, designer)
        return self._last[2]


class Designer:
    """The hierarchical cVAE as a generator.

    Args:
        fits: Where its fits come from. Generators that only draw differently share a fit, whose time the first reports.
        draws: Importance draws of the densities, for each member.
        borrowed: As for `RecipeDesigner.sample`.
        guidance: Likewise.
        name: What tables of scores call it.
    """

    def __init__(
        self, fits: Fits, *, draws: int = 256, borrowed: float = 0.0, guidance: int = 1, name: str = "hcvae"
    ) -> None:
        self.name, self._fits, self._draws = name, fits, draws
        self._borrowed, self._guidance = borrowed, guidance

    def fit(self, table: RecipeTable, *, seed: int) -> Self:
        """Train all members; see `Generator.fit`."""
        self.designer = self._fits(table, seed)
        return self

    def sample(self, conditions: pd.DataFrame, draws_per_row: int, *, seed: int) -> pd.DataFrame:
        """Unfiltered draws, by all members in turn; see `Generator.sample`."""
        draws = self.designer.sample(
            conditions, draws_per_row, borrowed=self._borrowed, guidance=self._guidance, seed=seed
        )
        return pd.concat(draws)

    def own_scores(self, fold: Fold) -> dict[str, float]:
        """What only a model with a density and latents can be asked: held-out and training density, rates, reconstruction.

        Nothing of draws that are chosen among others or borrow: they have no density, and the model's scores are those of plain
        draws.
        """
        if self._guidance > 1 or self._borrowed:
            return {}
        designer, held, seed, draws = self.designer, fold.held, fold.seed, self._draws

        def density(frame: pd.DataFrame) -> NDArray[np.float64]:
            nats = log_density(designer, replace(held, frame=frame), draws=max(draws // 4, 1), seed=seed)
            return sum((x.double().numpy() for name, x in nats.items() if name != ONE_MEMBER), np.zeros(len(frame)))

        order = np.random.default_rng(seed).permutation(len(fold.seen))[: len(held)]
        seen = held_out_density(designer, fold.seen.select(order), draws=draws, seed=seed)["log p recipe [nats]"]
        return {
            **held_out_density(designer, held, draws=draws, seed=seed),
            "log p recipe, training [nats]": seen,
            **density_drops(density, designer.schema, held.frame, seed=seed),
            **rates(designer, held, seed=seed),
            **reconstruction_r2(designer, held, seed=seed),
        }
