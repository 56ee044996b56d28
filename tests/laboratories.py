"""Small laboratories for tests: schemas, tables and models that are made in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE

SMALL = ModelConfig(latent_dims=(3, 2), hidden=(16,), mixture_components=2)

TINY_TOML = """
name = "tiny"
laboratory = ["T"]

[[stages]]
name = "metal"
[[stages.blocks]]
kind = "amounts"
name = "metals"
columns = ["A", "B", "C"]
max_present = 2
max_total = 20.0
resolution = 0.5

[[stages]]
name = "support"
[[stages.blocks]]
kind = "fractions"
name = "supports"
columns = ["X", "Y", "Z"]
may_be_empty = true
resolution = 0.1

[[stages]]
name = "treatment"
[[stages.blocks]]
kind = "category"
name = "method"
column = "Method"
codes = ["wet", "dry"]
[[stages.blocks]]
kind = "step"
name = "reduction"
optional = true
columns = [
  { name = "Red T", unit = "degC", minimum = 100.0, maximum = 900.0, resolution = 10.0 },
  { name = "Red H2", unit = "%", minimum = 1.0, maximum = 100.0, resolution = 1.0, zero_means = "inert gas" },
]

[[conditions]]
name = "T"
unit = "degC"

[performance]
name = "Yield"
unit = "%"
minimum = 0.0
maximum = 100.0
"""


def tiny_schema() -> RecipeSchema:
    """Three stages, every kind of block."""
    return RecipeSchema.from_toml(TINY_TOML)


def tiny_frame(recipes: int = 40, rows_per_recipe: int = 3, *, seed: int = 0) -> pd.DataFrame:
    """Raw rows in which the metal decides the support and the method."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(recipes):
        main = rng.integers(3)
        recipe: dict[str, object] = dict.fromkeys("ABCXYZ", 0.0)
        recipe["ABC"[main]] = float(np.round(rng.uniform(1, 10), 1))
        if rng.random() < 0.3:
            recipe["ABC"[(main + 1) % 3]] = float(np.round(rng.uniform(0.1, 1), 2))
        share = float(np.round(rng.uniform(0.2, 0.8), 2)) if rng.random() < 0.4 else 1.0
        if rng.random() > 0.1:
            recipe["XYZ"[main]] = share
            third = float(np.round((1.0 - share) / 2, 2)) if i % 5 == 1 else 0.0
            recipe["XYZ"[(main + 1) % 3]] += 1.0 - share - third  # type: ignore[operator]
            recipe["XYZ"[(main + 2) % 3]] += third  # type: ignore[operator]
        recipe["Method"] = ["wet", "dry"][int(main == 2)]
        state = rng.integers(3)
        recipe["Red T"] = 0.0 if state == 0 else float(rng.integers(30, 80) * 10)
        recipe["Red H2"] = float(rng.integers(5, 100)) if state == 1 else 0.0
        for _ in range(rows_per_recipe):
            temperature = float(rng.integers(50, 80) * 10)
            quality = [0.5, 0.8, 1.0][main]
            result = float(np.clip(quality * (temperature - 450) / 4 + rng.normal(0, 2), 0, 100))
            records.append({**recipe, "T": temperature, "Yield": round(result, 1)})
    return pd.DataFrame(records)


def tiny_table(recipes: int = 40, rows_per_recipe: int = 3, *, seed: int = 0) -> RecipeTable:
    """The same rows, imported."""
    return RecipeTable.from_frame(tiny_frame(recipes, rows_per_recipe, seed=seed), tiny_schema(), source="tiny")


def tiny_codec() -> tuple[RecipeCodec, Tensor]:
    """Codec fitted on the tiny table, and its encoded rows."""
    table = tiny_table()
    codec = RecipeCodec.fit(table.schema, table.frame)
    return codec, codec.encode(table.frame)


def tiny_model(
    seeds: Sequence[int] = (0, 1), *, stir: float = 0.0, config: ModelConfig = SMALL
) -> tuple[HierarchicalCVAE, RecipeBatch, RecipeCodec]:
    """A model, a batch of 12 rows for each member, and the codec.

    Args:
        seeds: One a member.
        stir: Noise on all parameters, so that heads that start at zero have a say.
        config: Sizes.
    """
    codec, packed = tiny_codec()
    model = HierarchicalCVAE(codec.schema, len(codec.feature_names), config, seeds=seeds)
    if stir:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in model.parameters():
                p += stir * torch.randn(p.shape, generator=generator)
    batch = codec.layout.unpack(packed[: 12 * len(seeds)].view(len(seeds), 12, -1))
    return model, batch, codec
