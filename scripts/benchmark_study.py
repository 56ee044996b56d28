"""What the repeats of the published study cost, the published way and ours, in process CPU time.

The published way is plain PyTorch (`references/published.py`): one repeat after another, a DataLoader, a Python step. Ours trains
all repeats at once as members: rows stay in memory, and the step is compiled. Both train the single continuous architecture with
the published settings on the same splits, with equal numbers of epochs for each repeat and no early stopping. They take turns,
so that a busy machine slows both. Before the clock runs, each has trained an epoch: what is loaded or compiled once does not
count, and is shown apart.

With ``--check`` both train their repeats to the end, early stopping included, and the R2 of both on the same splits are compared.

Examples:
    python scripts/benchmark_study.py TABLE.csv
    python scripts/benchmark_study.py TABLE.csv --check --repeats 5 --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from references.published import Repeat as PublishedRepeat
from references.published import squared_error

from pyro_hcvae import RecipeSchema, RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.inference.epochs import EpochConfig, EpochTrainer
from pyro_hcvae.model.architectures import AMOUNTS, REACTION, TREATMENT, SingleCVAE
from pyro_hcvae.model.scopes import keep_freed_memory
from pyro_hcvae.study.draws import published_draws
from pyro_hcvae.study.models import KL_WEIGHT
from pyro_hcvae.study.protocol import Repeat, StudyRows, member_rows, split
from pyro_hcvae.study.scoring import R2, r2

_NEVER = 10**9
"""Patience with which nothing stops early."""


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("table", type=Path, nargs="?", help="table of schema drm; default: a simulated one of 6,000 rows")
    out.add_argument("--repeats", type=int, default=20, help="repeats, each a member [20]")
    out.add_argument("--rounds", type=int, default=5, help="turns of each way [5]")
    out.add_argument("--epochs", type=int, default=10, help="epochs of each repeat in a turn [10]")
    out.add_argument("--check", action="store_true", help="compare the R2 of both, trained to the end")
    out.add_argument("--check-epochs", type=int, default=800, help="longest training of the check [800]")
    out.add_argument("--compile", choices=("always", "never"), default="always", help="whether our step is compiled")
    out.add_argument("--json", action="store_true", help="print one JSON object")
    return out


def study_rows(path: Path | None) -> StudyRows:
    """The table, or a simulated one of about its size."""
    schema = RecipeSchema.load("drm")
    if path is not None:
        return StudyRows.of(RecipeTable.read(path, schema))
    raw = VirtualLab().experiments(recipes=600, rows_per_recipe=10, seed=0)
    return StudyRows.of(RecipeTable.from_frame(raw, schema, source=raw.attrs["title"]))


def published_repeats(rows: StudyRows, repeats: Sequence[Repeat]) -> list[PublishedRepeat]:
    """The same splits, as the reference takes them."""
    told = np.hstack([rows.parts[TREATMENT], rows.parts[REACTION]])
    return [
        PublishedRepeat(rows.parts[AMOUNTS], told, r.train, r.validation, r.test, seed)
        for seed, r in enumerate(repeats)
    ]


def our_trainer(rows: StudyRows, repeats: Sequence[Repeat], config: EpochConfig) -> EpochTrainer:
    """All repeats as members of one training."""
    seeds = range(len(repeats))
    network = SingleCVAE(rows.widths, seeds=seeds)
    return EpochTrainer(network, member_rows(rows, repeats, network.reads), config, seeds)


def measure(rows: StudyRows, options: argparse.Namespace) -> dict[str, object]:
    """CPU seconds of an epoch of one repeat, round by round."""
    repeats = [split(rows.table, "row", seed) for seed in range(options.repeats)]
    reference = published_repeats(rows, repeats)
    config = EpochConfig((KL_WEIGHT,), epochs=_NEVER, patience=_NEVER, compile=options.compile)
    trainer = our_trainer(rows, repeats, config)
    start = time.process_time()
    trainer.run_epoch()
    first = time.process_time() - start
    if options.compile == "always" and not trainer.engine.startswith("compiled"):
        raise SystemExit(f"the step could not be compiled: {trainer.engine}")
    settings = {"kl_weight": KL_WEIGHT, "patience": _NEVER}
    reference[0].train_network(reference[0].x, squared_error, epochs=1, **settings)
    theirs, ours = [], []
    for number in range(options.rounds):
        start = time.process_time()
        repeat = reference[number % len(reference)]
        repeat.train_network(repeat.x, squared_error, epochs=options.epochs, **settings)
        theirs.append((time.process_time() - start) / options.epochs)
        start = time.process_time()
        for _ in range(options.epochs):
            trainer.run_epoch()
        ours.append((time.process_time() - start) / options.epochs / options.repeats)
    return {
        "repeats": options.repeats, "epochs": options.epochs, "rounds": options.rounds, "rows": len(rows.table),
        "published_s": statistics.median(theirs), "ours_s": statistics.median(ours),
        "ratio": statistics.median(a / b for a, b in zip(theirs, ours, strict=True)),
        "ratios": [a / b for a, b in zip(theirs, ours, strict=True)],
        "first_epoch_s": first, "engine": trainer.engine, "load": os.getloadavg()[0],
    }  # fmt: skip


def check(rows: StudyRows, options: argparse.Namespace) -> dict[str, object]:
    """R2 of both ways on the same splits, trained to the end."""
    repeats = [split(rows.table, "row", seed) for seed in range(options.repeats)]
    config = EpochConfig((KL_WEIGHT,), epochs=options.check_epochs, compile="auto")
    trainer = our_trainer(rows, repeats, config)
    trainer.train()
    drawn = published_draws([trainer.network], rows, repeats, "none", generate=False, seed=0)
    ours = [r2(rows, rows.table.frame.iloc[r.test], x)[R2] for r, x in zip(repeats, drawn, strict=True)]
    theirs, epochs = [], []
    for repeat in published_repeats(rows, repeats):
        network, run = repeat.train_network(
            repeat.x, squared_error, kl_weight=KL_WEIGHT, epochs=options.check_epochs, patience=config.patience
        )
        theirs.append(repeat.r2(repeat.amounts(network)))
        epochs.append(run)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return {
        "published_r2": statistics.mean(theirs), "ours_r2": statistics.mean(ours),
        "difference": statistics.mean(differences),
        "standard_error": statistics.stdev(differences) / len(differences) ** 0.5,
        "published_epochs": statistics.mean(epochs),
        "ours_epochs": float(trainer.state.stopped_at.double().mean()),
        "repeats": options.repeats,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from a command line."""
    options = parser().parse_args(arguments)
    if options.repeats < 2:
        raise SystemExit("--repeats: at least 2")
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = study_rows(options.table)
    found = {"check": check(rows, options)} if options.check else {"cost": measure(rows, options)}
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.check:
        result = found["check"]
        print(
            f"R2 of metals, {result['repeats']} repeats: published way {result['published_r2']:.4f} after "
            f"{result['published_epochs']:.0f} epochs, ours {result['ours_r2']:.4f} after {result['ours_epochs']:.0f}; "
            f"difference {result['difference']:+.4f} +- {result['standard_error']:.4f} (standard error)"
        )
    else:
        cost = found["cost"]
        print(
            f"CPU of an epoch of one repeat ({cost['rows']} rows, {cost['repeats']} members, load {cost['load']:.1f}): "
            f"published way {1e3 * float(str(cost['published_s'])):.1f} ms, ours {1e3 * float(str(cost['ours_s'])):.1f} ms, "
            f"{float(str(cost['ratio'])):.1f} times less; first epoch, with what is loaded or compiled once, "
            f"{float(str(cost['first_epoch_s'])):.0f} s"
        )


if __name__ == "__main__":
    main()
