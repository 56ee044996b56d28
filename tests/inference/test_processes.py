"""Members shared among processes come to the same end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyro_hcvae import RecipeDesigner
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer, TrainState
from pyro_hcvae.inference.processes import train_in_processes
from tests.inference.test_engine import CONFIG, copy, trainer
from tests.laboratories import SMALL, tiny_schema, tiny_table

SHARED = TrainConfig(
    **CONFIG.model_dump()
    | {"jobs": 2, "learning_rate": (1e-3, 2e-3, 4e-3), "gamma": ((1.5, 1.0, 0.5), (1.0, 1.0, 1.0), (0.5, 1.0, 1.5))}
    | {"refit": True}
)


def test_settings_of_some_members() -> None:
    part = SHARED.of_members(1, 3)
    assert part.seeds == SHARED.seeds[1:]
    assert part.each("learning_rate") == (2e-3, 4e-3)
    assert part.fixed_gamma() == SHARED.gamma[1:]
    assert part.jobs == 1
    assert CONFIG.of_members(0, 1).gamma == "balanced"


@pytest.mark.slow
def test_members_shared_among_processes_come_to_the_end_of_one_process() -> None:
    alone, shared = trainer(SHARED), trainer(SHARED)
    alone.train()
    seen: list[TrainState] = []
    train_in_processes(shared, lambda state: seen.append(copy(state)))
    assert (alone.state.values - shared.state.values).abs().max() < 2e-5
    assert (alone.state.best_values - shared.state.best_values).abs().max() < 2e-5
    assert torch.equal(alone.state.until, shared.state.until)
    assert shared.refitting
    for ours, reference in zip(shared.state.history, alone.state.history, strict=True):
        assert ours == pytest.approx(reference, rel=1e-4, abs=1e-4)
    assert shared.engine.startswith("2 processes")
    # An interrupted run goes on to the same bits, from before the members were trained anew and from after.
    for state in (seen[0], next(state for state in seen if state.until.any())):
        resumed = trainer(SHARED, state)
        train_in_processes(resumed)
        assert torch.equal(resumed.state.values, shared.state.values)
        assert resumed.state.history == shared.state.history


@pytest.mark.slow
@pytest.mark.thorough
def test_processes_stop_where_one_process_would() -> None:
    impatient = TrainConfig(**SHARED.model_dump() | {"steps": 800, "patience": 1, "beta_warmup": 0.0, "interval": 5})
    alone, shared = trainer(impatient), trainer(impatient)
    alone.train()
    train_in_processes(shared)
    assert len(alone.state.history) < 3 * 800 / 5  # it did stop early
    assert torch.equal(shared.state.until, alone.state.until)
    assert shared.state.interval == alone.state.interval
    assert len(shared.state.history) == len(alone.state.history)
    assert (alone.state.values - shared.state.values).abs().max() < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_run_keeps_a_member_that_diverged_on_all_rows_as_it_stopped(jobs: int, tmp_path: Path) -> None:
    train = TrainConfig(members=2, steps=20, interval=10, batch_size=16, jobs=jobs, compile="never")

    def spoil(run: Trainer) -> None:
        if run.refitting:
            run.state.values[1] = torch.nan

    designer = RecipeDesigner(tiny_schema(), model=SMALL, train=train).fit(
        tiny_table(), out=tmp_path / "run", on_interval=spoil
    )
    for found in (designer, RecipeDesigner.load(tmp_path / "run")):
        before = found.before_refit().network.state_dict()
        for name, values in found.network.state_dict().items():
            assert torch.isfinite(values).all()
            assert torch.equal(values[1], before[name][1])
        assert any(not torch.equal(values[0], before[name][0]) for name, values in found.network.state_dict().items())
