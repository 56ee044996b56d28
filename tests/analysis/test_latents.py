"""Maps of the latent layers."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_hcvae import RecipeDesigner
from pyro_hcvae.analysis.latents import kinds_of, latent_maps
from pyro_hcvae.evaluation.reconstruction import rates
from tests.laboratories import tiny_table


def test_kinds_tell_what_a_recipe_is() -> None:
    table = tiny_table()
    metals, _, method, reduction = table.schema.blocks
    frame = table.frame.iloc[:3].copy()
    frame[["A", "B", "C"]] = [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]
    frame["Method"] = ["wet", "dry", "wet"]
    frame[["Red T", "Red H2"]] = [[0.0, 0.0], [500.0, 0.0], [500.0, 10.0]]
    assert kinds_of(metals, frame) == ["B", "none", "C"]
    assert kinds_of(method, frame) == ["Method wet", "Method dry", "Method wet"]
    assert kinds_of(reduction, frame) == ["not done", "done, inert gas", "done with Red H2"]


def test_maps_hold_every_recipe_once(designer: RecipeDesigner) -> None:
    maps = latent_maps(designer, designer.table, member=1)
    recipes = len(np.unique(designer.table.recipe_ids()))
    assert [m.site for m in maps] == list(designer.network.latent_dims)
    for layer in maps:
        assert layer.points.shape == (recipes, 2)
        assert len(layer.labels) == recipes
        assert set(layer.kinds) == set(layer.labels)
        assert 0 <= layer.explained.sum() <= 1 + 1e-9
        assert layer.size == designer.network.latent_dims[layer.site]
        assert layer.points.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    found = rates(designer, designer.table)
    assert max(layer.active for layer in maps) > 0 or max(found.values()) < 1


def test_members_have_maps_of_their_own(designer: RecipeDesigner) -> None:
    first, second = (latent_maps(designer, designer.table, member=m)[0].points for m in (0, 1))
    assert not np.allclose(first, second)
