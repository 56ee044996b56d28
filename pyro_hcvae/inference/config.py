"""Settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pyro_hcvae.inference.schedules import BETA_FLOOR
from pyro_hcvae.model.config import Compile, ModelConfig

Positive = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=BETA_FLOOR)]
Share = Annotated[float, Field(ge=0, le=1)]
Unseen = Literal["recipe", "composition", "laboratory"]
PerMember = Literal["learning_rate", "beta_warmup", "final_beta"]
PER_MEMBER: tuple[PerMember, ...] = get_args(PerMember)


_UNSEEN_LABORATORY: Mapping[str, float] = {
    "steps": 2000,
    "learning_rate": 1e-3,
    "condition_jitter": 1.0,
    "condition_dropout": 0.7,
    "refit": False,
}


class TrainConfig(BaseModel):
    """How the members are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(default=5, ge=1)
    """Replicates trained at once: own initial values, own validation recipes, own minibatches."""
    seed: int = Field(default=0, ge=0, le=2**31)
    """Member ``m`` draws everything from ``seed + m``."""
    steps: int = Field(default=3000, ge=1)
    """Longest training, in minibatches."""
    batch_size: int = Field(default=64, ge=1)
    """Recipes in a minibatch, one random row of each."""
    learning_rate: Positive | tuple[Positive, ...] = 2e-3
    """Peak of the cosine schedule; one value, or one a member."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay of AdamW."""
    clip_norm: float = Field(default=5.0, gt=0)
    """Largest norm of one member's gradient."""
    beta_warmup: Share | tuple[Share, ...] = 0.3
    """Share of the steps over which beta rises to 1; one value, or one a member."""
    final_beta: Beta | tuple[Beta, ...] = 1.0
    """Value that beta rises to; one value, or one a member. At 1 the objective is a bound of the likelihood."""
    gamma: Literal["balanced"] | tuple[Positive, ...] | tuple[tuple[Positive, ...], ...] = "balanced"
    """Layer factors: from the data as in NVAE, or fixed, top first; one list, or one a member."""
    gamma_release: bool = True
    """Whether the factors go to 1 with beta, or are held to the end."""
    hide_probability: float = Field(default=0.25, ge=0, le=1)
    """Share of rows of which the guide sees only some blocks, and whose bound is that of those blocks alone."""
    condition_jitter: float = Field(default=0.1, ge=0)
    """Noise on the conditions in training, in standard deviations: exact conditions are a laboratory's fingerprint."""
    condition_dropout: float = Field(default=0.1, ge=0, le=1)
    """Share of rows of which the model is told only some of the conditions."""
    validation_fraction: float = Field(default=0.15, gt=0, le=0.5)
    """Share of the groups that each member sets aside for early stopping."""
    validation_group: Unseen = "recipe"
    """What is kept whole when validation rows are set aside."""
    refit: bool = True
    """Whether each member, once its best step is known, is trained anew on all rows for as many steps. Those that stopped early
    are kept beside: they say how well recipes are met that were not learned from (docs/decisions/0018)."""
    broken_rule_weight: float = Field(default=0.1, gt=0, le=1)
    """How much a row that breaks a rule of the schema, advice aside, counts beside one that keeps all. A recipe comes as often as
    the mean of its rows counts, each of them as often as it counts, and they have as much say in early stopping."""
    compile: Compile = "auto"
    """Whether a step is compiled ahead of time: if the planned steps pay for it, always, or never."""
    jobs: int = Field(default=1, ge=1)
    """Processes among which the members are shared, one core each."""
    interval: int = Field(default=50, ge=1)
    """Steps between validations; a checkpoint is written at each."""
    patience: int = Field(default=20, ge=1)
    """Intervals without improvement, counted once beta has risen to its end, after which a member stops."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in PER_MEMBER:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.members:
                raise ValueError(f"{name}: {len(value)} values for {self.members} members")
        if self.gamma != "balanced" and isinstance(self.gamma[0], tuple) and len(self.gamma) != self.members:
            raise ValueError(f"gamma: {len(self.gamma)} lists for {self.members} members")
        return self

    def for_unseen(self, by: Unseen) -> TrainConfig:
        """The settings for recipes of what the table does not hold; those that were chosen by name stay as they are.

        Settings that were read from a complete file, e.g. one that a run has written, were all chosen.

        Args:
            by: ``recipe``: another recipe, in a laboratory like those of the table; ``composition``: other metals or supports;
                ``laboratory``: other feeds and contact times. Members then stop early by groups of that kind, and for other
                laboratories hardly listen to the conditions: what holds for those of the table holds there alone
                (docs/decisions/0015). Nor are they trained anew on all rows, which gains nothing there (0018).
        """
        usual = _UNSEEN_LABORATORY if by == "laboratory" else {}
        wanted = {**usual, "validation_group": by}
        update = {name: value for name, value in wanted.items() if name not in self.model_fields_set}
        return self.model_copy(update=update)

    def each(self, name: PerMember) -> tuple[float, ...]:
        """A setting of every member."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,) * self.members

    def fixed_gamma(self) -> tuple[tuple[float, ...], ...] | None:
        """Layer factors of every member, shape ``(M, L)``; None if they are balanced from the data."""
        if self.gamma == "balanced":
            return None
        rows = self.gamma if isinstance(self.gamma[0], tuple) else (self.gamma,) * self.members
        return tuple(tuple(float(g) for g in row) for row in rows if isinstance(row, tuple))

    def of_members(self, start: int, stop: int) -> TrainConfig:
        """Settings with which some of the members train alone."""
        fields = self.model_dump() | {"members": stop - start, "seed": self.seed + start, "jobs": 1}
        for name in PER_MEMBER:
            fields[name] = self.each(name)[start:stop]
        if (gamma := self.fixed_gamma()) is not None:
            fields["gamma"] = gamma[start:stop]
        return TrainConfig(**fields)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each member."""
        return tuple(range(self.seed, self.seed + self.members))


class RunConfig(BaseModel):
    """All settings of a run, as written to ``config.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
