"""Rounding keeps recipes valid."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pyro_hcvae.data.grid import round_to_grid
from pyro_hcvae.data.validity import is_valid, structural_problems
from tests.laboratories import tiny_frame, tiny_schema

SCHEMA = tiny_schema()


@given(
    st.lists(st.floats(0.001, 30), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.floats(100, 900),
    st.floats(1, 100),
    st.sampled_from(["off", "inert", "hydrogen"]),
)
def test_valid_recipes_stay_valid_on_the_grid(amounts, on, shares, with_share, red_t, red_h2, state) -> None:  # type: ignore[no-untyped-def]
    a = np.where(on, amounts, 0.0)
    if sum(on) == 3:
        a[2] = 0.0
    a = a * min(1.0, 20.0 / max(a.sum(), 1e-9))
    x = np.where(with_share, shares, 0.0)
    x = x / x.sum() if x.sum() > 0 else x
    row = dict(zip("ABCXYZ", [*a, *x], strict=True)) | {"Method": "wet"}
    row |= {"Red T": 0.0 if state == "off" else red_t, "Red H2": red_h2 if state == "hydrogen" else 0.0}
    frame = pd.DataFrame([row])
    before = structural_problems(frame, SCHEMA).to_numpy().any()
    rounded = round_to_grid(frame, SCHEMA)
    assert is_valid(rounded, SCHEMA)[0] or before
    assert ((rounded[list("ABCXYZ")] > 0) == (frame[list("ABCXYZ")] > 0)).all().all()
    assert np.allclose(rounded[list("ABC")] % 0.5 % 0.5, 0)
    assert np.allclose(rounded[list("XYZ")] * 10, (rounded[list("XYZ")] * 10).round())
    if state != "off":
        assert rounded["Red T"].iloc[0] % 10 == 0
        assert 100 <= rounded["Red T"].iloc[0] <= 900
    assert (rounded["Red H2"] > 0).iloc[0] == (state == "hydrogen")
    again = round_to_grid(rounded, SCHEMA)
    pd.testing.assert_frame_equal(again, rounded)


def test_every_broken_rule_is_named() -> None:
    good = tiny_frame(1, 1).iloc[0].to_dict() | {"A": 2.0, "B": 0.0, "C": 0.0, "X": 1.0, "Y": 0.0, "Z": 0.0}
    good |= {"Method": "wet", "Red T": 500.0, "Red H2": 50.0}
    cases = {
        "metals: not finite": {"A": np.nan},
        "metals: negative": {"A": -1.0},
        "metals: wrong number": {"A": 1.0, "B": 1.0, "C": 1.0},
        "metals: sum too high": {"A": 21.0},
        "supports: wrong sum": {"X": 0.9},
        "supports: negative": {"X": 1.2, "Y": -0.2},
        "no component": {"A": 0.0, "X": 0.0},
        "method: unknown code": {"Method": "moist"},
        "reduction: outside its limits": {"Red T": 950.0},
        "reduction: settings of a step that was not done": {"Red T": 0.0, "Red H2": 5.0},
    }
    frame = pd.DataFrame([good, *(good | change for change in cases.values())])
    problems = structural_problems(frame, SCHEMA)
    assert not problems.iloc[0].any()
    for i, rule in enumerate(cases, start=1):
        assert problems.iloc[i][rule], rule
    assert is_valid(frame, SCHEMA).tolist() == [True] + [False] * len(cases)


def test_bulk_recipes_are_valid_where_the_schema_knows_them() -> None:
    row = {"A": 2.0, "B": 0.0, "C": 0.0, "X": 0.0, "Y": 0.0, "Z": 0.0, "Method": "wet", "Red T": 0.0, "Red H2": 0.0}
    assert is_valid(pd.DataFrame([row]), SCHEMA)[0]
