"""Where recipes lie in the latent layers of one member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro import poutine
from sklearn.decomposition import PCA
from torch.distributions import Normal, kl_divergence

from pyro_hcvae.data.codec import step_states
from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.evaluation.reconstruction import ACTIVE, one_row_per_recipe
from pyro_hcvae.posterior.predictive import drawing_scope

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LatentMap:
    """One layer, seen in two directions.

    Attributes:
        site: Name of the layer's site.
        points: Posterior means of the recipes along two principal directions, shape ``(B, 2)``.
        explained: Share of the variance of the means along each, shape ``(2,)``.
        size: Number of units.
        active: Units with a mean rate above 0.1 nats.
        block: What the labels tell: the first block of the layer's stage.
        labels: Kind of each recipe, shape ``(B,)``.
        kinds: Kinds, most frequent first.
    """

    site: str
    points: Floats
    explained: Floats
    size: int
    active: int
    block: str
    labels: list[str]
    kinds: list[str]


def latent_maps(designer: RecipeDesigner, table: RecipeTable, *, member: int = 0, seed: int = 0) -> list[LatentMap]:
    """Posterior means of one row of each recipe, layer by layer, top first.

    Members do not share their latent spaces, so that one of them is shown. Below the top layer the means depend on the draws of
    the layers above; they are those for one draw.

    Args:
        designer: Fitted.
        table: Rows.
        member: Which member.
        seed: Chooses the row of each recipe, and the draws.
    """
    rows = one_row_per_recipe(table, seed=seed)
    network, codec = designer.network, designer.codec
    batch = codec.layout.unpack(codec.encode(rows.frame)[None]).expand_members(network.members)
    with drawing_scope(seed):
        guide = poutine.trace(network.guide).get_trace(batch)
        model = poutine.trace(poutine.replay(network.model, trace=guide)).get_trace(batch)
    found = []
    for stage, part in zip(designer.schema.stages, network.stages, strict=True):
        with torch.no_grad():
            q, p = guide.nodes[part.site]["fn"], model.nodes[part.site]["fn"]
            rate = kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale))[member].mean(dim=0)
            means = q.loc[member].double().numpy()
        points, explained = _two_directions(means, seed)
        labels = kinds_of(stage.blocks[0], rows.frame)
        kinds, counts = np.unique(labels, return_counts=True)
        order = kinds[np.argsort(-counts, kind="stable")].tolist()
        active = int((rate > ACTIVE).sum())
        found.append(
            LatentMap(part.site, points, explained, means.shape[1], active, stage.blocks[0].name, labels, order)
        )
    return found


def _two_directions(means: Floats, seed: int) -> tuple[Floats, Floats]:
    count = min(2, *means.shape)
    if float(np.var(means, axis=0).sum()) == 0:
        return np.zeros((len(means), 2)), np.zeros(2)
    pca = PCA(count, random_state=seed)
    points = np.zeros((len(means), 2))
    points[:, :count] = pca.fit_transform(means)
    explained = np.zeros(2)
    explained[:count] = pca.explained_variance_ratio_
    return points, explained


def kinds_of(block: Block, frame: pd.DataFrame) -> list[str]:
    """What each row is by one block: its largest component, its code, or how a step was done; shape ``(B,)``."""
    if isinstance(block, Amounts | Fractions):
        values = frame[list(block.columns)].to_numpy(np.float64)
        largest = np.array(block.columns)[np.nan_to_num(values).argmax(axis=1)]
        kinds: list[str] = np.where(np.nan_to_num(values).max(axis=1) > 0, largest, "none").tolist()
        return kinds
    if isinstance(block, Category):
        return [block.labels.get(str(code), f"{block.column} {code}") for code in frame[block.column]]
    states = step_states(frame, block)
    names = [*block.states, "not given"]
    return [names[int(state)] for state in np.nan_to_num(states, nan=len(block.states))]
