"""Draws by members that had set a recipe aside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae import InputError, RecipeDesigner
from pyro_hcvae.analysis.set_aside import set_aside, set_aside_by
from pyro_hcvae.inference.streams import RecipeStream, TrainingData


def test_members_set_aside_what_training_did(designer: RecipeDesigner) -> None:
    table, config = designer.table, designer.config.train
    masks = set_aside_by(designer)
    packed = designer.codec.encode(table.frame)
    data = TrainingData(packed, designer.codec.layout, table.recipe_ids(), table.recipe_ids())
    for mask, seed in zip(masks, config.seeds, strict=True):
        stream = RecipeStream(data, config, seed)
        assert set(stream.validation_rows()[0]) == set(np.flatnonzero(mask))
        shown = stream.chunk(0, 20, 1)[0]
        assert not mask[shown.ravel().numpy()].any()


def test_draws_are_of_those_members_alone(designer: RecipeDesigner) -> None:
    found = set_aside(designer, 6, seed=3)
    frame, count = found.table.frame, designer.config.train.members
    assert (found.draws.index.value_counts() == 6).all()
    assert set(found.draws.index) == set(frame.index)
    assert found.members.any(axis=0).all()
    assert found.all_recipes == len(np.unique(designer.table.recipe_ids()))
    assert len(frame) == len(
        np.unique(designer.table.select(np.flatnonzero(set_aside_by(designer).any(axis=0))).recipe_ids())
    )
    # Draw j of a row is member j modulo M's, as it was before it learned from all rows.
    stopped = designer.before_refit()
    assert stopped.network is not designer.network
    everything = pd.concat(stopped.sample(frame, 6 * count, as_drawn=True, seed=3))
    columns = list(designer.schema.recipe_columns)
    for place, row in enumerate(frame.index):
        theirs = everything.loc[[row], columns].iloc[[j for j in range(6 * count) if found.members[j % count, place]]]
        pd.testing.assert_frame_equal(found.draws.loc[[row], columns], theirs.iloc[:6])


def test_too_few_draws_are_refused(designer: RecipeDesigner) -> None:
    with pytest.raises(InputError, match="at least 1"):
        set_aside(designer, 0)
