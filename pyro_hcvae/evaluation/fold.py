"""`Fold`: one split of a table, and every score of draws for its held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.chemistry.rules import broken_rules, rules_that_count
from pyro_hcvae.data.features import RecipeFeatures
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.validity import structural_problems
from pyro_hcvae.evaluation.adherence import AdherenceJudge, ConditionEffect, adherence
from pyro_hcvae.evaluation.calibration import calibration
from pyro_hcvae.evaluation.novelty import memorisation, novelty, set_recovery
from pyro_hcvae.evaluation.realism import real_against_real, realism
from pyro_hcvae.evaluation.reconstruction import one_row_per_recipe
from pyro_hcvae.evaluation.repair import Repair

ALL_ROWS = "judge of all rows"


@dataclass(frozen=True)
class Fold:
    """Training rows, held-out recipes, and what all generators are judged by; made once, used for each of them.

    Attributes:
        train: What a generator may learn from.
        test: Held-out rows; one row a recipe is scored.
        whole: Both, for the judge that has seen everything.
        seed: Fixes which rows are scored, and everything random in the scores.
    """

    train: RecipeTable
    test: RecipeTable
    whole: RecipeTable
    seed: int

    @cached_property
    def held(self) -> RecipeTable:
        """Held-out rows, one a recipe, labelled by their row in the file."""
        return one_row_per_recipe(self.test, seed=self.seed)

    @cached_property
    def seen(self) -> RecipeTable:
        """Training rows, one a recipe."""
        return one_row_per_recipe(self.train, seed=self.seed)

    @cached_property
    def rows(self) -> pd.Series:
        """Number of rows that the recipe of each held-out row has, by the label of the row."""
        recipes = self.test.recipe_ids()
        return pd.Series(np.bincount(recipes)[recipes], index=self.test.frame.index).loc[self.held.frame.index]

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """What draws are asked for: conditions and performance of the held-out rows."""
        schema = self.train.schema
        return self.held.frame[[*schema.condition_columns, schema.performance.name]]

    def score(self, draws: pd.DataFrame) -> dict[str, float]:
        """Every score of unfiltered draws.

        Args:
            draws: Recipes with the conditions that they were drawn for, equally many for each held-out row, indexed by it.
        """
        draws = self._shuffled(draws)
        held, seen = self.held.frame, self.seen.frame
        return {
            **rule_scores(self.train.schema, draws, self.rows.loc[draws.index].to_numpy()),
            **realism(self._features, held, draws, seen, seed=self.seed),
            **novelty(self.repair, self.train.frame, draws),
            **memorisation(self._features, held, draws, seen),
            **set_recovery(self.repair, held, draws),
            **self._adherence(draws),
            **calibration(self.train.schema, held, draws, seed=self.seed),
        }

    def score_real_recipes(self) -> dict[str, float]:
        """What real recipes reach: the held-out ones by the rules, training recipes in the place of draws by the rest."""
        held = self.held.frame
        return {
            **rule_scores(self.train.schema, held, self.rows.to_numpy()),
            **real_against_real(self._features, held, self.seen.frame, seed=self.seed),
            **{
                name.replace(", real recipes", ""): value
                for name, value in self._adherence(held).items()
                if ", real recipes" in name
            },
        }

    def _shuffled(self, draws: pd.DataFrame) -> pd.DataFrame:
        """Draws of a row in random order: members take turns, and joint models give their best first."""
        order = np.random.default_rng(self.seed).permutation(len(draws))
        rows = self.held.frame.index.get_indexer(draws.index[order])
        return draws.iloc[order[np.argsort(rows, kind="stable")]]

    @cached_property
    def _features(self) -> RecipeFeatures:
        return RecipeFeatures.fit(self.train)

    @cached_property
    def repair(self) -> Repair:
        """Brings draws to values that the training rows hold."""
        return Repair.fit(self.train.schema, self.train.frame)

    @cached_property
    def _effects(self) -> list[ConditionEffect]:
        schema, train, recipes = self.train.schema, self.train.frame, self.train.recipe_ids()
        honest = AdherenceJudge.fit(schema, train, recipes, seed=self.seed)
        omniscient = AdherenceJudge.fit(
            schema, self.whole.frame, self.whole.recipe_ids(), seed=self.seed, name=ALL_ROWS
        )
        return [ConditionEffect.fit(judge, train, recipes, seed=self.seed) for judge in (honest, omniscient)]

    def _adherence(self, draws: pd.DataFrame) -> dict[str, float]:
        parts = [adherence(effect, self.held.frame, draws) for effect in self._effects]
        return {name: value for part in parts for name, value in part.items()}


def rule_scores(schema: RecipeSchema, draws: pd.DataFrame, rows: NDArray[np.int64] | None = None) -> dict[str, float]:
    """Structural validity and what breaks it, and the share of draws that keep all rules of the schema but advice.

    Args:
        schema: Meaning of the columns.
        draws: Recipes with their conditions.
        rows: Rows of the table that each draw stands for, shape ``(draws,)``. With them both shares are told ``by row`` too: each
            draw counts so often. Over a random row of each recipe that estimates the share of all rows without bias.
    """
    broken = structural_problems(draws, schema)
    bad = {"valid": broken.any(axis=1)}
    out = {"valid": float(1 - bad["valid"].mean())}
    out |= {f"broken: {rule}": float(share) for rule, share in broken.mean().items() if share > 0}
    if rules := rules_that_count(schema):
        bad["keeps the rules"] = broken_rules(draws, rules).any(axis=1)
        out["keeps the rules"] = float(1 - bad["keeps the rules"].mean())
    if rows is not None:
        out |= {f"{name}, by row": float(1 - each.repeat(rows.tolist()).mean()) for name, each in bad.items()}
    return out
