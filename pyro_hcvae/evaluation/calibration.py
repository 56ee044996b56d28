"""Calibration: whether held-out recipes fall among the draws for their conditions as often as the draws say.

Arrays of draws have the shape ``(S, ...)`` and those of the truth ``(...)``; NaN stands for a number that does not exist: the
amount of an absent component, the setting of a step that was not done.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.data.codec import step_states
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema, Step

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEVELS = (50, 80, 95)
"""Central intervals whose coverage is reported, in %."""
_BINS = 10
_DECIMALS = 9
_LARGEST = 1e9


def randomised_pit(draws: Floats, truth: Floats, rng: np.random.Generator) -> Floats:
    r"""Probability integral transform of the truth among draws, uniform where truth and draws are exchangeable.

    .. math:: u = \frac{\#\{x_s < y\} + V (1 + \#\{x_s = y\})}{S + 1}, \qquad V \sim U(0, 1)

    Mass at one value, such as "absent" or a level of the laboratory's grid, is a jump of the distribution function: there the
    transform is uniform on the jump (Czado et al. 2009).

    Args:
        draws: Draws ``(S, ...)``; NaN draws are left out.
        truth: Observed values ``(...)``.
        rng: Source of ``V``.

    Returns:
        Values within 0 to 1, shape ``(...)``; NaN where the truth is NaN or no draw is left.
    """
    count = np.isfinite(draws).sum(axis=0)
    below = (draws < truth).sum(axis=0)
    same = (draws == truth).sum(axis=0)
    pit: Floats = (below + rng.random(truth.shape) * (1 + same)) / (count + 1)
    return np.where(np.isfinite(truth) & (count > 0), pit, np.nan)


def distance_from_uniform(pit: Floats) -> float:
    """Kolmogorov-Smirnov distance of PIT values from the uniform law; NaN if there are none.

    Of ``n`` values that are uniform it is about ``0.87 / sqrt(n)``: compare generators on the same rows only.
    """
    u = np.sort(pit[np.isfinite(pit)])
    if not len(u):
        return float("nan")
    grid = np.arange(len(u) + 1) / len(u)
    return float(max((grid[1:] - u).max(), (u - grid[:-1]).max()))


def coverage(pit: Floats, level: float) -> float:
    """Share of truths within the central interval of the draws that should hold ``level`` of them; NaN if there are none.

    Read off the PIT, it is exactly nominal for exchangeable draws however few they are, which quantiles of few draws are not.
    """
    inside = np.abs(pit[np.isfinite(pit)] - 0.5) <= level / 2
    return float(inside.mean()) if len(inside) else float("nan")


def crps(draws: Floats, truth: Floats) -> Floats:
    r"""Continuous ranked probability score of an ensemble, estimated without bias (Ferro 2014); lower is better.

    .. math:: \frac1S \sum_s |x_s - y| - \frac{1}{2 S (S - 1)} \sum_{s, t} |x_s - x_t|

    Args:
        draws: Draws ``(S, ...)``; NaN draws are left out.
        truth: Observed values ``(...)``.

    Returns:
        Scores in the unit of the values, shape ``(...)``; NaN where the truth is NaN or fewer than two draws are left.
    """
    ordered = np.sort(draws, axis=0)  # NaN last
    count = np.isfinite(ordered).sum(axis=0)
    rank = np.arange(1, len(ordered) + 1).reshape(-1, *[1] * truth.ndim)
    # The sum of all distances between draws follows from their order: x_(i) counts 2 i - n - 1 times.
    spread = np.nansum((2 * rank - count - 1) * ordered, axis=0) / np.maximum(count * (count - 1), 1)
    miss = np.nansum(np.abs(ordered - truth), axis=0) / np.maximum(count, 1)
    return np.where(np.isfinite(truth) & (count > 1), miss - spread, np.nan)


def energy_score(draws: Floats, truth: Floats) -> Floats:
    """Energy score of vectors, the CRPS with Euclidean distances (Gneiting & Raftery 2007), estimated without bias.

    Args:
        draws: Draws ``(S, B, D)`` with ``S >= 2``; finite.
        truth: Observed vectors ``(B, D)``; finite.

    Returns:
        Scores ``(B,)``; lower is better.
    """
    size = len(draws)
    scores = np.empty(len(truth))
    for row, y in enumerate(truth):  # one by one: all pairs of all rows at once would need much memory
        x = draws[:, row]
        spread = np.linalg.norm(x[:, None] - x, axis=-1).sum() / (size * (size - 1))
        scores[row] = np.linalg.norm(x - y, axis=-1).mean() - spread / 2
    return scores


def brier_score(drawn: Bools, happened: Bools) -> Floats:
    """Squared error of the probabilities of events, less what ``S`` draws add to it by being few (Ferro 2014).

    Args:
        drawn: Whether each draw has the event, shape ``(S, ...)`` with ``S >= 2``.
        happened: Whether the truth has it, shape ``(...)``.

    Returns:
        Scores ``(...)``; lower is better.
    """
    p = drawn.mean(axis=0)
    score: Floats = (p - happened) ** 2 - p * (1 - p) / (len(drawn) - 1)
    return score


def calibration_error(drawn: Bools, happened: Bools, *, bins: int = _BINS) -> float:
    """Expected calibration error: mean distance of probability and frequency over bins of equal mass (Naeini et al. 2015).

    Half of the draws sorts events into bins, the other half gives the probability. A bin chosen by its own figures holds the
    lucky ones, and shows an error where there is none.

    Args:
        drawn: Whether each draw has each event, shape ``(S, ...)`` with ``S >= 2``.
        happened: Whether the truth has it, shape ``(...)``.
        bins: Largest number of bins; events of equal probability are never parted.
    """
    sorting, judged = drawn[0::2].mean(axis=0).ravel(), drawn[1::2].mean(axis=0).ravel()
    edges = np.unique(np.quantile(sorting, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_of = np.searchsorted(edges, sorting, side="left")
    gap = np.bincount(bin_of, weights=judged - happened.ravel())
    return float(np.abs(gap).sum() / happened.size)


def calibration(schema: RecipeSchema, held: pd.DataFrame, draws: pd.DataFrame, *, seed: int = 0) -> dict[str, float]:
    """Score draws against the held-out recipes, block by block.

    ``given present`` looks at numbers that exist in the truth and in at least one draw of its row. ``PIT KS`` of a block of
    components is the mean over components that occur in the held-out rows, absence included. CRPS and Brier scores of a block
    are summed over its components, codes or states. The energy score takes the recipe as one vector, in which an absent
    component for a present one, or another code, is 1 apart, and numbers are in standard deviations of the held-out ones.

    Args:
        schema: Meaning of the columns.
        held: Held-out rows, one a recipe, with labels that differ.
        draws: As many recipes for every held-out row, at least two, indexed by its label. What is no positive finite number
            counts as an absent component.
        seed: Fixes the randomised part of the PIT.

    Returns:
        Scores by name. One whose numbers do not exist (a component block without any present one) is left out.

    Raises:
        ValueError: If the draws are not as many, and at least two, for every row.
    """
    if not held.index.is_unique or set(draws.index) != set(held.index):
        raise ValueError("draws must be indexed by the labels of the held-out rows, and these must differ")
    counts = draws.index.value_counts()
    size = int(counts.iloc[0])
    if size < 2 or not (counts == size).all():
        raise ValueError("calibration needs the same number of draws for every row, and at least two")
    drawn = draws.loc[held.index]  # row by row in the order of the held-out ones

    def stacked(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return values.reshape(len(held), size, -1).swapaxes(0, 1)

    rng = np.random.default_rng(seed)
    out: dict[str, float] = {}
    x_parts: list[Floats] = []
    y_parts: list[Floats] = []
    for block in schema.blocks:
        y_event, x_event = events(block, held), stacked(events(block, drawn)).astype(np.bool_)
        name, components = block.name, isinstance(block, Amounts | Fractions)
        if components or y_event.shape[1] > 1:  # a step with one state leaves nothing to foretell
            out[f"Brier {name}"] = float(brier_score(x_event, y_event).sum(axis=1).mean())
            out[f"presence calibration error {name}"] = calibration_error(x_event, y_event)
        # Exclusive events differ in two places at once: scaled so that another code is 1 apart.
        apart = 1.0 if components else 0.5**0.5
        x_parts.append(apart * x_event.astype(np.float64))
        y_parts.append(apart * y_event.astype(np.float64))
        if isinstance(block, Category):
            continue
        y, x = numbers(block, held), stacked(numbers(block, drawn)).astype(np.float64)
        out |= _number_scores(block, x, y, rng)
        loc, scale = _scales(block, y)
        x_parts.append(np.nan_to_num((x - loc) / scale))
        y_parts.append(np.nan_to_num((y - loc) / scale))
    vectors = np.concatenate(x_parts, axis=-1), np.concatenate(y_parts, axis=-1)
    out["energy score, recipe"] = float(energy_score(*vectors).mean())
    return {name: score for name, score in out.items() if np.isfinite(score)}


def _number_scores(
    block: Amounts | Fractions | Step, x: Floats, y: Floats, rng: np.random.Generator
) -> dict[str, float]:
    out: dict[str, float] = {}
    if isinstance(block, Step):
        for i, column in enumerate(block.columns):
            unit = f" [{column.unit}]" if column.unit else ""
            out[f"CRPS {column.name}, given present{unit}"] = _mean(crps(x[..., i], y[:, i]))
    else:
        occurring = np.isfinite(y).any(axis=0)
        if occurring.any():
            with_absence = randomised_pit(np.nan_to_num(x), np.nan_to_num(y), rng)[:, occurring]
            out[f"PIT KS {block.name}"] = float(np.mean([distance_from_uniform(pit) for pit in with_absence.T]))
        each = crps(np.nan_to_num(x), np.nan_to_num(y))
        out[f"CRPS {block.name} [{block.unit}]"] = float(each.sum(axis=1).mean())
    pit = randomised_pit(x, y, rng)
    out[f"PIT KS {block.name}, given present"] = distance_from_uniform(pit)
    for level in LEVELS:
        out[f"coverage {level} % {block.name}, given present"] = coverage(pit, level / 100)
    return out


def events(block: Block, frame: pd.DataFrame) -> Bools:
    """Presence of components, code, or state of a step, as yes or no; shape ``(rows, events)``."""
    match block:
        case Amounts() | Fractions():
            return np.isfinite(numbers(block, frame))
        case Category():
            return np.column_stack([(frame[block.column] == code).to_numpy(np.bool_) for code in block.codes])
        case Step():
            in_state: Bools = step_states(frame, block)[:, None] == np.arange(len(block.states))
            return in_state


def numbers(block: Amounts | Fractions | Step, frame: pd.DataFrame) -> Floats:
    """Amounts, shares or settings, NaN where they do not exist; shape ``(rows, columns)``."""
    raw = frame[list(block.names())].to_numpy(np.float64)
    exists = np.isfinite(raw)
    # Rounded so that noise of binary fractions does not part what is one level of the grid.
    values = np.clip(raw, -_LARGEST, _LARGEST).round(_DECIMALS)
    if isinstance(block, Step):
        if block.optional:
            exists &= values[:, :1] != block.absent
        exists[:, block.zeroable] &= values[:, block.zeroable] != 0
    else:
        exists &= values > 0
    return np.where(exists, values, np.nan)


def _scales(block: Amounts | Fractions | Step, y: Floats) -> tuple[Floats, Floats]:
    """Zero point and unit of each column: pooled for components, 0 being absence; each setting's own otherwise."""
    columns = [y[:, i : i + 1] for i in range(y.shape[1])] if isinstance(block, Step) else [y] * y.shape[1]
    finite = [column[np.isfinite(column)] for column in columns]
    loc = [v.mean() if isinstance(block, Step) and len(v) else 0.0 for v in finite]
    scale = [v.std() if len(v) and v.std() > 0 else 1.0 for v in finite]
    return np.array(loc), np.array(scale)


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
