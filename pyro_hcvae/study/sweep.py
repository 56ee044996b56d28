"""Sweep: a search for settings by held-out likelihood, kept in a journal that it goes on from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tomli_w

from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.splits import Grouping
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.cross_validation import split_folds
from pyro_hcvae.inference.checkpoints import write_atomically
from pyro_hcvae.study.engines import Engine, Shared
from pyro_hcvae.study.folder import kept_settings, working_alone
from pyro_hcvae.study.settings_space import SettingsSpace
from pyro_hcvae.study.trials import STUDY, Pruning, Trials, storage

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

JOURNAL, SETTINGS, TABLE, BEST = "journal.log", "settings.json", "trials.csv", "config.toml"
_STARTUP = 10
"""Trials at random before the sampler has something to learn from."""


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Attributes:
        table: All rows. Only held-out recipes of the development part are scored (`in_part`).
        space: What is varied, around the settings of all trials.
        by: What no split cuts in two.
        folds: Parts of the table, each of which could be held out.
        scored: How many of them are held out, one after the other, in each trial.
        together: Trials that share one training where what is varied may differ between members; 1 elsewhere.
        pruning: Which rule stops trials that go badly.
    """

    table: RecipeTable
    space: SettingsSpace
    by: Grouping = "recipe"
    folds: int = 5
    scored: int = 1
    together: int = 1
    pruning: Pruning = "median"

    def __post_init__(self) -> None:
        if not 1 <= self.scored <= self.folds:
            raise InputError(f"of {self.folds} folds, between 1 and {self.folds} can be scored, not {self.scored}")
        if self.together < 1:
            raise InputError(f"at least 1 trial makes a training, got {self.together}")
        if self.together > 1 and not self.space.per_member:
            raise InputError(
                f"trials can share a training only where members may differ in all that is varied, not in "
                f"{', '.join(self.space.ranges)}: leave out --together, or vary learning_rate, beta_warmup or final_beta alone"
            )

    def run(
        self,
        out: Path,
        trials: int,
        engine: Engine | None = None,
        *,
        on_trial: Callable[[Study, int], None] = lambda study, of: None,
    ) -> Study:
        """Run trials until there are so many, those included that are there already.

        The first trial has the settings as they are, as far as the space holds them. Each is written to the journal as it begins
        and as it ends; an interrupted one begins anew, with the same settings. The folder also gets ``trials.csv`` and
        ``config.toml``, the best settings for ``fit --config``.

        Args:
            out: Folder of the sweep. On a cluster of several machines it must lie where all see it under the same path.
            trials: How many trials there are in the end.
            engine: Where they run; None: one after the other in this process. One at a time, a sweep is the same each time; when
                several run at once, what one of them is like depends on which others have ended.
            on_trial: Called at the start and after each trial with the study and the number of trials wanted.

        Raises:
            InputError: If Optuna is missing, if the folder holds another sweep, if another process is at work there, or if a
                setting makes training impossible.
        """
        require_optuna()
        from optuna.trial import TrialState

        if trials < 1:
            raise InputError(f"at least 1 trial is needed, got {trials}")
        engine, folds = engine or Engine(), self._folds()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {out}: cannot make this folder: {error.strerror}") from None
        with working_alone(out), _quiet_optuna():
            _begin(out, self.settings())
            study = self._study(out)
            work = Trials(self.space, folds, (out / JOURNAL).resolve(), self.pruning)
            on_trial(study, trials)
            for outcomes in engine.run(Trials.run, Shared(work), self._pieces(study, trials)):
                for outcome in outcomes:
                    study.tell(outcome.number, outcome.value, state=TrialState[outcome.state])
                    _write(self.space, study, out)
                    on_trial(study, trials)
            _write(self.space, study, out)
        return study

    def settings(self) -> dict[str, Any]:
        """What trials of one study have in common, as JSON can hold it."""
        hashes = row_hashes(self.table.frame, list(self.table.schema.columns))
        return {
            "table": hashlib.sha256(hashes.tobytes()).hexdigest(),
            "by": self.by,
            "folds": self.folds,
            "scored": self.scored,
            "together": self.together,
            "pruning": self.pruning,
            "vary": list(self.space.texts),
            "config": self.space.base.model_dump(mode="json"),
        }

    def _folds(self) -> tuple[tuple[RecipeTable, RecipeTable], ...]:
        seed = self.space.base.train.seed
        split = islice(split_folds(self.table, self.by, self.folds, [seed], part="development"), self.scored)
        return tuple((fold.train, fold.held) for _, _, fold in split)

    def _study(self, out: Path) -> Study:
        import optuna

        study = optuna.create_study(
            storage=storage(out / JOURNAL), study_name=STUDY, direction="maximize", load_if_exists=True
        )
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(self.space.base_parameters())
        return study

    def _pieces(self, study: Study, wanted: int) -> Iterator[list[int]]:
        """Numbers of trials that run together: first those that were interrupted, then new ones."""
        from optuna.trial import Trial, TrialState

        there = study.get_trials(deepcopy=False)
        interrupted = [trial for trial in there if trial.state is TrialState.RUNNING]
        count = sum(trial.state is not TrialState.WAITING for trial in there)
        for trial in interrupted:  # it may have been killed between two of its settings
            study.sampler = self._sampler(trial.number)
            self.space.suggest(Trial(study, trial._trial_id))
        numbers = [trial.number for trial in interrupted]
        while numbers or count < wanted:
            while len(numbers) < self.together and count < wanted:
                study.sampler = self._sampler(count)
                trial = study.ask()
                self.space.suggest(trial)
                numbers.append(trial.number)
                count += 1
            piece, numbers = numbers[: self.together], numbers[self.together :]
            yield piece

    def _sampler(self, number: int) -> Any:
        """A sampler whose choice follows from the trials before it: it has no state that an interruption could lose."""
        from optuna.samplers import TPESampler

        mixed = np.random.SeedSequence([self.space.base.train.seed, number]).generate_state(1)[0]
        return TPESampler(seed=int(mixed), n_startup_trials=_STARTUP)


