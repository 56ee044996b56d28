"""A Gaussian process as predictor of the performance: a smooth learner beside the trees, with a length for every feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_hcvae.data.codec import condition_features, step_settings, transformed
from pyro_hcvae.data.columns import matrix_of
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema, Step
from pyro_hcvae.model.adam import adam_step
from pyro_hcvae.model.scopes import computing_scope

Floats = NDArray[np.float64]
_ROWS, _SUBSET = 1500, 600
"""Most rows that the mean is conditioned on; most that weights are learned from."""
_STEPS, _RATE = 30, 0.15
"""Steps of Adam, and their size."""
_FIRST_WEIGHT, _FIRST_COMMON, _FIRST_NOISE = -1.3, -1.5, -3.0
"""Logarithms before learning."""
_SMALLEST_NOISE = 1e-4
_LEAST_SPREAD, _FURTHEST = 0.1, 8.0
"""Features are divided by no less than the first, and do not go beyond the second afterwards."""
_CHUNK = 256
"""Rows predicted at once: what is in between stays in the cache."""
_LARGEST = 1e12


@dataclass(frozen=True)
class GaussianProcess:
    r"""Gaussian process whose kernel is a rational quadratic of the weighted distance.

    .. math::

        k(x, x') = a \Bigl(1 + \tfrac12 \sum_j e^{2 w_j} (x_j - x'_j)^2\Bigr)^{-1}
                   + \tau^2\, 1[\text{same recipe}] + \sigma^2\, 1[\text{same row}]

    What rows of a recipe have in common, :math:`\tau^2`, is nothing that another recipe could be told from: without it, rows of
    one recipe, which know each other, would pass for proof that the features explain everything.

    The weights :math:`w_j = w_{b(j)} + v_j`, one for each block of columns and, with :math:`v_j \sim N(0, 1)`, one for each
    feature, maximise the posterior density: a feature that does not matter loses its weight, and one that was hardly varied keeps
    the common one.

    Attributes:
        loc: Mean of each feature, shape ``(F,)``; what is not known counts as that.
        furthest: Largest distance from it that counts, weighted, shape ``(F,)``.
        weights: What the distance is multiplied by, shape ``(F,)``.
        amplitude: Variance that features explain, in units of that of the outcomes.
        noise: Variances that they do not, :math:`\tau^2` and :math:`\sigma^2`, in the same unit.
        level: Mean and standard deviation of the outcomes.
        rows: Weighted features of the rows conditioned on, shape ``(N, F)``.
        solved: Inverse covariance of these rows times their standardised outcomes, shape ``(N,)``.

    References:
        Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, chapters 2 and 5
    """

    loc: Floats
    furthest: Floats
    weights: Floats
    amplitude: float
    noise: tuple[float, float]
    level: tuple[float, float]
    rows: Tensor
    solved: Tensor

    @classmethod
    def fit(
        cls, x: Floats, y: Floats, recipes: NDArray[np.int64], blocks: NDArray[np.int64], *, seed: int
    ) -> GaussianProcess:
        """Learn from all rows, or from some of every recipe where they are many.

        Args:
            x: Features, NaN where unknown, shape ``(rows, F)``.
            y: Outcomes, shape ``(rows,)``.
            recipes: Recipe of each row, shape ``(rows,)``.
            blocks: Block of each feature, from 0, shape ``(F,)``.
            seed: Fixes which rows.
        """
        order = _rows_in_turn(recipes, seed)[:_ROWS]
        x, y, recipes = x[order], y[order], recipes[order]
        known = np.isfinite(x)
        loc = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        x, level = np.where(known, x, loc), (float(y.mean()), float(y.std()) or 1.0)
        spread = np.maximum(x.std(axis=0), _LEAST_SPREAD)
        scaled = torch.from_numpy(((x - loc) / spread).clip(-_FURTHEST, _FURTHEST))
        outcomes = torch.from_numpy((y - level[0]) / level[1])
        same = torch.from_numpy(recipes[:, None] == recipes).double()
        part = slice(_SUBSET)
        with computing_scope():
            learned = _learned(scaled[part], outcomes[part], same[part, part], torch.from_numpy(blocks))
            weights, amplitude, common, noise = learned
            rows = scaled * weights
            root: Tensor = torch.linalg.cholesky(_covariance(rows, same, amplitude, common, noise))
            solved = torch.cholesky_solve(outcomes[:, None], root)[:, 0]
        return cls(
            loc,
            _FURTHEST * weights.numpy(),
            weights.numpy() / spread,
            float(amplitude),
            (float(common), float(noise)),
            level,
            rows,
            solved,
        )

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Expected outcome at features ``(B, F)``, and how near the nearest row is.

        Returns:
            The expectation, shape ``(B,)``, and the largest prior correlation with a row conditioned on, from 0 (nothing like it
            was seen) to 1, shape ``(B,)``. The posterior variance would say the second in other words at several times the cost.
        """
        away = (np.where(np.isnan(x), 0.0, x - self.loc) * self.weights).clip(-self.furthest, self.furthest)
        middle, unit = self.level
        with computing_scope():
            half = 0.5 * (self.rows**2).sum(dim=1)
            points, starts = torch.from_numpy(away), range(0, max(len(away), 1), _CHUNK)
            alike = (self._to_rows(points[i : i + _CHUNK], half) for i in starts)
            found, nearness = map(torch.cat, zip(*((a @ self.solved, a.amax(dim=1)) for a in alike), strict=True))
        expected: Floats = middle + unit * self.amplitude * found.numpy()
        return expected, nearness.numpy()

    def _to_rows(self, points: Tensor, half: Tensor) -> Tensor:
        """`_kernel` without its amplitude, written in place: three times as quick."""
        squares = torch.addmm(half, points, self.rows.T, alpha=-1)
        squares += 1 + 0.5 * (points**2).sum(dim=1)[:, None]
        return squares.clamp_min_(1).reciprocal_()


