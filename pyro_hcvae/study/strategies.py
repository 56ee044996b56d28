"""Who proposes the next batch in a closed loop: the designer, and what it must be worth its cost against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import pandas as pd

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.baselines.resampling import JitteredNearest
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.study.bayesian import BayesianOptimiser
from pyro_hcvae.study.space import RecipeSpace

_MARGIN = 10.0
"""What is asked for beyond the best prediction for a known recipe, in % of the range of the performance."""
_WARMUP = 0.8
"""Share of the steps over which beta rises: in so short a training, an early full weight would silence the latents."""
_SPARE = 2
"""Proposals made for each that is needed: some break a rule of the schema."""
_POOL = 50
"""Draws for each recipe that is needed: most are known, or against a rule."""


class Strategy(Protocol):
    """Proposes recipes on the grounds of a table of experiments and nothing else."""

    def propose(self, table: RecipeTable, conditions: Mapping[str, float], n: int, *, seed: int) -> pd.DataFrame:
        """Propose a batch.

        Args:
            table: All experiments so far.
            conditions: Value of every condition column at which the recipes will be measured.
            n: Recipes wanted.
            seed: Fixes the proposals.

        Returns:
            At most ``n`` rows in the schema's recipe columns, distinct, not in the table, in `RecipeSpace`.
        """
        ...


@dataclass(frozen=True)
class Proposer:
    """The designer, fitted anew on each table and asked for more than any known recipe would give.

    Attributes:
        members: Replicates of the model.
        steps: Length of a fit, in minibatches.
        learning_rate: Peak of its schedule.
    """

    members: int = 3
    steps: int = 200
    learning_rate: float = 4e-3

    def propose(self, table: RecipeTable, conditions: Mapping[str, float], n: int, *, seed: int) -> pd.DataFrame:
        """Fit, set a target, propose; see `Strategy.propose`."""
        space, designer = RecipeSpace(table.schema, dict(conditions)), self.fitted(table, seed)
        proposals = designer.propose(conditions, demanding_target(designer, space), _SPARE * n, seed=seed)
        return space.new(proposals.frame, table.frame).head(n)

    def draw(self, table: RecipeTable, conditions: Mapping[str, float], count: int, seed: int) -> pd.DataFrame:
        """Fit, set a target, and draw recipes without ranking them: a `pyro_hcvae.study.bayesian.Source`."""
        designer = self.fitted(table, seed)
        target = demanding_target(designer, RecipeSpace(table.schema, dict(conditions)))
        asked = designer.conditions(conditions, target).frame()
        drawn = pd.concat(designer.sample(asked, count, seed=seed), ignore_index=True)
        return drawn[is_valid(drawn, table.schema)]

    def fitted(self, table: RecipeTable, seed: int) -> RecipeDesigner:
        """The designer, trained on a table."""
        train = TrainConfig(
            members=self.members, steps=self.steps, learning_rate=self.learning_rate, seed=seed,
            beta_warmup=_WARMUP, compile="never",
        )  # fmt: skip
        return RecipeDesigner(table.schema, train=train).fit(table, device="cpu")


def demanding_target(designer: RecipeDesigner, space: RecipeSpace) -> float:
    """Better than what is predicted for any known recipe, by 10 % of the range of all measurements."""
    performance = designer.schema.performance
    sign = 1 if performance.higher_is_better else -1
    known = designer.table.frame.drop_duplicates(list(designer.schema.recipe_columns))
    at = space.at_conditions(known)
    predicted = designer.predictor.predict(at[space.columns], at[list(designer.schema.condition_columns)])["mean"]
    measured = designer.table.frame[performance.name]
    margin = _MARGIN / 100 * float(measured.max() - measured.min())
    return float(np.clip(sign * (sign * predicted).max() + sign * margin, *performance.bounds))


@dataclass(frozen=True)
class Marginal:
    """Random recombinations of the table, each block of another row: what chance finds among the habits of the laboratory."""

    def propose(self, table: RecipeTable, conditions: Mapping[str, float], n: int, *, seed: int) -> pd.DataFrame:
        """Draw; see `Strategy.propose`."""
        space, rng = RecipeSpace(table.schema, dict(conditions)), np.random.default_rng(seed)
        return space.new(space.recombine(table.frame, _POOL * n, rng), table.frame).head(n)


@dataclass(frozen=True)
class Nearest:
    """Recipes of the rows nearest to the conditions and the best performance, with jittered numbers: the careful experimenter.

    See `pyro_hcvae.evaluation.baselines.resampling.JitteredNearest`.
    """

    def propose(self, table: RecipeTable, conditions: Mapping[str, float], n: int, *, seed: int) -> pd.DataFrame:
        """Draw; see `Strategy.propose`."""
        space, performance = RecipeSpace(table.schema, dict(conditions)), table.schema.performance
        measured = table.frame[performance.name]
        best = measured.max() if performance.higher_is_better else measured.min()
        asked = pd.DataFrame([{**conditions, performance.name: best}])
        drawn = JitteredNearest().fit(table, seed=seed).sample(asked, _POOL * n, seed=seed)
        return space.new(drawn[is_valid(drawn, table.schema)], table.frame).head(n)


STRATEGIES: Mapping[str, Callable[[], Strategy]] = {
    "hcvae": Proposer,
    "hcvae-botorch": lambda: BayesianOptimiser(source=Proposer().draw),
    "botorch": BayesianOptimiser,
    "nearest": Nearest,
    "random": Marginal,
}
"""By name; each is made with its default settings."""
NEED_BOTORCH = ("hcvae-botorch", "botorch")
"""These need the extra ``study``."""


def choose(names: Iterable[str], own: Mapping[str, Callable[[], Strategy]] | None = None) -> dict[str, Strategy]:
    """Strategies by name, in the order asked for.

    Args:
        names: Names of `STRATEGIES`; none: all that are installed.
        own: Strategies that take the place of those of the same name.

    Raises:
        InputError: If a name is unknown, or what it needs is not installed.
    """
    known = {**STRATEGIES, **(own or {})}
    asked = list(names)
    for name in asked:
        if name not in known:
            raise InputError(f"unknown strategy {name!r}: choose from {', '.join(known)}")
        if name in NEED_BOTORCH and not botorch_installed():
            raise InputError(f'strategy {name} needs BoTorch: pip install "pyro-hcvae[study]"')
    chosen = asked or [name for name in known if name not in NEED_BOTORCH or botorch_installed()]
    return {name: known[name]() for name in chosen}


def botorch_installed() -> bool:
    """Whether the strategies of `NEED_BOTORCH` can run."""
    return find_spec("botorch") is not None
