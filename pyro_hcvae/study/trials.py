"""`Trials`: the work of a sweep's trials, one piece of which trains the members of one or several trials at once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import DivergenceError
from pyro_hcvae.inference.engine import Record, Trainer
from pyro_hcvae.posterior.importance import log_marginal
from pyro_hcvae.study.settings_space import SettingsSpace

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import Trial

Pruning = Literal["median", "halving", "no"]
STUDY = "sweep"
_REPORTS = 20
"""Times that a training reports how it goes."""
_SCALE = 100
"""Steps of a trial's curve that stand for one training, so that trainings of different lengths can be compared."""
_WARMUP = 0.3
"""Share of the first training before which nothing is pruned: at the start a small beta flatters."""


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        number: Of the trial.
        value: Mean over held-out recipes of the log likelihood, in nats; None if it was pruned or failed.
        state: ``COMPLETE``, ``PRUNED`` or ``FAIL``.
    """

    number: int
    value: float | None
    state: Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True)
class Trials:
    """All that a worker needs to run trials.

    Attributes:
        space: What is varied, around the settings of all trials.
        folds: Rows to train on, and held-out rows, one a recipe.
        journal: File of the study, which all workers see.
        pruning: Which rule stops trials that go badly.
        draws: Importance draws of the likelihood, for each member.
    """

    space: SettingsSpace
    folds: tuple[tuple[RecipeTable, RecipeTable], ...]
    journal: Path
    pruning: Pruning = "median"
    draws: int = 128

    def study(self, **options: Any) -> Study:
        """The study as it stands in the journal."""
        import optuna

        return optuna.load_study(
            study_name=STUDY, storage=storage(self.journal), pruner=pruner(self.pruning), **options
        )

    def run(self, numbers: Sequence[int]) -> list[Outcome]:
        """Train and score trials whose settings stand in the study; several at once if they differ member by member.

        How they go, the value of each fold, seconds, and why one failed are written to the study; how they end is not.
        """
        from optuna.samplers import RandomSampler
        from optuna.trial import Trial

        study = self.study(sampler=RandomSampler())
        by_number = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
        trials = [Trial(study, by_number[number]) for number in numbers]
        try:
            return self._run(trials)
        except DivergenceError as error:
            if len(trials) > 1:  # one of them took the others along
                return [outcome for number in numbers for outcome in self.run([number])]
            trials[0].set_user_attr("failed", str(error))
            return [Outcome(trials[0].number, None, "FAIL")]

    def _run(self, trials: list[Trial]) -> list[Outcome]:
        begun, cpu = time.perf_counter(), time.process_time()
        members, going = self.space.base.train.members, _Going(trials)
        scores: list[list[float]] = []
        for number, (rows, held) in enumerate(self.folds):
            designer = self._designer(trials, rows)
            going.fold = number
            try:
                designer.fit(rows, on_interval=going.report, device="cpu")
            except _AllPrunedError:
                break
            batch = designer.codec.layout.unpack(designer.codec.encode(held.frame)[None])
            batch = batch.expand_members(designer.network.members)
            nats = log_marginal(designer.network, batch, draws=self.draws, seed=self.space.base.train.seed).double()
            mixed = torch.logsumexp(nats.view(len(trials), members, -1), dim=1) - math.log(members)
            scores.append(mixed.mean(dim=1).tolist())
        costs = {"seconds": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu}
        out = []
        for position, trial in enumerate(trials):
            values = [score[position] for score in scores]
            for name, cost in costs.items():
                trial.set_user_attr(name, round(cost / len(trials), 2))
            for fold, value in enumerate(values):
                trial.set_user_attr(f"fold {fold}", value)
            pruned = trial.number in going.pruned
            mean = None if pruned else float(np.mean(values))
            out.append(Outcome(trial.number, mean, "PRUNED" if pruned else "COMPLETE"))
        return out

    def _designer(self, trials: list[Trial], rows: RecipeTable) -> RecipeDesigner:
        settings = [self.space.suggest(trial) for trial in trials]
        if len(trials) == 1:
            config = self.space.with_settings(settings[0])
        else:
            members = self.space.base.train.members
            config = self.space.with_settings(
                {name: tuple(each[name] for each in settings for _ in range(members)) for name in settings[0]}
                | {"members": members * len(trials)}
            )
        # Settings are compared by what they make of the same rows; to train all of it twice would tell no more.
        train = config.train.model_copy(update={"refit": False})
        return RecipeDesigner(rows.schema, model=config.model, train=train)


class _AllPrunedError(Exception):
    pass


class _Going:
    """Reports to the study how the trials of one training go, and stops those that it prunes.

    What is reported is the bound of the likelihood on the members' own validation recipes, whatever beta a trial trains with.
    """

    def __init__(self, trials: list[Trial]) -> None:
        self.trials, self.fold, self.pruned = trials, 0, set[int]()
        self._reported = {trial.number: max(_curve(trial), default=-1) for trial in trials}

    def report(self, trainer: Trainer) -> None:
        """Called after each interval of training."""
        share = math.floor(_REPORTS * trainer.state.interval / trainer.intervals)
        step = self.fold * _SCALE + share * _SCALE // _REPORTS
        members = trainer.config.members // len(self.trials)
        for position, trial in enumerate(self.trials):
            mine = slice(position * members, (position + 1) * members)
            if trial.number not in self.pruned and step > self._reported[trial.number] and share:
                self._reported[trial.number] = step
                trial.report(_bound(trainer.state.history[-trainer.config.members :][mine]), step)
                if trial.should_prune():
                    self.pruned.add(trial.number)
            if trial.number in self.pruned:
                trainer.state.waited[mine] = trainer.config.patience  # these members count as stopped
        if len(self.pruned) == len(self.trials):
            raise _AllPrunedError


def _curve(trial: Trial) -> dict[int, float]:
    """What a trial has reported, before it was interrupted as the case may be."""
    values: dict[int, float] = trial.storage.get_trial(trial._trial_id).intermediate_values
    return values


def _bound(records: Sequence[Record]) -> float:
    each = [
        sum(value for name, value in record.items() if name.startswith("log p "))
        - sum(value for name, value in record.items() if name.startswith("rate "))
        for record in records
    ]
    return float(np.nan_to_num(np.mean(each), nan=-1e9, neginf=-1e9))


def storage(journal: Path) -> Any:
    """The journal of a study: a file that several processes may append to at once."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(journal)))


def pruner(pruning: Pruning) -> BasePruner:
    """What stops trials that go badly."""
    from optuna import pruners

    warmup = round(_WARMUP * _SCALE)
    match pruning:
        case "median":
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup, n_min_trials=3)
        case "halving":
            return pruners.SuccessiveHalvingPruner(min_resource=warmup, reduction_factor=3)
        case _:
            return pruners.NopPruner()