def _rows_in_turn(recipes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of all rows: at random one of each recipe, then a second one of each, and so on."""
    shuffled = np.random.default_rng(seed).permutation(len(recipes))
    turn = pd.Series(recipes[shuffled]).groupby(recipes[shuffled]).cumcount().to_numpy()
    order: NDArray[np.int64] = shuffled[np.argsort(turn, kind="stable")]
    return order


def _learned(x: Tensor, y: Tensor, same: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, amplitude, variance common to a recipe, and noise, of about the largest posterior density on these rows."""
    start = (0.0, _FIRST_COMMON, _FIRST_NOISE)
    amplitude, common, noise = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in start)
    of_block = torch.full((int(blocks.max()) + 1,), _FIRST_WEIGHT, dtype=torch.float64, requires_grad=True)
    own = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    learned = [of_block, own, amplitude, common, noise]
    first, second = ([torch.zeros_like(p) for p in learned] for _ in range(2))
    taken = [torch.zeros(()) for _ in learned]
    with torch.enable_grad():
        for _ in range(_STEPS):
            rows, least = x * (of_block[blocks] + own).exp(), noise.exp() + _SMALLEST_NOISE
            covariance = _covariance(rows, same, amplitude.exp(), common.exp(), least)
            # What differentiating through the factor would give, at half of the cost: d misfit = tr((K^-1 - a a^T) dK) / 2.
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance.detach()))
            solved = inverse @ y
            slope = 0.5 * (inverse - solved[:, None] * solved)
            prior = 0.5 * (own**2).sum() + 0.125 * ((of_block - _FIRST_WEIGHT) ** 2).sum()
            gradients = torch.autograd.grad((slope * covariance).sum() + prior, learned)
            adam_step(learned, gradients, first, second, taken, rate=_RATE, fused=False)
    with torch.no_grad():
        return (of_block[blocks] + own).exp(), amplitude.exp(), common.exp(), noise.exp() + _SMALLEST_NOISE


def _kernel(a: Tensor, b: Tensor, amplitude: Tensor | float) -> Tensor:
    squares = (a**2).sum(dim=1)[:, None] + (b**2).sum(dim=1) - 2 * a @ b.T
    return amplitude / (1 + 0.5 * squares.clamp_min(0))


def _covariance(rows: Tensor, same: Tensor, amplitude: Tensor, common: Tensor, noise: Tensor) -> Tensor:
    kernel = _kernel(rows, rows, amplitude)
    return kernel + common * same + noise * torch.eye(len(rows), dtype=rows.dtype)


def smooth_features(schema: RecipeSchema, frame: pd.DataFrame) -> tuple[Floats, NDArray[np.int64]]:
    """Recipes and conditions for distances: logs of amounts and their total, roots of shares, transformed conditions.

    Ratios of the feed and settings of steps enter as they are.

    Returns:
        Features, NaN where there is nothing, shape ``(B, S)``, and which belong together, from 0, shape ``(S,)``.
    """
    parts: list[Floats] = []
    for block in schema.blocks:
        match block:
            case Category():
                codes = frame[block.column]
                parts.append(np.column_stack([(codes == code).to_numpy(np.float64) for code in block.codes]))
            case Amounts():
                amounts = _amounts(frame, block)
                parts.append(np.log1p(np.column_stack([amounts, amounts.sum(axis=1)])))
            case Fractions():
                shares = _amounts(frame, block)
                total = shares.sum(axis=1, keepdims=True)
                parts.append(np.sqrt(shares / np.where(total > 0, total, 1)))
            case Step():
                settings = step_settings(block, frame)
                parts += [np.isnan(settings).astype(np.float64), settings]
    conditions = condition_features(schema, frame.assign(**{schema.performance.name: 0.0}))[:, :-1]
    for i, column in enumerate(schema.conditions):
        conditions[:, i] = transformed(column.transform)(conditions[:, i])
    parts.append(np.where(np.isfinite(conditions), conditions, np.nan))
    sizes = [part.shape[1] for part in parts]
    return np.concatenate(parts, axis=1), np.repeat(np.arange(len(sizes)), sizes)


def _amounts(frame: pd.DataFrame, block: Amounts | Fractions) -> Floats:
    """Amounts or shares, none of them negative or unknown, shape ``(B, F)``."""
    amounts: Floats = np.nan_to_num(matrix_of(frame, block.columns), posinf=_LARGEST).clip(0, _LARGEST)
    return amounts
