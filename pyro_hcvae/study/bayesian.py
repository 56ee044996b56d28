"""`BayesianOptimiser`: BoTorch's Gaussian process and batch expected improvement, on a pool of feasible recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data.features import RecipeFeatures
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.baselines.neural import seeded
from pyro_hcvae.model.scopes import computing_scope
from pyro_hcvae.study.space import RecipeSpace

Floats = NDArray[np.float64]
Source = Callable[[RecipeTable, Mapping[str, float], int, int], pd.DataFrame]
"""Table, conditions, how many, seed -> valid recipes for the pool."""
_FAR = 10.0
"""Standard deviations that stand for an infinite number: the log of a ratio of 0."""
_ITERATIONS = 200
"""Of L-BFGS in the fit of the kernel: thousands more move the length scales of what hardly matters."""
_PARENTS = 50
"""Recipes with the best predictions, or with the largest acquisition, whose neighbours enter the pool."""


@dataclass(frozen=True)
class BayesianOptimiser:
    """A Gaussian process on recipe and conditions; the batch that together promises the largest improvement.

    The process sees the same rows as every strategy, with their conditions, so that it carries what it learns from one
    condition to another. Recipes are presences, log amounts, shares, one-hot codes and states, standardised settings
    (`RecipeFeatures`). Improvement is over what the known recipes would give at the conditions asked for, as the process has
    it, noise and all (qLogNoisyExpectedImprovement). The pool holds feasible recombinations of the table, mutations of the
    recipes that promise most, and then, turn by turn, mutations of its own best: an evolutionary search for the largest
    acquisition. The batch is chosen from its best part, one after the other with those before it pending.

    Attributes:
        pool: Recipes at the start, before those that are not feasible are taken out.
        turns: Turns of the evolutionary search.
        children: New recipes in a turn.
        finalists: Recipes from which the batch is chosen.
        samples: Quasi-Monte-Carlo samples of the acquisition.
        source: Where the half of the pool comes from that are no neighbours of the best; None: random recombinations.

    References:
        Ament et al. (2023), Unexpected Improvements to Expected Improvement for Bayesian Optimization, arXiv:2310.20708;
        Hvarfner et al. (2024), Vanilla Bayesian Optimization Performs Great in High Dimensions, arXiv:2402.02229;
        Balandat et al. (2020), BoTorch, arXiv:1910.06403
    """

    pool: int = 2000
    turns: int = 4
    children: int = 500
    finalists: int = 500
    samples: int = 128
    source: Source | None = None

    def propose(self, table: RecipeTable, conditions: Mapping[str, float], n: int, *, seed: int) -> pd.DataFrame:
        """Fit the process and maximise the acquisition; see `pyro_hcvae.study.strategies.Strategy.propose`.

        Raises:
            InputError: If BoTorch is not installed.
        """
        tools = _botorch()
        space, rng = RecipeSpace(table.schema, dict(conditions)), np.random.default_rng(seed)
        encode, half = _Encoding.fit(table, space), self.pool // 2
        far = self.source(table, conditions, half, seed) if self.source else space.recombine(table.frame, half, rng)
        with seeded(rng), computing_scope():
            model = self._model(tools, encode(table.frame), _gains(table))
            known = table.frame.drop_duplicates(space.columns)
            at_known = encode(space.at_conditions(known))
            acquisition = tools.logei.qLogNoisyExpectedImprovement(
                model,
                at_known,
                sampler=tools.samplers.SobolQMCNormalSampler(torch.Size([self.samples]), seed=seed),
                prune_baseline=True,
            )

            def promise(recipes: pd.DataFrame) -> Tensor:
                points = encode(space.at_conditions(recipes))
                with torch.no_grad():
                    return torch.cat([acquisition(x[:, None]) for x in torch.split(points, 500)])

            with torch.no_grad():
                expected = model.posterior(at_known).mean[:, 0]
            best = known.iloc[expected.argsort(descending=True)[:_PARENTS].numpy()]
            drawn = [far[space.columns], space.mutate(best, self.pool - half, rng, like=table.frame)]
            pool = space.new(pd.concat(drawn, ignore_index=True), table.frame)
            value = promise(pool)
            for _ in range(self.turns):
                parents = pool.iloc[value.argsort(descending=True)[:_PARENTS].numpy()]
                children = space.mutate(parents, self.children, rng, like=table.frame)
                children = space.new(children, pd.concat([table.frame[space.columns], pool], ignore_index=True))
                pool = pd.concat([pool, children], ignore_index=True)
                value = torch.cat([value, promise(children)])
            pool = pool.iloc[value.argsort(descending=True)[: max(self.finalists, n)].numpy()].reset_index(drop=True)
            choices = encode(space.at_conditions(pool))
            chosen, _ = tools.optim.optimize_acqf_discrete(acquisition, q=min(n, len(pool)), choices=choices)
        rows = (chosen[:, None] == choices).all(-1).float().argmax(-1)
        batch: pd.DataFrame = pool.iloc[rows.numpy()].reset_index(drop=True)
        return batch

    @staticmethod
    def _model(tools: Any, x: Tensor, y: Tensor) -> Any:
        model = tools.models.SingleTaskGP(x, y, outcome_transform=tools.outcome.Standardize(1))
        likelihood = tools.mll.ExactMarginalLogLikelihood(model.likelihood, model)
        tools.fit.fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _ITERATIONS}})
        return model


@dataclass(frozen=True)
class _Encoding:
    """Recipes and conditions as points, shape ``(B, F)``, float64.

    Attributes:
        features: Indicators and standardised numbers.
        low: Smallest number of the table and the conditions asked for, shape ``(N,)``: priors of the kernel expect a unit cube.
        width: Largest less smallest; 1 where all are alike.
    """

    features: RecipeFeatures
    low: Floats
    width: Floats

    @classmethod
    def fit(cls, table: RecipeTable, space: RecipeSpace) -> _Encoding:
        """Scales from the table, and from where the recipes are wanted, which may lie far outside of it."""
        features = RecipeFeatures.fit(table)
        numbers = np.vstack([_numbers(features, f) for f in (table.frame, space.at_conditions(table.frame.iloc[:1]))])
        low, high = numbers.min(axis=0), numbers.max(axis=0)
        return cls(features, low, np.where(high > low, high - low, 1.0))

    def __call__(self, frame: pd.DataFrame) -> Tensor:
        numbers = (_numbers(self.features, frame) - self.low) / self.width
        return torch.from_numpy(np.column_stack([self.features.indicators(frame), numbers]))


def _numbers(features: RecipeFeatures, frame: pd.DataFrame) -> Floats:
    """Amounts, shares, settings and conditions, standardised, 0 where there is none, shape ``(B, N)``."""
    schema, recipe = features.schema, np.nan_to_num(features.numbers(frame), nan=0.0)
    asked = frame.assign(**{schema.performance.name: 0.0})
    # Not clipped, as those of the features are: a condition asked for may lie many deviations from the table.
    conditions = np.nan_to_num(features.codec.encode_conditions(asked)[:, :-1], nan=0.0, posinf=_FAR, neginf=-_FAR)
    return np.column_stack([recipe, conditions])


def _gains(table: RecipeTable) -> Tensor:
    """Measured performance, such that more is better, shape ``(B, 1)``."""
    performance = table.schema.performance
    values = table.frame[performance.name].to_numpy(np.float64)[:, None]
    return torch.from_numpy((1.0 if performance.higher_is_better else -1.0) * values)


def _botorch() -> Any:
    """What of BoTorch is needed: it is optional, and slow to import."""
    try:
        from botorch import acquisition, fit, models, optim
        from botorch.models.transforms import outcome
        from botorch.sampling import normal
        from gpytorch import mlls
    except ImportError:
        raise InputError('strategy botorch needs BoTorch: pip install "pyro-hcvae[study]"') from None
    return SimpleNamespace(
        logei=acquisition.logei, fit=fit, models=models, optim=optim, outcome=outcome, samplers=normal, mll=mlls
    )
