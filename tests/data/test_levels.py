"""Levels: frequent values exactly, the others by quantiles, rare components by what all components say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.data.schema import RecipeSchema
from tests.laboratories import TINY_TOML, tiny_frame, tiny_schema, tiny_table

RECIPE = dict.fromkeys("ABCXYZ", 0.0) | {"X": 1.0, "Method": "wet", "Red T": 0.0, "Red H2": 0.0}
NUMBERS = {"metals.amount", "supports.ratio", "reduction.value"}


def levels(
    rows: list[dict[str, object]], count: int, weights: np.ndarray | None = None
) -> tuple[dict[str, Levels], torch.Tensor, RecipeCodec]:
    """Levels of recipes that differ from `RECIPE`, their packed rows, and the codec."""
    frame = pd.DataFrame([{**RECIPE, "T": 600.0, "Yield": 50.0, **row} for row in rows])
    codec = RecipeCodec.fit(tiny_schema(), frame)
    packed = codec.encode(frame)
    return fit_levels(codec, packed, np.ones(len(frame)) if weights is None else weights, count), packed, codec


def share_at(found: Levels, feature: int, value: torch.Tensor) -> float:
    """Share of a feature's Gaussians that stand on one value exactly."""
    there = (found.scale[feature] == 0) & torch.isclose(found.loc[feature], value, atol=1e-4)
    assert there.sum() == 1
    return float(found.log_weights[feature][there].exp())


def test_shares_sum_to_one_and_everything_is_finite() -> None:
    table = tiny_table()
    codec = RecipeCodec.fit(table.schema, table.frame)
    for count in (1, 2, 3, 8, 24, 100):
        found = fit_levels(codec, codec.encode(table.frame), np.ones(len(table)), count)
        assert found.keys() == NUMBERS
        for site, features in zip(sorted(NUMBERS), (3, 2, 3), strict=True):
            for part in vars(found[site]).values():
                assert part.shape == (features, count)
                assert torch.isfinite(part).all()
            assert torch.allclose(found[site].log_weights.exp().sum(-1), torch.ones(features), atol=1e-5)
            assert (found[site].scale >= 0).all()


def test_frequent_values_are_levels_of_their_own_and_the_rest_share_what_is_left() -> None:
    # Half of the amounts are 5, 30 % are 10, the others all differ.
    amounts = [5.0] * 50 + [10.0] * 30 + list(np.geomspace(1, 4, 20))
    found, packed, codec = levels([{"A": a} for a in amounts], 6)
    metals, encoded = found["metals.amount"], packed[:, codec.layout.slices["metals.amount"]][:, 0]
    assert share_at(metals, 0, encoded[0]) == pytest.approx(0.5, rel=1e-5)
    assert share_at(metals, 0, encoded[50]) == pytest.approx(0.3, rel=1e-5)
    wide = metals.scale[0] > 0
    assert wide.sum() == 4
    assert metals.log_weights[0][wide].exp().tolist() == pytest.approx([0.05] * 4, rel=1e-5)
    # Every other value lies within one standard deviation of a Gaussian that covers it.
    gaps = (encoded[80:, None] - metals.loc[0][wide]).abs() / metals.scale[0][wide]
    assert (gaps.amin(1) <= 1 + 1e-3).all()


def test_few_values_are_all_found_and_spare_gaussians_hardly_count() -> None:
    found, packed, codec = levels([{"A": 5.0}] * 60 + [{"A": 10.0}] * 40, 24)
    encoded = packed[:, codec.layout.slices["metals.amount"]][:, 0]
    metals = found["metals.amount"]
    assert share_at(metals, 0, encoded[0]) == pytest.approx(0.6, abs=0.01)
    assert share_at(metals, 0, encoded[-1]) == pytest.approx(0.4, abs=0.01)
    assert (metals.scale[0] == 0).sum() == 2
    # They stand ready over the range of the table.
    spare = metals.loc[0][metals.scale[0] > 0]
    assert encoded.min() <= spare.min() < spare.max() <= encoded.max()


def test_continuous_values_are_covered_at_their_quantiles() -> None:
    logs = np.linspace(0, 2, 401)
    found, _, codec = levels([{"A": float(np.exp(x))} for x in logs], 4)
    metals = found["metals.amount"]
    scaler = codec.scalers["A"]
    assert metals.log_weights[0].exp().tolist() == pytest.approx([0.25] * 4, rel=1e-5)
    centres = metals.loc[0].numpy() * scaler.scale + scaler.loc
    assert np.sort(centres) == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.01)
    # Half as wide as the gaps between them.
    assert metals.scale[0].numpy() * scaler.scale == pytest.approx([0.25] * 4, abs=0.01)


