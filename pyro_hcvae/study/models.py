"""What the study compares: the published models under their names, ours, and the trainings that each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from io import StringIO
from typing import Any

import pandas as pd

from pyro_hcvae.model import architectures as published
from pyro_hcvae.study.protocol import SPLITS, Split

KL_WEIGHT = 0.1
OURS = "ours"


@dataclass(frozen=True)
class Kind:
    """A published architecture as the study trains it.

    Attributes:
        network: Makes the members from the widths of the parts and their seeds.
        annealing: Share of the epochs over which the KL weights rise.
    """

    network: Callable[..., Any]
    annealing: float = 0.0


KINDS: Mapping[str, Kind] = {
    "amounts": Kind(partial(published.SingleCVAE, part=published.AMOUNTS)),
    "presence": Kind(partial(published.SingleCVAE, part=published.PRESENCE)),
    "shared": Kind(published.SharedCVAE),
    "joint": Kind(published.JointCVAE),
    "hierarchy": Kind(published.PublishedHierarchy, annealing=0.3),
}


@dataclass(frozen=True)
class Training:
    """One training of all repeats.

    Attributes:
        kind: A key of `KINDS`, or `OURS`.
        split: How rows are parted.
        kl_weights: One a latent; of ours, the final beta.
    """

    kind: str
    split: Split
    kl_weights: tuple[float, ...]

    @property
    def key(self) -> str:
        """Name of its files."""
        return "-".join([self.split, self.kind, *(f"{weight:g}" for weight in self.kl_weights)])


@dataclass(frozen=True)
class Model:
    """A row of the study's table.

    Attributes:
        name: As published.
        kinds: What it is made of; networks of several kinds are trained apart.
        gate: What becomes of the amounts (`architectures.gated`).
        kl_weights: One a latent.
    """

    name: str
    kinds: tuple[str, ...]
    gate: str = "none"
    kl_weights: tuple[float, ...] = (KL_WEIGHT,)

    @property
    def weights(self) -> str:
        """KL weights in words."""
        return "/".join(f"{weight:g}" for weight in self.kl_weights)

    def trainings(self, split: Split) -> list[Training]:
        """What must be trained for it."""
        return [Training(kind, split, self.kl_weights) for kind in self.kinds]


_BOTH = ("presence", "amounts")
_STEEP, _FLAT = (0.1, 0.05, 0.02), (0.01, 0.005, 0.002)
"""The gammas that were published for the hierarchy."""


def _hierarchy(gamma: tuple[float, ...]) -> list[Model]:
    return [Model("hierarchy", ("hierarchy",), gate, gamma) for gate in published.GATES]


def _flat() -> list[Model]:
    return [
        Model("single", ("amounts",)),
        *(Model("independent", _BOTH, gate) for gate in ("soft", "hard")),
        *(Model("shared", ("shared",), gate) for gate in published.GATES),
        *(Model("joint", ("joint",), gate, (KL_WEIGHT,) * 2) for gate in published.GATES),
    ]


def _sweep() -> list[Model]:
    independent = [Model("independent", _BOTH, "soft", (weight,)) for weight in (0.01, 1.0, 10.0)]
    single = [Model("single", ("amounts",), "none", (weight,)) for weight in (0.01, 1.0, 10.0)]
    return [*independent, *single]


def plan(splits: Sequence[Split] = SPLITS) -> list[tuple[Split, Model]]:
    """Everything that the study shows, in the order in which it is worked off: what takes longest comes last.

    Every split gets the published models at their published weights, and ours at theirs; grouped splits also get ours as it is
    used, with a KL weight of 1. Further weights, the steep gamma among them, are trained on splits of rows alone.
    """
    grouped = SPLITS[1:]
    work: list[tuple[Split, Model]] = [
        *(("row", model) for model in (*_flat(), *_hierarchy(_FLAT), Model(OURS, (OURS,)))),
        *((split, model) for split in grouped for model in (*_flat(), Model(OURS, (OURS,)))),
        *((split, Model(OURS, (OURS,), kl_weights=(1.0,))) for split in grouped),
        *(("row", model) for model in _sweep()),
        *((split, model) for split in grouped for model in _hierarchy(_FLAT)),
        *(("row", model) for model in _hierarchy(_STEEP)),
    ]
    return [(split, model) for split, model in work if split in splits]


def in_order(names: pd.DataFrame) -> pd.Index:
    """Labels of rows with ``split`` and ``model`` in the order in which they are shown: by split, ours last."""
    place = pd.DataFrame({"split": names["split"].map(SPLITS.index), "ours": names["model"] == OURS}, index=names.index)
    return place.sort_values(["split", "ours"], kind="stable").index


def published_figures() -> pd.DataFrame:
    """Published means and standard deviations of R2 over the repeats, by model, gate and KL weights."""
    text = (files("pyro_hcvae.study") / "published.csv").read_text(encoding="utf-8")
    return pd.read_csv(StringIO(text), comment="#", dtype={"kl_weights": str})
