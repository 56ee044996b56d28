"""The batch of proposals is varied as far as it can be, and stays in rank order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_hcvae.posterior.proposals import _varied
from tests.laboratories import tiny_schema


def recipes(*sets: str) -> pd.DataFrame:
    return pd.DataFrame([{c: float(c in s) for c in "ABCXYZ"} for s in sets])


def test_no_set_takes_more_than_its_share_while_others_are_left() -> None:
    frame = recipes(*["AX"] * 6, *["BX"] * 3, "AY", "BY", "CZ", "CX")
    chosen = _varied(frame, np.arange(len(frame)), tiny_schema(), 8)
    assert chosen.tolist() == [0, 1, 6, 7, 9, 10, 11, 2]  # two of AX, two of BX, no fifth with X; then by rank
    names = ["".join(c for c in "ABCXYZ" if frame.loc[i, c] > 0) for i in chosen[:7]]
    assert sum("X" in name for name in names) <= 4


def test_where_nothing_else_is_left_rank_decides() -> None:
    frame = recipes(*["AX"] * 5)
    assert _varied(frame, np.array([4, 2, 0, 1, 3]), tiny_schema(), 4).tolist() == [4, 2, 0, 1]
