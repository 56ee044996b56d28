"""Sweeps: honest scores, pruning, and a journal that loses nothing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_hcvae.cli.fit import run_config
from pyro_hcvae.data.splits import groups_of, in_part
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import DivergenceError, InputError
from pyro_hcvae.evaluation.reconstruction import held_out_density
from pyro_hcvae.inference.config import RunConfig, TrainConfig
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.study import sweep as module
from pyro_hcvae.study.engines import Engine
from pyro_hcvae.study.settings_space import SettingsSpace
from pyro_hcvae.study.sweep import Sweep, best_trial, trial_table
from pyro_hcvae.study.trials import Outcome, Trials, storage
from tests.laboratories import tiny_table

optuna = pytest.importorskip("optuna")
BASE = RunConfig(
    model=ModelConfig(latent_dims=(2,), hidden=(8,), mixture_components=2),
    train=TrainConfig(members=2, steps=40, interval=10, batch_size=16, compile="never"),
)
RATES = ("learning_rate=1e-3..2e-2:log",)
SCORE = "log p recipe [nats]"


def sweep(*texts: str, **more: Any) -> Sweep:
    return Sweep(tiny_table(), SettingsSpace(BASE, texts or RATES), folds=3, **more)


def scores(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "trials.csv").drop(columns=["seconds", "cpu_s"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed sweep of four trials."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    sweep().run(out, 4)
    return out


def test_a_sweep_leaves_a_table_and_settings_for_fit(whole: Path) -> None:
    found = scores(whole)
    assert found["number"].tolist() == [0, 1, 2, 3]
    assert found["learning_rate"].iloc[0] == BASE.train.learning_rate  # the settings as they are come first
    assert found["learning_rate"].nunique() == 4
    assert found["state"].eq("complete").all()
    best = found.loc[found[SCORE].idxmax()]
    config = run_config(whole / "config.toml", {})
    assert config.train.learning_rate == best["learning_rate"]
    assert config.train.model_copy(update={"learning_rate": BASE.train.learning_rate}) == BASE.train
    assert config.model == BASE.model


def test_scores_are_of_held_out_recipes_of_the_development_part(whole: Path) -> None:
    asked = sweep(scored=2)
    table = asked.table
    recipes, development = groups_of(table, "recipe"), in_part(table, "development")
    for train, held in asked._folds():
        rows = table.frame.index.get_indexer(held.frame.index)
        assert development[rows].all()
        inside = set(recipes[table.frame.index.get_indexer(train.frame.index)])
        assert not inside & set(recipes[rows])
        assert len(set(recipes[rows])) == len(rows)
    # The score is that of a designer of one's own, with its members as they stop.
    train, held = asked._folds()[0]
    rate = scores(whole)["learning_rate"].iloc[1]
    config = asked.space.with_settings({"learning_rate": rate})
    as_they_stop = config.train.model_copy(update={"refit": False})
    designer = RecipeDesigner(table.schema, model=config.model, train=as_they_stop).fit(train, device="cpu")
    alone = held_out_density(designer, held, draws=128, seed=0)
    assert scores(whole)[SCORE].iloc[1] == pytest.approx(alone[SCORE], abs=1e-3)


def test_several_folds_are_averaged(tmp_path: Path, whole: Path) -> None:
    sweep(scored=2).run(tmp_path / "sweep", 1)
    found = scores(tmp_path / "sweep").iloc[0]
    assert found[SCORE] == pytest.approx(found[["fold 0", "fold 1"]].astype(float).mean())
    assert found["fold 0"] == pytest.approx(scores(whole)["fold 0"].iloc[0])


@pytest.mark.parametrize(
    "where",
    ["within a trial", *(pytest.param(w, marks=pytest.mark.thorough) for w in ("between trials", "within a choice"))],
)
def test_an_interrupted_sweep_goes_on_as_if_nothing_had_been(
    where: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "sweep", []

    def interrupting(original: Any) -> Any:
        def stop(*arguments: Any) -> Any:
            calls.append(None)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments)

        return stop

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        match where:
            case "between trials":
                sweep().run(out, 4, on_trial=interrupting(lambda study, of: None))
            case "within a trial":
                patch.setattr(Trials, "_run", interrupting(Trials._run))
                sweep().run(out, 4)
            case _:
                patch.setattr(SettingsSpace, "suggest", interrupting(SettingsSpace.suggest))
                sweep().run(out, 4)
    before = scores(out)
    assert 0 < before["state"].eq("complete").sum() < 3
    sweep().run(out, 4)
    pd.testing.assert_frame_equal(scores(out), scores(whole))
    sweep().run(out, 4)  # nothing is left to do
    pd.testing.assert_frame_equal(scores(out), scores(whole))


def test_more_trials_can_be_asked_for_later(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    sweep().run(out, 2)
    sweep().run(out, 4)
    pd.testing.assert_frame_equal(scores(out), scores(whole))


@pytest.mark.thorough
def test_trials_in_processes_score_as_in_this_one(whole: Path, tmp_path: Path) -> None:
    sweep().run(tmp_path / "sweep", 3, Engine(jobs=2))
    found = scores(tmp_path / "sweep").head(2)
    pd.testing.assert_frame_equal(found, scores(whole).head(2))


def test_trials_share_a_training(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    sweep(together=2).run(out, 3)
    found, alone = scores(out), scores(whole)
    assert found["learning_rate"].head(2).tolist() == alone["learning_rate"].head(2).tolist()
    # The members of the first are those that it has alone, and a member in a crowd is the same as by itself.
    assert found[SCORE].iloc[0] == pytest.approx(alone[SCORE].iloc[0], abs=0.05)
    assert found[SCORE].notna().all()
    with pytest.raises(InputError, match="share a training only where .* not in weight_decay"):
        sweep("weight_decay=0.01..0.1", together=2)


def test_hopeless_trials_are_pruned(tmp_path: Path) -> None:
    from optuna.trial import TrialState, create_trial

    asked = sweep("learning_rate=1e-7..1e-2:log")
    study = optuna.create_study(storage=storage(tmp_path / "journal.log"), study_name="sweep", direction="maximize")
    distribution = {"learning_rate": optuna.distributions.FloatDistribution(1e-7, 1e-2, log=True)}
    for _ in range(5):  # trials that went much better all along
        study.add_trial(
            create_trial(
                params={"learning_rate": 1e-2}, distributions=distribution, value=0.0,
                intermediate_values=dict.fromkeys(range(5, 101, 5), 0.0),
            )
        )  # fmt: skip

    def outcome_of(pruning: Any, rate: float = 1e-7) -> Outcome:
        study.enqueue_trial({"learning_rate": rate})
        number = study.ask(distribution).number
        return Trials(asked.space, asked._folds(), tmp_path / "journal.log", pruning).run([number])[0]

    spared = outcome_of("no")
    assert spared.state == "COMPLETE"
    reported = study.trials[spared.number].intermediate_values
    assert list(reported) == [25, 50, 75, 100]
    assert all(value < 0 for value in reported.values())
    assert [outcome_of("halving", rate).state for rate in (1e-2, 1e-7)] == ["COMPLETE", "PRUNED"]
    outcome = outcome_of("median")
    number = outcome.number
    assert outcome.state == "PRUNED"
    assert outcome.value is None
    study.tell(number, state=TrialState.PRUNED)
    assert study.trials[number].state is TrialState.PRUNED
    assert max(study.trials[number].intermediate_values) < 100  # it was stopped early
    assert best_trial(study).value == 0.0  # type: ignore[union-attr]
    assert np.isnan(trial_table(study).set_index("number").loc[number, SCORE])


def test_a_trial_that_diverges_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = RecipeDesigner.fit

    def diverge(self: RecipeDesigner, *arguments: Any, **options: Any) -> RecipeDesigner:
        if max(self.config.train.each("learning_rate")) > 5e-3:
            raise DivergenceError("training diverged")
        return fit(self, *arguments, **options)

    monkeypatch.setattr(RecipeDesigner, "fit", diverge)
    study = sweep(together=2).run(tmp_path / "sweep", 4)
    table = trial_table(study)
    large = table["learning_rate"] > 5e-3
    assert large.any()
    assert table.loc[large, "state"].eq("fail").all()
    assert table.loc[large, "failed"].eq("training diverged").all()
    assert table.loc[~large, "state"].eq("complete").all()
    assert (~large).any()


def test_a_sweep_is_told_from_others(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(InputError, match="holds a sweep with scored = 1, not 2"):
        sweep(scored=2).run(whole, 9)
    with pytest.raises(InputError, match="holds a sweep with vary ="):
        sweep("learning_rate=1e-3..3e-2:log").run(whole, 9)
    (tmp_path / "something.txt").touch()
    with pytest.raises(InputError, match="is not empty and holds no sweep"):
        sweep().run(tmp_path, 1)
    assert tomllib.loads((whole / "config.toml").read_text())["train"]["members"] == 2
    assert json.loads((whole / "settings.json").read_text())["by"] == "recipe"


def test_what_a_sweep_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="between 1 and 3 can be scored"):
        sweep(scored=4)
    with pytest.raises(InputError, match="at least 1 trial is needed"):
        sweep().run(tmp_path / "sweep", 0)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "pyro-hcvae\[sweep\]"'):
        sweep().run(tmp_path / "sweep", 1)
    assert not (tmp_path / "sweep").exists()
