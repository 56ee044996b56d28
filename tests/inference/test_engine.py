"""The training loop: members, early stopping, resuming, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.splits import hold_out
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer, TrainState
from pyro_hcvae.inference.schedules import learning_rate
from pyro_hcvae.inference.streams import TrainingData
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from tests.laboratories import SMALL, tiny_table

CONFIG = TrainConfig(members=3, steps=50, interval=10, batch_size=16, seed=4, refit=False)
REFIT = CONFIG.model_copy(update={"refit": True, "learning_rate": (0.02, 0.05, 0.01)})
"""Members learn at rates at which they do best after different numbers of steps."""


def data() -> tuple[TrainingData, RecipeCodec]:
    table = tiny_table()
    codec = RecipeCodec.fit(table.schema, table.frame)
    ids = table.recipe_ids()
    weights = np.random.default_rng(0).choice([0.1, 1.0], len(ids))  # rows of one recipe differ, too
    return TrainingData(codec.encode(table.frame), codec.layout, ids, ids, weights), codec


def trainer(config: TrainConfig = CONFIG, state: TrainState | None = None, model: ModelConfig = SMALL) -> Trainer:
    rows, codec = data()
    network = HierarchicalCVAE(codec.schema, len(codec.feature_names), model, seeds=config.seeds)
    return Trainer(network, rows, config, state)


def copy(state: TrainState) -> TrainState:
    tensors = {name: getattr(state, name).clone() for name in TrainState.TENSORS}
    return TrainState(interval=state.interval, **tensors, history=[dict(r) for r in state.history])


@pytest.mark.parametrize("gamma", ["balanced", (1.5, 1.0, 0.5)])
def test_a_member_in_a_crowd_equals_the_same_member_alone(gamma) -> None:  # type: ignore[no-untyped-def]
    crowd = trainer(CONFIG.model_copy(update={"gamma": gamma}))
    crowd.train()
    for member in range(3):
        alone = trainer(CONFIG.model_copy(update={"gamma": gamma, "members": 1, "seed": 4 + member}))
        alone.train()
        difference = (alone.state.values[0] - crowd.state.values[member]).abs().max()
        assert difference < 2e-5
        moved = (alone.state.values[0] - trainer().state.values[member]).abs().max()
        assert moved > 0.05  # training did something
    seeds = crowd.state.values
    assert (seeds[0] - seeds[1]).abs().max() > 0.1


def test_training_lowers_the_held_out_loss() -> None:
    run = trainer(CONFIG.model_copy(update={"steps": 150}))
    state = run.train()
    losses = np.array([r["validation_loss"] for r in state.history]).reshape(-1, 3)
    assert (state.best_loss.numpy() < losses[0] - 1).all()
    assert np.allclose(state.best_loss.numpy(), losses.min(axis=0))


def test_best_weights_are_the_ones_that_stay() -> None:
    run = trainer()
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def remember(state: TrainState) -> None:
        for member in range(3):
            seen[state.interval, member] = state.values[member].clone()

    state = run.train(remember)
    losses = np.array([r["validation_loss"] for r in state.history]).reshape(-1, 3)
    for member in range(3):
        best = int(losses[:, member].argmin()) + 1
        assert torch.equal(run.state.values[member], seen[best, member])


def test_members_stop_on_their_own_and_keep_their_best() -> None:
    config = CONFIG.model_copy(
        update={"steps": 2000, "patience": 3, "beta_warmup": 0.01, "learning_rate": 0.02, "interval": 10}
    )
    run = trainer(config)
    state = run.train()
    assert state.interval < run.intervals
    assert bool(run.stopped.all())
    stops = [next(r["step"] for r in state.history if r["member"] == m and r["waited"] >= 3) for m in range(3)]
    assert len(set(stops)) > 1
    for member in range(3):
        after = [r for r in state.history if r["member"] == member and r["step"] > stops[member]]
        assert not any(r["best"] for r in after)


def test_patience_counts_from_the_end_of_the_warm_up() -> None:
    config = CONFIG.model_copy(update={"beta_warmup": 1.0, "learning_rate": 1e-9, "patience": 1})
    run = trainer(config)
    run.train()
    assert run.state.interval == run.intervals


def test_validation_recipes_are_whole_and_differ_between_members() -> None:
    table = tiny_table()
    groups = table.recipe_ids()
    held = []
    for seed in (0, 1):
        kept, out = hold_out(groups, 0.2, seed=seed)
        assert not set(groups[kept]) & set(groups[out])
        assert len(set(groups[out])) == round(0.2 * len(set(groups)))
        held.append(set(groups[out]))
    assert held[0] != held[1]


def test_resuming_from_any_interval_ends_in_the_same_bits() -> None:
    whole = trainer(REFIT)
    kept: list[TrainState] = []
    final = whole.train(lambda state: kept.append(copy(state)))
    assert [bool(state.until.any()) for state in kept[:6]] == [False] * 5 + [True]
    for stop_after in (1, 4, 5, 6, 7):
        resumed = trainer(REFIT, copy(kept[stop_after - 1]))
        end = resumed.train()
        assert torch.equal(resumed.state.values, whole.state.values)
        assert torch.equal(end.best_values, final.best_values)
        assert end.history == final.history


def test_members_are_trained_anew_on_all_rows_for_as_long_as_served_them_best() -> None:
    run, before = trainer(REFIT), trainer(REFIT.model_copy(update={"refit": False}))
    state, stopped = run.train(), before.train()
    # What stopped them is as without: the history, and the members themselves.
    assert state.history == stopped.history
    assert torch.equal(state.best_values, stopped.values)
    best = [max(r["step"] for r in state.history if r["member"] == m and r["best"]) for m in range(3)]
    assert state.until.tolist() == state.best_step.tolist() == best
    assert len(set(best)) > 1
    # The same by hand: all rows in the place of those that were not set aside.
    rows, codec = data()
    held = {seed: hold_out(rows.groups, REFIT.validation_fraction, seed=seed)[1] for seed in REFIT.seeds}
    everything = replace(rows, splits={seed: (np.arange(len(rows.groups)), out) for seed, out in held.items()})
    network = HierarchicalCVAE(codec.schema, len(codec.feature_names), SMALL, seeds=REFIT.seeds)
    by_hand = Trainer(network, everything, before.config)
    for step in range(10, max(best) + 1, 10):
        by_hand.run_interval()
        for member in np.flatnonzero(np.equal(best, step)):
            assert torch.equal(by_hand.state.values[member], state.values[member])
    assert (state.values - state.best_values).abs().amax(dim=1).min() > 1e-3


def test_members_that_diverged_are_not_trained_again() -> None:
    run = trainer(REFIT)
    run.state.best_loss.fill_(1.0)
    run.state.best_loss[1] = torch.inf
    assert len(list(run.passes())) == 1
    assert not run.refitting


def test_a_member_that_diverges_on_all_rows_stays_as_it_stopped(caplog: pytest.LogCaptureFixture) -> None:
    sound, run = trainer(REFIT), trainer(REFIT)
    expected = sound.train()

    def spoil(state: TrainState) -> None:
        if run.refitting:
            state.values[1] = torch.nan

    kept: list[TrainState] = []

    def note(state: TrainState) -> None:
        spoil(state)
        kept.append(copy(state))

    with caplog.at_level("WARNING"):
        state = run.train(note)
    assert torch.equal(state.values[1], expected.best_values[1])
    assert torch.equal(state.values[[0, 2]], expected.values[[0, 2]])
    assert "stay as they stopped: 1" in caplog.text
    # It is so, too, if the run is interrupted and goes on.
    from_there = next(state for state in kept if state.values[1].isnan().any())
    resumed = trainer(REFIT, from_there)
    assert torch.equal(resumed.train().values, state.values)


def test_steps_need_not_be_a_multiple_of_the_interval() -> None:
    run = trainer(CONFIG.model_copy(update={"steps": 25}))
    state = run.train()
    assert [r["step"] for r in state.history][::3] == [10, 20, 25]


def test_small_tables_fill_their_minibatches_by_going_round() -> None:
    run = trainer(CONFIG.model_copy(update={"batch_size": 100, "steps": 20}))
    assert np.isfinite(run.train().best_loss.numpy()).all()


def test_nothing_global_is_touched() -> None:
    torch.manual_seed(11)
    before = (torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype())
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    validation = torch.distributions.Distribution._validate_args
    trainer(CONFIG.model_copy(update={"steps": 20})).train()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[1:]
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert torch.distributions.Distribution._validate_args == validation
    assert not pyro.get_param_store().keys()


def test_history_records_the_schedule() -> None:
    run = trainer(CONFIG.model_copy(update={"beta_warmup": 0.5}))
    history = run.train().history
    assert [r["beta"] for r in history[::3]] == pytest.approx([0.4, 0.8, 1.0, 1.0, 1.0])
    assert history[-1]["gamma z_metal"] == pytest.approx(1.0)
    names = [name for name in history[0] if name.startswith("gamma ")]
    assert sum(history[0][name] for name in names) == pytest.approx(3.0, rel=1e-5)


def test_gamma_can_be_held_to_the_end() -> None:
    run = trainer(CONFIG.model_copy(update={"gamma": (1.5, 1.0, 0.5), "gamma_release": False}))
    history = run.train().history
    assert [history[-1][f"gamma {name}"] for name in run.latents] == pytest.approx([1.5, 1.0, 0.5])


def test_settings_of_each_member_are_as_if_it_were_alone() -> None:
    own = {
        "learning_rate": (1e-3, 4e-3, 2e-3),
        "beta_warmup": (0.1, 0.5, 0.9),
        "final_beta": (1.0, 0.1, 0.5),
        "gamma": ((1.5, 1.0, 0.5), (1.0, 1.0, 1.0), (0.5, 1.0, 1.5)),
        "gamma_release": False,
    }
    crowd = trainer(TrainConfig(**CONFIG.model_dump() | own))
    crowd.train()
    for member in range(3):
        alone = CONFIG.model_dump() | {name: v[member] if isinstance(v, tuple) else v for name, v in own.items()}
        single = trainer(TrainConfig(**alone | {"members": 1, "seed": CONFIG.seed + member}))
        single.train()
        assert (single.state.values[0] - crowd.state.values[member]).abs().max() < 2e-5


@pytest.mark.parametrize("name", ["learning_rate", "beta_warmup", "final_beta"])
def test_as_many_settings_as_members_are_needed(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: 2 values for 3 members"):
        TrainConfig(**CONFIG.model_dump() | {name: (0.5, 0.5)})


@pytest.mark.parametrize("value", [0.0, -1.0, (1.0, 0.0, 1.0)])
def test_beta_ends_above_zero(value: object) -> None:
    with pytest.raises(ValueError, match="final_beta"):
        TrainConfig(**CONFIG.model_dump() | {"final_beta": value})


def test_beta_of_each_member_rises_to_its_own_end_and_the_factors_to_one() -> None:
    ends = (0.01, 0.5, 2.0)
    run = trainer(CONFIG.model_copy(update={"beta_warmup": 0.5, "final_beta": ends}))
    history = run.train().history
    for member, end in enumerate(ends):
        own = history[member::3]
        assert [r["beta"] for r in own] == pytest.approx([end * x for x in (0.4, 0.8, 1.0, 1.0, 1.0)])
        assert [own[-1][f"gamma {name}"] for name in run.latents] == pytest.approx([1.0] * 3)


def test_a_member_is_stopped_by_the_loss_that_it_comes_to() -> None:
    ends = (0.01, 0.5, 2.0)
    run = trainer(CONFIG.model_copy(update={"beta_warmup": 1.0, "final_beta": ends}))
    for record in run.train().history:
        rate = sum(value for name, value in record.items() if name.startswith("rate "))
        log_p = sum(value for name, value in record.items() if name.startswith("log p "))
        # The beta of the end, however far its rise has come.
        assert record["validation_loss"] == pytest.approx(ends[int(record["member"])] * rate - log_p, rel=1e-4)


def test_a_small_final_beta_keeps_a_higher_rate() -> None:
    settings = {"steps": 120, "beta_warmup": 0.1, "final_beta": (0.01, 1.0, 1.0)}
    history = trainer(CONFIG.model_copy(update=settings)).train().history
    low, *full = (sum(r[name] for name in r if name.startswith("rate ")) for r in history[-3:])
    assert low > 2 * max(full) + 1


@pytest.mark.parametrize("rates", [2e-3, (1e-3, 2e-3, 4e-3)])
def test_the_update_is_adamw_at_each_members_rate_with_each_members_gradient_clipped(rates) -> None:  # type: ignore[no-untyped-def]
    run = trainer(CONFIG.model_copy(update={"learning_rate": rates}))
    config, generator = run.config, torch.Generator().manual_seed(0)
    reference = [torch.nn.Parameter(row.clone()) for row in run.state.values]
    optimizer = torch.optim.AdamW([{"params": [p]} for p in reference], weight_decay=config.weight_decay)
    size = torch.tensor([[1e-3], [1.0], [50.0]])  # the last members' gradients are beyond the largest norm
    for step in range(6):
        grads = size * torch.randn(run.state.values.shape, generator=generator)
        for group, grad, peak in zip(optimizer.param_groups, grads, config.each("learning_rate"), strict=True):
            group["lr"] = learning_rate(step, config.steps, peak, warmup_steps=config.steps)
            group["params"][0].grad = grad.clone()
            torch.nn.utils.clip_grad_norm_(group["params"], config.clip_norm)
        optimizer.step()
        run._gradient.copy_(grads)
        run._update(step)
    for member, p in enumerate(reference):
        assert torch.allclose(run.state.values[member], p, atol=1e-6)


def test_as_many_fixed_factors_as_layers_are_needed() -> None:
    with pytest.raises(ValueError, match="3 layers"):
        trainer(CONFIG.model_copy(update={"gamma": (1.0, 0.5)}))
