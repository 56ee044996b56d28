"""What the published study leaves open, and what each reading of it gives: R2 of metals on random row splits.

The study's settings do not say everything. Each reading changes one thing in the protocol as `pyro-hcvae study paper` follows it,
and trains the architectures that it concerns.

    baseline             as `study paper`
    rate-multiplied      the rate constant times the contact time, instead of divided by it
    bounded              amounts through a sigmoid, instead of as they come from the last layer
    clipped              as baseline; decoded amounts below 0 count as 0 in the score
    posterior-mean       as baseline; decoded from the mean of the posterior instead of a draw
    shared-both          the shared encoder sees presences beside amounts
    shared-trunk         the two decoders of the shared architecture differ in their last layer alone
    shared-mean-bce      the cross-entropy of the shared architecture is the mean over columns, not their sum
    shared-prior-gate    the shared architecture as it is; its gate is decoded from a draw of the prior
    joint-through-gate   the squared error of the joint architecture is that of the amounts after the soft gate

Examples:
    python scripts/study_readings.py TABLE.csv --repeats 10 --json
    python scripts/study_readings.py TABLE.csv --reading rate-multiplied --reading clipped
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_hcvae import RecipeSchema, RecipeTable
from pyro_hcvae.inference.epochs import EpochConfig, EpochTrainer
from pyro_hcvae.inference.objective import GivenNoise, SiteScale
from pyro_hcvae.model.architectures import (
    AMOUNTS,
    CONDITIONS,
    GATES,
    PRESENCE,
    Decoder,
    Encoder,
    JointCVAE,
    Parts,
    SharedCVAE,
    SingleCVAE,
    conditions,
    plates,
)
from pyro_hcvae.model.networks import reset_members
from pyro_hcvae.model.scopes import keep_freed_memory
from pyro_hcvae.study.draws import published_draws
from pyro_hcvae.study.models import KL_WEIGHT
from pyro_hcvae.study.protocol import Repeat, StudyRows, member_rows, split
from pyro_hcvae.study.scoring import R2, r2

READINGS = (
    "baseline", "rate-multiplied", "bounded", "clipped", "posterior-mean", "shared-both", "shared-trunk", "shared-mean-bce",
    "shared-prior-gate", "joint-through-gate",
)  # fmt: skip


class SharedOfBoth(SharedCVAE):
    """The shared architecture with an encoder of presences beside amounts."""

    def __init__(self, widths: Any, *, seeds: Sequence[int]) -> None:
        super().__init__(widths, seeds=seeds)
        first = self.encoder.network.layers[0].weight.shape[1]
        self.encoder = Encoder(len(seeds), first + widths[PRESENCE])
        reset_members(self, seeds)

    def guide(self, parts: Parts) -> None:
        """The same guide, with more to see."""
        members, rows = plates(parts)
        with members, rows:
            pyro.sample("z", self.encoder(parts[AMOUNTS], parts[PRESENCE], *conditions(parts)))


class SharedTrunk(SharedCVAE):
    """The shared architecture with one decoder for both, but for its last layer."""

    def __init__(self, widths: Any, *, seeds: Sequence[int]) -> None:
        super().__init__(widths, seeds=seeds)
        self.presence.network.layers = self.amounts.network.layers
        reset_members(self, seeds)


class SharedMean(SharedCVAE):
    """The shared architecture with the cross-entropy averaged over the columns."""

    def model(self, parts: Parts) -> dict[str, Tensor]:
        """The same model, with less weight on presences."""
        with SiteScale({PRESENCE: 1 / self.presence.network.head.weight.shape[-1]}):
            return super().model(parts)


class BoundedDecoder(Decoder):
    """A decoder whose numbers lie between 0 and 1."""

    def forward(self, *shown: Tensor) -> Tensor:
        """Means of scaled numbers."""
        return torch.sigmoid(super().forward(*shown))


def bounded(widths: Any, *, seeds: Sequence[int]) -> SingleCVAE:
    """The single architecture with bounded amounts."""
    network = SingleCVAE(widths, seeds=seeds)
    inputs = network.decoder.network.layers[0].weight.shape[1]
    network.decoder = BoundedDecoder(len(seeds), inputs, widths[AMOUNTS])
    reset_members(network, seeds)
    return network


class _Still(GivenNoise):
    """Latents at the mean of their posterior."""

    def __init__(self, dims: dict[str, int], like: Tensor) -> None:
        super().__init__({name: like.new_zeros(*like.shape[:2], size) for name, size in dims.items()})


def _blind(model: Any, parts: Parts) -> dict[str, Tensor]:
    """What is decoded from the prior, whatever the latents are outside."""
    told = {name: parts[name] for name in CONDITIONS}
    with poutine.block():
        out: dict[str, Tensor] = model(told)
    return out


def results(
    reading: str, rows: StudyRows, repeats: Sequence[Repeat], epochs: int
) -> Iterator[tuple[str, str, list[float]]]:
    """Architecture, gate and R2 of every repeat under a reading."""
    if reading == "rate-multiplied":
        rows = StudyRows.of(rows.table, rate_constant="multiplied")
    made: dict[str, tuple[Any, tuple[str, ...]]] = {
        "baseline": (SingleCVAE, ("none",)),
        "rate-multiplied": (SingleCVAE, ("none",)),
        "bounded": (bounded, ("none",)),
        "clipped": (SingleCVAE, ("none",)),
        "posterior-mean": (SingleCVAE, ("none",)),
        "shared-both": (SharedOfBoth, GATES),
        "shared-trunk": (SharedTrunk, GATES),
        "shared-mean-bce": (SharedMean, GATES),
        "shared-prior-gate": (SharedCVAE, GATES),
        "joint-through-gate": (lambda widths, seeds: JointCVAE(widths, seeds=seeds, through_gate=True), GATES),
    }
    make, gates = made[reading]
    seeds = list(range(len(repeats)))
    network = make(rows.widths, seeds=seeds)
    config = EpochConfig((KL_WEIGHT,) * len(network.latent_dims), epochs=epochs)
    EpochTrainer(network, member_rows(rows, repeats, network.reads), config, seeds).train()
    if reading == "posterior-mean":
        plain = network.guide
        network.guide = lambda parts: _Still(network.latent_dims, next(iter(parts.values())))(plain)(parts)
    if reading == "shared-prior-gate":
        plain_model = network.model
        network.model = lambda parts: plain_model(parts) | {PRESENCE: _blind(plain_model, parts)[PRESENCE]}
    name = reading.split("-", maxsplit=1)[0] if reading.startswith(("shared", "joint")) else "single"
    metals = list(rows.columns.metals.columns)
    for gate in gates:
        scores = []
        for repeat, drawn in zip(
            repeats, published_draws([network], rows, repeats, gate, generate=False, seed=0), strict=True
        ):
            if reading == "clipped":
                drawn[metals] = drawn[metals].clip(lower=0)
            scores.append(r2(rows, rows.table.frame.iloc[repeat.test], drawn)[R2])
        yield name, gate, scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="table of schema drm")
    parser.add_argument("--repeats", type=int, default=20, help="repeats, each a member [20]")
    parser.add_argument("--epochs", type=int, default=800, help="longest training [800]")
    parser.add_argument("--reading", action="append", choices=READINGS, help="may be repeated; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    rows = StudyRows.of(RecipeTable.read(options.table, RecipeSchema.load("drm")))
    repeats = [split(rows.table, "row", seed) for seed in range(options.repeats)]
    found = []
    for reading in options.reading or READINGS:
        for name, gate, scores in results(reading, rows, repeats, options.epochs):
            found.append(
                {
                    "reading": reading, "model": name, "gate": gate, "mean": float(np.mean(scores)),
                    "sd": float(np.std(scores, ddof=1)), "scores": scores,
                }
            )  # fmt: skip
            if not options.json:
                print(f"{reading:20} {name:8} {gate:5} {found[-1]['mean']:.4f} +- {found[-1]['sd']:.4f}", flush=True)
    if options.json:
        print(json.dumps({"repeats": options.repeats, "epochs": options.epochs, "results": found}, indent=1))


if __name__ == "__main__":
    main()
