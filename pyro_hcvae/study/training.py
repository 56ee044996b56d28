"""Trains what the study compares, all repeats at once, in files that an interrupted training goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.checkpoints import write_atomically
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer, TrainState
from pyro_hcvae.inference.epochs import EpochConfig, EpochState, EpochTrainer
from pyro_hcvae.inference.streams import TrainingData
from pyro_hcvae.model.config import Compile, ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.study.models import KINDS, OURS, Training
from pyro_hcvae.study.protocol import Repeat, StudyRows, member_rows

CHECKPOINT_EPOCHS = 20
OnProgress = Callable[[str, int, int, int], None]
"""Called with a training's key, units done, units planned, and members that are still going."""


@dataclass(frozen=True)
class StudyConfig:
    """What is fixed for all trainings.

    Attributes:
        seed: Repeat ``r`` draws everything from ``seed + r``.
        epochs: Longest training of a published model.
        steps: Longest training of ours, in minibatches.
        compile: As for `TrainConfig`.
    """

    seed: int = 0
    epochs: int = 800
    steps: int = 3000
    compile: Compile = "auto"


def train(
    training: Training,
    rows: StudyRows,
    repeats: Sequence[Repeat],
    config: StudyConfig,
    folder: Path,
    on_progress: OnProgress = lambda key, done, planned, going: None,
) -> Any:
    """Train all repeats of one kind, or go on with them, or read what is finished.

    Args:
        training: What to train.
        rows: The table.
        repeats: One split a member.
        config: Settings.
        folder: Holds ``KEY.safetensors`` once it is finished, and a checkpoint before.
        on_progress: Called now and then.

    Returns:
        The trained network, whose members are the repeats.

    Raises:
        InputError: If a file in the folder is damaged, or if training diverged.
    """
    file, checkpoint = (folder / f"{training.key}{end}" for end in (".safetensors", ".checkpoint.safetensors"))
    seeds = [config.seed + i for i in range(len(repeats))]
    network = _our_network(rows, repeats, seeds) if training.kind == OURS else KINDS[training.kind].network(
        rows.widths, seeds=seeds
    )  # fmt: skip
    if file.is_file():
        with torch.no_grad():
            weights = read_tensors(file)
            for name, parameter in network.named_parameters():
                parameter.copy_(weights[name])
        return network
    state = read_tensors(checkpoint) if checkpoint.is_file() else None
    fit = _fit_ours if training.kind == OURS else _fit_published
    about = fit(training, network, rows, repeats, config, state, checkpoint, on_progress)
    weights = {name: p.detach().contiguous() for name, p in network.named_parameters()}
    if not all(torch.isfinite(x).all() for x in weights.values()):
        raise InputError(f"training {training.key} diverged: its weights are not finite")
    write_atomically(file, to_bytes({**weights, **about}))
    checkpoint.unlink(missing_ok=True)
    return network


def _fit_published(
    training: Training,
    network: Any,
    rows: StudyRows,
    repeats: Sequence[Repeat],
    config: StudyConfig,
    state: Mapping[str, Tensor] | None,
    checkpoint: Path,
    on_progress: OnProgress,
) -> dict[str, Tensor]:
    settings = EpochConfig(
        training.kl_weights, KINDS[training.kind].annealing, epochs=config.epochs, compile=config.compile
    )
    seeds = [config.seed + i for i in range(len(repeats))]
    trainer = EpochTrainer(network, member_rows(rows, repeats, network.reads), settings, seeds, state)

    def after_epoch(trainer: EpochTrainer) -> None:
        if trainer.state.epoch % CHECKPOINT_EPOCHS == 0 or trainer.finished:
            write_atomically(checkpoint, to_bytes({k: x.contiguous() for k, x in trainer.state.tensors().items()}))
            on_progress(training.key, trainer.state.epoch, config.epochs, int(trainer.going.sum()))

    final: EpochState = trainer.train(after_epoch)
    return {"epochs trained": final.stopped_at, "best epoch": final.best_epoch}


def our_codecs(rows: StudyRows, repeats: Sequence[Repeat]) -> list[RecipeCodec]:
    """Scales of each repeat's training rows."""
    codecs = []
    for repeat in repeats:
        part = rows.table.select(repeat.train)
        codecs.append(RecipeCodec.fit(part.schema, part.frame, part.recipe_weights()))
    return codecs


def _our_network(rows: StudyRows, repeats: Sequence[Repeat], seeds: Sequence[int]) -> HierarchicalCVAE:
    codec = our_codecs(rows, repeats[:1])[0]  # all have as many features
    return HierarchicalCVAE(rows.table.schema, len(codec.feature_names), ModelConfig(), seeds=seeds)


def _fit_ours(
    training: Training,
    network: HierarchicalCVAE,
    rows: StudyRows,
    repeats: Sequence[Repeat],
    config: StudyConfig,
    state: Mapping[str, Tensor] | None,
    checkpoint: Path,
    on_progress: OnProgress,
) -> dict[str, Tensor]:
    """Our training as it is, but that all recipes count alike, as in the trainings that it stands beside.

    The rows of the repeats stand one below the other, each on the scales of its own repeat.
    """
    table, count = rows.table, len(rows.table)
    codecs = our_codecs(rows, repeats)
    packed = [codec.encode(table.frame) for codec in codecs]
    recipes = table.recipe_ids()
    kinds = int(recipes.max()) + 1
    seeds = [config.seed + i for i in range(len(repeats))]
    data = TrainingData(
        torch.cat(packed),
        codecs[0].layout,
        torch.cat([torch.from_numpy(recipes) + i * kinds for i in range(len(repeats))]).numpy(),
        torch.arange(count * len(repeats)).numpy(),
        splits={
            seed: (r.train + i * count, r.validation + i * count)
            for i, (seed, r) in enumerate(zip(seeds, repeats, strict=True))
        },
    )  # fmt: skip
    if state is None:
        levels = [
            fit_levels(codec, x[r.train], table.select(r.train).recipe_weights(), network.config.mixture_components)
            for codec, x, r in zip(codecs, packed, repeats, strict=True)
        ]
        network.start_at({site: _stacked([each[site] for each in levels]) for site in levels[0]})
    settings = TrainConfig(
        members=len(repeats), seed=config.seed, steps=config.steps, final_beta=training.kl_weights[0],
        compile=config.compile, refit=False,
    )  # fmt: skip
    restored = None
    if state is not None:
        if missing := set(TrainState.TENSORS) - set(state):
            raise InputError(
                f"{checkpoint} was written by another version, which trained otherwise (no {', '.join(sorted(missing))}). "
                "Remove it; its training then starts again"
            )
        restored = TrainState.start(state["values"], len(network.latent_dims))
        restored.interval = int(state["interval"])
        for name in TrainState.TENSORS:
            setattr(restored, name, state[name])
    trainer = Trainer(network, data, settings, restored)

    def after_interval(state: TrainState) -> None:
        tensors = {name: getattr(state, name).contiguous() for name in TrainState.TENSORS}
        write_atomically(checkpoint, to_bytes({**tensors, "interval": torch.tensor(state.interval)}))
        done = min(state.interval * settings.interval, settings.steps)
        on_progress(training.key, done, settings.steps, int((~trainer.stopped).sum()))

    trainer.train(after_interval)
    return {}


def _stacked(levels: Sequence[Levels]) -> Levels:
    """Levels of one site, one a member, on a leading axis."""
    names = ("log_weights", "loc", "scale")
    return Levels(*(torch.stack([getattr(each, name) for each in levels]) for name in names))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of the study.

    Raises:
        InputError: If it is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}. Remove it; its training then starts again") from None
