"""The published protocol: features by hand, scales of the training rows, splits."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.architectures import AMOUNTS, PRESENCE, REACTION, SHARES, TREATMENT
from pyro_hcvae.study.protocol import ReactionColumns, StudyRows, member_rows, reaction_features, split
from tests.laboratories import TINY_TOML


def table(recipes: int = 12, **changed: object) -> RecipeTable:
    frame = VirtualLab().experiments(recipes=recipes, rows_per_recipe=4, seed=0)
    for name, values in changed.items():
        frame[name.replace("_", " ")] = frame[name.replace("_", " ")].astype(float)
        frame.loc[frame.index[: len(values)], name.replace("_", " ")] = values  # type: ignore[arg-type]
    return RecipeTable.from_frame(frame, RecipeSchema.load("drm"))


def test_features_by_hand() -> None:
    rows = table(
        Reaction_T=[700, 650],
        Reaction_CH4=[25, 50],
        Reaction_CO2=[50, 50],
        Reaction_Ar=[25, 0],
        Reaction_N2=[0, 0],
        Reaction_He=[0, 0],
        GHSV=[4, 2],
        Time_on_stream=[60, 0],
        CH4_Conversion=[50, 0],
    )
    columns = ReactionColumns.of(rows.schema)
    found = reaction_features(rows, columns)[:2]
    # eps = 0.5: -0.5 * 0.5 - 1.5 * ln 0.5 = 0.789721, over 4 mg min/mL
    by_hand = [
        [700, 0.693147, 0.693147, 1.098612, 1.609438, 4.110874, 0.5, 0.197430],
        [650, 0.0, 0.693147, 0.693147, 1.098612, 0.0, 0.0, 0.0],
    ]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    np.testing.assert_allclose(reaction_features(rows, columns, "multiplied")[0, -1], 3.158883, rtol=1e-5)


def test_full_conversion_has_a_finite_rate_constant_and_an_unknown_condition_has_none() -> None:
    rows = table(CH4_Conversion=[100.0])
    assert np.isfinite(reaction_features(rows, ReactionColumns.of(rows.schema))).all()
    frame = rows.frame.copy()
    frame.loc[frame.index[2], "Time on stream"] = np.nan
    with pytest.raises(InputError, match=r"row 2 has no finite features.*1 such row"):
        StudyRows.of(replace(rows, frame=frame))


def test_parts_are_those_of_the_table() -> None:
    rows = StudyRows.of(table())
    widths = {part: rows.widths[part] for part in (AMOUNTS, PRESENCE, SHARES, TREATMENT, REACTION)}
    assert widths == {AMOUNTS: 23, PRESENCE: 23, SHARES: 45, TREATMENT: 5, REACTION: 8}
    assert rows.columns.settings == (
        "Calcination T", "Calcination time", "Reduction T", "Reduction time", "Reduction H2",
    )  # fmt: skip
    assert ((rows.parts[AMOUNTS] > 0) == (rows.parts[PRESENCE] == 1)).all()


def test_scales_are_those_of_the_training_rows_alone() -> None:
    rows = StudyRows.of(table(30))
    repeats = [split(rows.table, "recipe", seed) for seed in (0, 1)]
    data = member_rows(rows, repeats, (REACTION, PRESENCE, AMOUNTS))
    assert data.packed.shape == (2, len(rows.table), 8 + 23 + 23)
    for member, repeat in enumerate(repeats):
        parts = {name: x[0].double() for name, x in data.parts(data.packed[member : member + 1]).items()}
        seen = parts[REACTION][repeat.train]
        torch.testing.assert_close(seen.amin(dim=0), torch.zeros(8).double(), atol=1e-6, rtol=0)
        varied = np.ptp(rows.parts[REACTION][repeat.train], axis=0) > 0
        torch.testing.assert_close(seen.amax(dim=0), torch.from_numpy(varied).double(), atol=1e-6, rtol=0)
        low, width = repeat.limits(rows.parts[AMOUNTS])
        back = parts[AMOUNTS].numpy() * width + low
        np.testing.assert_allclose(back, rows.parts[AMOUNTS], atol=1e-5)
        assert set(parts[PRESENCE].unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(data.packed[0], data.packed[1])


@pytest.mark.parametrize("by", ["row", "recipe", "composition"])
def test_splits(by: str) -> None:
    rows = table(40)
    parts = split(rows, by, 3)  # type: ignore[arg-type]
    positions = [parts.train, parts.validation, parts.test]
    assert sorted(np.concatenate(positions).tolist()) == list(range(len(rows)))
    groups = {"row": np.arange(len(rows)), "recipe": rows.recipe_ids(), "composition": rows.composition_ids()}[by]
    sets = [set(groups[p].tolist()) for p in positions]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    count = len(np.unique(groups))
    assert [len(s) for s in sets] == pytest.approx([0.6 * count, 0.2 * count, 0.2 * count], abs=1)
    again, other = split(rows, by, 3), split(rows, by, 4)  # type: ignore[arg-type]
    assert np.array_equal(again.test, parts.test)
    assert not np.array_equal(other.test, parts.test)


def test_too_few_groups_and_other_schemas_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 recipe\(s\) are too few"):
        split(table(2), "recipe", 0)
    tiny = RecipeSchema.from_toml(TINY_TOML)
    with pytest.raises(InputError, match=r"schema 'tiny': the published study needs a \[reaction\]"):
        ReactionColumns.of(tiny)
    drm = RecipeSchema.load("drm")
    conditions = [c.model_copy(update={"unit": "s"}) if c.name == "GHSV" else c for c in drm.conditions]
    with pytest.raises(InputError, match="one condition with unit 'mg min/mL', the contact time"):
        ReactionColumns.of(drm.model_copy(update={"conditions": tuple(conditions)}))
    stages = tuple(stage for stage in drm.stages if stage.name != "support")
    with pytest.raises(InputError, match="one block of fractions"):
        ReactionColumns.of(drm.model_copy(update={"stages": stages}))


def test_a_setting_that_was_not_recorded_is_0_as_in_the_file() -> None:
    rows = table()
    frame = rows.frame.copy()
    frame.loc[frame.index[0], "Reduction time"] = np.nan
    parts = StudyRows.of(replace(rows, frame=frame)).parts
    assert parts[TREATMENT][0, 3] == 0


@pytest.mark.drm
@pytest.mark.skipif(not os.environ.get("PYRO_HCVAE_DRM_CSV"), reason="PYRO_HCVAE_DRM_CSV is not set")
def test_the_real_table_has_the_published_shapes() -> None:
    rows = StudyRows.of(RecipeTable.read(os.environ["PYRO_HCVAE_DRM_CSV"], RecipeSchema.load("drm")))
    assert len(rows.table) == 5908
    assert rows.widths[AMOUNTS] == 23
    assert rows.widths[TREATMENT] + rows.widths[REACTION] == 13
    parts = split(rows.table, "row", 0)
    assert [len(x) for x in (parts.train, parts.validation, parts.test)] == [3545, 1181, 1182]
