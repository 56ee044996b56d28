"""Training shared among processes: each trains some of the members on a core of its own.

Members are independent, so nothing is exchanged but their states. A task is a pure function, state in and state out, and lasts
some seconds; between tasks the parent holds the state of all members, and writes checkpoints as if it trained them itself.
"""

from __future__ import annotations

import logging
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from pyro_hcvae.data.batch import Layout
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer, TrainState
from pyro_hcvae.inference.streams import TrainingData
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.scopes import keep_freed_memory

_log = logging.getLogger(__name__)
_TASK_SECONDS = 10.0
"""Tasks grow to about this length: long against the exchange of states, short against the work that a kill can lose."""


@dataclass(frozen=True)
class _Group:
    """All that a process needs to train some members; arrays, because joblib maps large ones into every process."""

    run: str
    schema: RecipeSchema
    conditions: int
    model: ModelConfig
    train: TrainConfig
    packed: NDArray[np.float32]
    recipes: NDArray[np.int64]
    groups: NDArray[np.int64]
    weights: NDArray[np.float64] | None

    def trainer(self) -> Trainer:
        network = HierarchicalCVAE(self.schema, self.conditions, self.model, seeds=self.train.seeds)
        with warnings.catch_warnings():  # the mapped array is read-only, and is only read
            warnings.filterwarnings("ignore", message=".*not writable.*")
            packed = torch.from_numpy(self.packed)
        layout = Layout(self.schema, self.conditions)
        return Trainer(network, TrainingData(packed, layout, self.recipes, self.groups, self.weights), self.train)


_trainers: dict[tuple[str, int], Trainer] = {}
"""In a worker process: the trainers it has built for the present run. They hold nothing that a task does not bring along."""


def _advance(group: _Group, state: TrainState, intervals: int) -> tuple[TrainState, str]:
    key = group.run, group.train.seed
    if key not in _trainers:
        for old in [other for other in _trainers if other[0] != group.run]:
            del _trainers[old]
        keep_freed_memory()
        _trainers[key] = group.trainer()
    trainer = _trainers[key]
    trainer.restore(state)
    for _ in range(intervals):
        trainer.run_interval()
    return trainer.state, trainer.engine


def train_in_processes(trainer: Trainer, on_interval: Callable[[TrainState], None] = lambda state: None) -> TrainState:
    """Train to the end as `Trainer.train` does, with the members shared among ``config.jobs`` processes.

    Each member comes to the same end as in one process within float32 rounding, and to the same bits whenever the number of
    processes is the same.

    Args:
        trainer: All members, on the CPU; its state is brought up to date after each round of tasks.
        on_interval: Called after each round, which may be several intervals.
    """
    members = trainer.config.members
    bounds = list(pairwise(np.linspace(0, members, min(trainer.config.jobs, members) + 1).round().astype(int).tolist()))
    model, data, run = trainer.model, trainer.data, uuid.uuid4().hex
    packed = data.packed.numpy()
    groups = [
        _Group(
            run,
            model.schema,
            model.conditions,
            model.config,
            trainer.config.of_members(start, stop),
            packed,
            data.recipes,
            data.groups,
            data.weights,
        )
        for start, stop in bounds
    ]
    # Orphans of a parent that was killed end after the idle time.
    with Parallel(n_jobs=len(groups), idle_worker_timeout=30) as pool:
        for _ in trainer.passes():
            _train_in(pool, trainer, groups, bounds, on_interval)
    return trainer.finish()


def _train_in(
    pool: Parallel,
    trainer: Trainer,
    groups: list[_Group],
    bounds: list[tuple[int, int]],
    on_interval: Callable[[TrainState], None],
) -> None:
    """One pass of `Trainer.passes`, in rounds of tasks."""
    intervals = 1
    while not trainer.finished:
        begun = time.monotonic()
        intervals = min(intervals, trainer.intervals - trainer.state.interval)
        parts = [trainer.state.of_members(*bound) for bound in bounds]
        # Copies: a view would be sent with all that it is a view of.
        tasks = [delayed(_advance)(group, part.copy(), intervals) for group, part in zip(groups, parts, strict=True)]
        try:
            done = pool(tasks)
        except TerminatedWorkerError:
            raise InputError(
                f"a process that trained members was killed, most likely because memory ran out: choose fewer than "
                f"{len(groups)} jobs"
            ) from None
        engine = f"{len(groups)} processes, {' or '.join(sorted({engine for _, engine in done}))}"
        if engine != trainer.engine:
            trainer.engine = engine
            _log.info("training with %s", engine)
        for part, (state, _) in zip(parts, done, strict=True):
            for name in TrainState.TENSORS:
                getattr(part, name).copy_(getattr(state, name))
        if trainer.refitting:  # which leaves no record
            trainer.state.interval += intervals
        else:
            _record(trainer, [state for state, _ in done], bounds)
        on_interval(trainer.state)
        if time.monotonic() - begun < _TASK_SECONDS:
            intervals *= 2


def _record(trainer: Trainer, states: list[TrainState], bounds: list[tuple[int, int]]) -> None:
    """Append the groups' new records in the order of one process: by interval, then member."""
    records = [
        {**record, "member": int(record["member"]) + start}
        for state, (start, _) in zip(states, bounds, strict=True)
        for record in state.history
    ]
    records.sort(key=lambda record: (record["step"], record["member"]))
    members = trainer.config.members
    for begin in range(0, len(records), members):
        interval = records[begin : begin + members]
        trainer.state.history += interval
        trainer.state.interval += 1
        if all(record["waited"] >= trainer.config.patience for record in interval):
            break  # one process would have stopped here