def require_optuna() -> None:
    """Check that sweeps can run.

    Raises:
        InputError: If they cannot.
    """
    if find_spec("optuna") is None:
        raise InputError('a sweep needs Optuna: pip install "pyro-hcvae[sweep]"')


def best_trial(study: Study) -> FrozenTrial | None:
    """The complete trial with the largest value; None if there is none."""
    from optuna.trial import TrialState

    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    return max(complete, key=_value, default=None)


def _value(trial: FrozenTrial) -> float:
    return -np.inf if trial.value is None else float(trial.value)


def trial_table(study: Study) -> pd.DataFrame:
    """One row a trial that has begun: ``number``, ``state``, ``log p recipe [nats]``, its settings, and its notes."""
    from optuna.trial import TrialState

    return pd.DataFrame(
        [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "log p recipe [nats]": trial.value if trial.state is TrialState.COMPLETE else np.nan,
                **trial.params,
                **trial.user_attrs,
            }
            for trial in study.get_trials(deepcopy=False)
            if trial.state is not TrialState.WAITING
        ]
    )


def _write(space: SettingsSpace, study: Study, out: Path) -> None:
    frame = trial_table(study)
    write_atomically(out / TABLE, frame.to_csv(index=False, lineterminator="\n").encode())
    if (best := best_trial(study)) is not None:
        config = space.with_settings(space.from_parameters(best.params))
        write_atomically(out / BEST, tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)).encode())


def _begin(out: Path, settings: dict[str, Any]) -> None:
    file = out / SETTINGS
    if not file.is_file():
        if any(entry.name != ".lock" for entry in out.iterdir()):
            raise InputError(f"--out {out} is not empty and holds no sweep: choose another folder")
        write_atomically(file, (json.dumps(settings, indent=1) + "\n").encode())
        return
    kept_settings(file, settings, "a sweep")


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Without the lines that Optuna writes for each trial: the caller shows progress itself."""
    from optuna import logging as optuna_logging

    before = optuna_logging.get_verbosity()
    optuna_logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        optuna_logging.set_verbosity(before)