def test_rare_components_are_drawn_to_the_shares_of_all() -> None:
    # A 20 times at 5, B once at 10, C never: three pseudo-rows of "20 of 21 are 5".
    found, _, codec = levels([{"A": 5.0}] * 20 + [{"B": 10.0}], 24)
    for feature, at_five, at_ten in ((0, 20 + 60 / 21, 3 / 21), (1, 60 / 21, 1 + 3 / 21), (2, 60 / 21, 3 / 21)):
        # In common are the amounts, not their standardised values: every component has a scale of its own.
        scaler = codec.scalers["ABC"[feature]]
        for amount, rows in ((5.0, at_five), (10.0, at_ten)):
            value = torch.tensor((math.log(amount) - scaler.loc) / scaler.scale)
            share = share_at(found["metals.amount"], feature, value)
            assert share == pytest.approx(rows / (at_five + at_ten), rel=0.02)


def test_settings_of_a_step_have_levels_of_their_own() -> None:
    rows = [{"Red T": 500.0, "Red H2": 10.0}] * 5 + [{"Red T": 700.0, "Red H2": 50.0}] * 15
    found, packed, codec = levels(rows, 12)
    steps, encoded = found["reduction.value"], packed[:, codec.layout.slices["reduction.value"]]
    for feature in range(2):
        assert share_at(steps, feature, encoded[0, feature]) == pytest.approx(0.25, abs=0.01)
        assert share_at(steps, feature, encoded[-1, feature]) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 24])
def test_numbers_that_never_occur_get_gaussians_of_unit_size(count: int) -> None:
    found, _, _ = levels([{"A": 5.0}, {"A": 6.0}], count)
    for site in ("supports.ratio", "reduction.value"):
        assert torch.isfinite(found[site].loc).all()
        assert (found[site].scale > 0).any()
        assert torch.allclose(found[site].log_weights.exp().sum(-1), torch.ones(()), atol=1e-5)


def test_one_gaussian_stands_in_the_middle() -> None:
    found, _, codec = levels([{"A": float(np.exp(x))} for x in np.linspace(0, 2, 401)], 1)
    metals, scaler = found["metals.amount"], codec.scalers["A"]
    assert metals.log_weights[0].tolist() == [0.0]
    assert metals.loc[0].item() * scaler.scale + scaler.loc == pytest.approx(1.0, abs=0.01)
    assert metals.scale[0].item() > 0.5


def test_weights_count() -> None:
    found, packed, codec = levels([{"A": 5.0}, {"A": 10.0}], 12, np.array([3.0, 1.0]))
    encoded = packed[:, codec.layout.slices["metals.amount"]][:, 0]
    assert share_at(found["metals.amount"], 0, encoded[0]) == pytest.approx(0.75, abs=0.01)
    assert share_at(found["metals.amount"], 0, encoded[1]) == pytest.approx(0.25, abs=0.01)


def test_unknown_numbers_do_not_count() -> None:
    codec = RecipeCodec.fit(tiny_schema(), tiny_frame())
    packed, ones = codec.encode(tiny_frame()), np.ones(len(tiny_frame()))
    hidden = packed.clone()
    hidden[::2, codec.layout.slices["metals.amount"]] = torch.nan
    found = fit_levels(codec, hidden, ones, 8)["metals.amount"]
    expected = fit_levels(codec, packed[1::2], ones[1::2], 8)["metals.amount"]
    assert torch.equal(found.loc, expected.loc)
    assert torch.equal(found.log_weights, expected.log_weights)


def test_a_schema_without_numbers_has_no_levels() -> None:
    start, end = TINY_TOML.index('[[stages]]\nname = "metal"'), TINY_TOML.index("[[conditions]]")
    category = '[[stages]]\nname = "treatment"\n[[stages.blocks]]\nkind = "category"\nname = "method"\n'
    schema = RecipeSchema.from_toml(
        TINY_TOML[:start] + category + 'column = "Method"\ncodes = ["wet", "dry"]\n' + TINY_TOML[end:]
    )
    frame = tiny_frame()[["Method", "T", "Yield"]]
    codec = RecipeCodec.fit(schema, frame)
    assert fit_levels(codec, codec.encode(frame), np.ones(len(frame)), 8) == {}
