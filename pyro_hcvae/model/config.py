"""Settings of the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Compile = Literal["auto", "always", "never"]
"""Whether something is compiled ahead of time: if the planned work pays for it, always, or never."""


class ModelConfig(BaseModel):
    """Size and form of the hierarchical cVAE."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent_dims: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(8, 6, 4), min_length=1)
    """Latent size of each stage, top first; the last one serves all further stages."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(64, 64), min_length=1)
    """Widths of the hidden layers of every network."""
    condition_frequencies: int = Field(default=0, ge=0)
    """Sines and cosines by which each condition is shown beside its plain value, an octave apart; 0: the plain value alone. They
    raise the likelihood and lower the adherence to the performance asked for (docs/decisions/0010)."""
    presence: Literal["subset", "independent"] = "subset"
    """``subset``: presences conditioned on their number, valid by construction. ``independent``: plain Bernoullis."""
    mixture: Literal["levels", "free"] = "levels"
    """``levels``: the Gaussians of a number start at the values that the table holds, and the network weighs them. ``free``:
    the network also moves and widens them, recipe by recipe."""
    mixture_components: int = Field(default=24, ge=1)
    """Gaussians in the density of each number; 1 with ``free``: a single Gaussian."""
    chained: Literal["stage", "no"] = "stage"
    """Whether a block sees the blocks of its stage before it, and a number those of its block before it, beside the latents."""
    scale_floor: float = Field(default=0.05, gt=0)
    """Smallest standard deviation of a standardised number: the accuracy to which recipes are written down."""

    def latent_dim(self, stage: int) -> int:
        """Latent size of the stage at a position."""
        return self.latent_dims[min(stage, len(self.latent_dims) - 1)]
