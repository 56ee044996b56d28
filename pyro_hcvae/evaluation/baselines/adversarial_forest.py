"""Adversarial random forest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from pyro_hcvae.evaluation.baselines.base import Floats, JointBaseline
from pyro_hcvae.posterior.donors import LeafDonors


@dataclass
class AdversarialForest(JointBaseline):
    """A forest that tells rows from fakes, whose fakes come from its own leaves, until it can do no better than chance.

    In the leaves of the last forest the columns are independent of each other, so a joint draw takes a leaf by its coverage
    and each column from the training rows in it, one independent donor a column. The paper fits a truncated normal to
    each number of a leaf instead; values of the leaf keep exact zeros, without which hardly a draw would be a recipe.

    References:
        Watson, Blesch, Kapar, Wright (2023), Adversarial Random Forests for Density Estimation and Generative Modeling,
        AISTATS, arXiv:2205.09435
    """

    name = "adversarial-forest"

    trees: int = 30
    min_leaf: int = 5
    """Fewest training rows in a leaf; smaller ones are pruned."""
    max_rounds: int = 10

    def _fit_joint(self, joint: Floats, rng: np.random.Generator) -> None:
        self._joint = joint
        shuffled = rng.permuted(joint, axis=0)
        forest, accuracy = self._tell_apart(shuffled, rng)
        for _ in range(self.max_rounds):
            if accuracy <= 0.5:
                break
            self._leaves = np.asarray(forest.apply(joint))
            self._donors = LeafDonors(self._leaves)
            better, new_accuracy = self._tell_apart(self._draw_joint(len(joint), rng), rng)
            if new_accuracy > accuracy:
                break
            forest, accuracy = better, new_accuracy
        prune(forest, joint, self.min_leaf)
        self._leaves = np.asarray(forest.apply(joint))
        self._donors = LeafDonors(self._leaves)

    def _draw_joint(self, count: int, rng: np.random.Generator) -> Floats:
        # A random row in a random tree lies in a leaf with the probability of its coverage.
        rows, columns = self._joint.shape
        row, tree = rng.integers(rows, size=count), rng.integers(self._leaves.shape[1], size=count)
        donors = self._donors.draw(self._leaves[row, tree], tree, rng, size=columns)
        return self._joint[donors, np.arange(columns)]

    def _tell_apart(self, fakes: Floats, rng: np.random.Generator) -> tuple[RandomForestClassifier, float]:
        """A forest fitted to tell training rows from as many fakes, and its out-of-bag accuracy."""
        forest = RandomForestClassifier(
            self.trees,
            min_samples_leaf=self.min_leaf,
            oob_score=True,
            random_state=int(rng.integers(2**31)),
            n_jobs=1,
        )
        forest.fit(np.vstack([self._joint, fakes]), np.repeat([0, 1], len(fakes)))
        return forest, float(forest.oob_score_)


def prune(forest: RandomForestClassifier, rows: Floats, min_leaf: int) -> None:
    """Let the sibling take over the region of each node that holds fewer than ``min_leaf`` of these rows, in place.

    Args:
        forest: Fitted trees.
        rows: Rows to count, shape ``(B, F)``.
        min_leaf: Fewest rows that a leaf keeps.
    """
    leaves: NDArray[np.int64] = forest.apply(rows)
    for tree, reached in zip(forest.estimators_, leaves.T, strict=True):
        left, right = tree.tree_.children_left, tree.tree_.children_right
        count = np.bincount(reached, minlength=len(left))
        heir = np.where(count >= min_leaf, np.arange(len(left)), -1)
        for node in np.flatnonzero(left >= 0)[::-1]:  # children have larger numbers than their parent
            below = heir[left[node]], heir[right[node]]
            if min(below) >= 0:
                left[node], right[node] = below
                heir[node] = node
            else:
                heir[node] = max(below)
        if heir[0] > 0:  # the root cannot be replaced: both its branches lead to the heir
            left[0] = right[0] = heir[0]
