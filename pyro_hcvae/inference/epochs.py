"""`EpochTrainer`: trains members as published studies do, epoch by epoch over shuffled rows, with Adam and early stopping.

Members are repeats: each has its own rows, its own scales, its own initial values, minibatches and noise, and stops by itself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Generator, Tensor, nn

from pyro_hcvae.inference import schedules
from pyro_hcvae.inference.compilation import choose_step, worth_compiling
from pyro_hcvae.inference.objective import ElboTerms, GivenNoise, ScaledELBO
from pyro_hcvae.inference.step import BoundGradients, StepFunction
from pyro_hcvae.model.adam import adam_step
from pyro_hcvae.model.config import Compile
from pyro_hcvae.model.scopes import computing_scope

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochConfig:
    """Settings of one run.

    Attributes:
        kl_weights: Weight of each latent's KL, top first.
        annealing: Share of the epochs over which they rise from nearly 0, linearly.
        epochs: Longest training.
        patience: Epochs without a better validation, counted once the weights have risen, after which a member stops.
        batch_size: Rows of a minibatch; the last one of an epoch holds what is left.
        learning_rate: Of Adam.
        weight_decay: L2 penalty that Adam adds to the gradient.
        compile: As for `TrainConfig`.
    """

    kl_weights: tuple[float, ...]
    annealing: float = 0.0
    epochs: int = 800
    patience: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    compile: Compile = "auto"


@dataclass(frozen=True)
class MemberRows:
    """Rows of every member.

    Attributes:
        packed: All rows on each member's own scales, shape ``(M, N, W)``.
        slices: Where each part lies in a row.
        train: Rows that each member learns from.
        validation: Rows that stop it.
    """

    packed: Tensor
    slices: Mapping[str, slice]
    train: Sequence[NDArray[np.int64]]
    validation: Sequence[NDArray[np.int64]]

    def parts(self, packed: Tensor) -> dict[str, Tensor]:
        """Cut rows ``(M, B, W)`` into their parts."""
        return {name: packed[..., place] for name, place in self.slices.items()}

    def of(self, rows: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Rows of each member, padded to the longest: shape ``(M, B, W)``, and which of them are real, ``(M, B)``."""
        longest = max(map(len, rows))
        padded = np.stack([np.pad(r, (0, longest - len(r))) for r in rows])
        real = np.arange(longest) < np.array([len(r) for r in rows])[:, None]
        return torch.stack(
            [x[r] for x, r in zip(self.packed, torch.from_numpy(padded), strict=True)]
        ), torch.from_numpy(real)


@dataclass
class EpochState:
    """Everything that training carries from one epoch to the next.

    Attributes:
        epoch: Epochs done.
        values: Parameters, shape ``(M, P)``.
        first: First moment of Adam, shape ``(M, P)``.
        second: Second moment of Adam, shape ``(M, P)``.
        taken: Steps that each member has taken, shape ``(M,)``.
        best_values: Parameters at each member's best validation, shape ``(M, P)``.
        best_loss: Best validation loss, shape ``(M,)``.
        best_epoch: When it was reached, shape ``(M,)``.
        waited: Epochs since, shape ``(M,)``.
        stopped_at: Epochs that each member trained for, shape ``(M,)``.
    """

    epoch: int
    values: Tensor
    first: Tensor
    second: Tensor
    taken: Tensor
    best_values: Tensor
    best_loss: Tensor
    best_epoch: Tensor
    waited: Tensor
    stopped_at: Tensor

    TENSORS = (
        "values", "first", "second", "taken", "best_values", "best_loss", "best_epoch", "waited", "stopped_at",
    )  # fmt: skip

    @classmethod
    def start(cls, values: Tensor) -> EpochState:
        """The state before the first step, around given parameters ``(M, P)``, which training will change in place."""
        members = len(values)
        zero = torch.zeros(members, dtype=torch.int64)
        return cls(
            0, values, torch.zeros_like(values), torch.zeros_like(values), torch.zeros(members), values.clone(),
            torch.full((members,), math.inf), zero, zero.clone(), zero.clone(),
        )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors by name, to be written to a file."""
        return {name: getattr(self, name) for name in self.TENSORS} | {"epoch": torch.tensor(self.epoch)}


class _Bound(nn.Module):
    """The weighted bound of a minibatch of an architecture, as a function of tensors."""

    def __init__(self, network: Any, rows: MemberRows) -> None:
        super().__init__()
        self.network, self._rows = network, rows

    def forward(self, packed: Tensor, noise: Tensor, real: Tensor, weights: Tensor) -> ElboTerms:
        """Rows ``(M, B, W)``, noise ``(M, B, D)``, which rows count ``(M, B)``, weights ``(L, M)``."""
        counted = real.sum(dim=1, keepdim=True).clamp(min=1)
        elbo = ScaledELBO(
            {name: weights[i][:, None] for i, name in enumerate(self.network.latent_dims)},
            row_weights=(1 / counted).to(packed.dtype),
        )
        return network_terms(elbo, self.network, self._rows.parts(packed), noise, real)


def network_terms(
    elbo: ScaledELBO, network: Any, parts: Mapping[str, Tensor], noise: Tensor, real: Tensor
) -> ElboTerms:
    """Evaluate a bound of an architecture with given noise ``(M, B, D)``, on the rows that are real ``(M, B)``."""
    dims = network.latent_dims
    given = dict(zip(dims, torch.split(noise, list(dims.values()), dim=-1), strict=True))
    model = poutine.mask(network.model, mask=real)
    return elbo.terms(model, GivenNoise(given)(poutine.mask(network.guide, mask=real)), parts)


class EpochTrainer:
    """Trains the members of an architecture.

    All randomness of an epoch follows from a member's seed and the epoch's number: a resumed run goes on bit for bit, and a
    member does not depend on those beside it.

    Args:
        network: The members (`Architecture`); its parameters are updated in place.
        rows: What each of them learns from.
        config: Settings.
        seeds: One a member.
        state: Tensors to go on from (`EpochState.tensors`); None: start.

    Attributes:
        state: What training has come to.
        engine: How a step is carried out, for a reader; empty before the first step.
    """

    def __init__(
        self,
        network: Any,
        rows: MemberRows,
        config: EpochConfig,
        seeds: Sequence[int],
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        if len(config.kl_weights) != len(network.latent_dims):
            raise ValueError(f"{len(config.kl_weights)} KL weights for {len(network.latent_dims)} latents")
        self.network, self.rows, self.config, self.seeds = network, rows, config, seeds
        self.engine = ""
        self._gradients = BoundGradients(_Bound(network, rows))
        self._step_function: StepFunction | None = None
        self._flat_rows = rows.packed.flatten(0, 1)
        self._first_row = torch.arange(len(seeds))[:, None] * rows.packed.shape[1]
        self._dims = sum(network.latent_dims.values())
        self._steps = [math.ceil(len(r) / config.batch_size) for r in rows.train]
        self._validation = rows.of(rows.validation)
        longest = self._validation[1].shape[1]
        self._validation_noise = torch.stack(
            [torch.randn(longest, self._dims, generator=_generator(seed, 1)) for seed in seeds]
        )
        self.state = EpochState.start(self._gradients.flat.values)
        if state is not None:
            for name in EpochState.TENSORS:
                getattr(self.state, name).copy_(state[name])
            self.state.epoch = int(state["epoch"])
        self._gradient = torch.zeros_like(self.state.values)

    @property
    def going(self) -> NDArray[np.bool_]:
        """Members that have patience left, shape ``(M,)``."""
        left: NDArray[np.bool_] = (self.state.waited < self.config.patience).numpy()
        return left

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.state.epoch >= self.config.epochs or not self.going.any()

    def train(self, on_epoch: Callable[[EpochTrainer], None] = lambda trainer: None) -> EpochState:
        """Train to the end, then put each member's best parameters into the network.

        Args:
            on_epoch: Called after each epoch, e.g. to write a checkpoint or to show progress.
        """
        while not self.finished:
            self.run_epoch()
            on_epoch(self)
        self.state.values.copy_(self.state.best_values)
        return self.state

    def run_epoch(self) -> None:
        """One pass of every member over its rows, then its validation."""
        epoch, going = self.state.epoch, self.going
        rows, real, noise = self._shuffled(epoch)
        weights = self._weights(epoch)
        if self._step_function is None:
            first = (self._gather(rows[0]), noise[0], real[0], weights)
            self._step_function = self._choose(first)
            _log.info("training with %s", self.engine)
        with computing_scope(len(self.seeds) * self.config.batch_size):
            for i in range(len(rows)):
                self._step_function(
                    self.state.values, self._gradient, self._gather(rows[i]), noise[i], real[i], weights
                )
                self._update([m for m in range(len(self.seeds)) if going[m] and i < self._steps[m]])
        self.state.epoch += 1
        with computing_scope():
            self._validate(torch.from_numpy(going))

    def _gather(self, rows: Tensor) -> Tensor:
        """Rows ``(M, B)`` of each member -> ``(M, B, W)``."""
        chosen = torch.index_select(self._flat_rows, 0, (rows + self._first_row).flatten())
        return chosen.view(*rows.shape, -1)

    def _shuffled(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random choices of an epoch: rows ``(S, M, B)``, which of them are real, noise of the latents ``(S, M, B, D)``."""
        steps, size = max(self._steps), self.config.batch_size
        rows = torch.zeros(len(self.seeds), steps * size, dtype=torch.int64)
        noise = torch.zeros(len(self.seeds), steps * size, self._dims)
        real = torch.zeros(len(self.seeds), steps * size, dtype=torch.bool)
        for m, (seed, own) in enumerate(zip(self.seeds, self.rows.train, strict=True)):
            if self.going[m]:
                generator = _generator(seed, 0, epoch)
                rows[m, : len(own)] = torch.from_numpy(own)[torch.randperm(len(own), generator=generator)]
                noise[m, : len(own)] = torch.randn(len(own), self._dims, generator=generator)
                real[m, : len(own)] = True
        by_step = (len(self.seeds), steps, size)
        return (
            rows.view(by_step).transpose(0, 1),
            real.view(by_step).transpose(0, 1).contiguous(),
            noise.view(*by_step, -1).transpose(0, 1).contiguous(),
        )

    def _weights(self, epoch: int) -> Tensor:
        """Weight of each latent's KL in an epoch, shape ``(L, M)``."""
        progress = schedules.beta(epoch, round(self.config.annealing * self.config.epochs))
        return (progress * torch.tensor(self.config.kl_weights))[:, None].expand(-1, len(self.seeds)).contiguous()

    def _choose(self, batch: tuple[Tensor, ...]) -> StepFunction:
        """Decide how steps are carried out, from the settings and the planned work alone: a resumed run decides alike."""
        example = (self.state.values, self._gradient, *batch)
        with (
            computing_scope(),
            pyro.validation_enabled(True),
        ):  # once: from here on every value has the form of this one
            self._gradients(*example)
        steps = self.config.epochs * max(self._steps)
        plan = worth_compiling(steps, len(self.seeds), self.config.batch_size)
        step, self.engine = choose_step(self._gradients, example, self.config.compile, plan)
        return step

    def _update(self, members: Sequence[int]) -> None:
        """Take Adam's step with members that have not stopped and have rows left."""
        state, config = self.state, self.config
        moving = (state.values, self._gradient, state.first, state.second, state.taken)
        parts = ([x[m] for m in members] for x in moving)
        adam_step(*parts, rate=config.learning_rate, weight_decay=config.weight_decay)

    @torch.no_grad()
    def _validate(self, going: Tensor) -> None:
        """Weigh each member's held-out rows with the weights that annealing ends with."""
        state = self.state
        packed, real = self._validation
        terms = network_terms(ScaledELBO(), self.network, self.rows.parts(packed), self._validation_noise, real)
        weights = dict(zip(self.network.latent_dims, self.config.kl_weights, strict=True))
        nats = sum(weights[name] * rate for name, rate in terms.rate.items()) - sum(terms.log_likelihood.values())
        loss = torch.where(real, nats, 0.0).sum(dim=1) / real.sum(dim=1)
        better = going & (loss < state.best_loss)
        state.best_loss.copy_(torch.where(better, loss, state.best_loss))
        state.best_epoch.copy_(torch.where(better, state.epoch, state.best_epoch))
        state.best_values[better] = state.values[better]
        annealed = state.epoch >= round(self.config.annealing * self.config.epochs)
        state.waited.copy_(torch.where(better, 0, state.waited + (going & annealed)))
        state.stopped_at.copy_(torch.where(going, state.epoch, state.stopped_at))


def _generator(*key: int) -> Generator:
    """Generator of a member's seed, a purpose, and an epoch."""
    mixed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return Generator().manual_seed(mixed % 2**63)
