"""Training by epochs: repeats side by side, each as if it were alone, and to the same end after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_hcvae.inference.epochs import EpochConfig, EpochTrainer, MemberRows
from pyro_hcvae.model.architectures import AMOUNTS, REACTION, TREATMENT, JointCVAE, PublishedHierarchy, SingleCVAE
from pyro_hcvae.model.compilation import CACHE_VARIABLE
from tests.model.test_architectures import WIDTHS

COLUMNS = 60
TRAIN, HELD = ([40, 21, 33], [10, 17, 8])
"""Rows of three members: minibatches of 16 come out even for none of them, and they have different numbers of them."""


def rows(reads: tuple[str, ...], members: slice = slice(0, 3)) -> MemberRows:
    generator = torch.Generator().manual_seed(0)
    slices, start = {}, 0
    for name in reads:
        slices[name] = slice(start, start + WIDTHS[name])
        start += WIDTHS[name]
    packed = torch.rand(3, COLUMNS, start, generator=generator).round()
    train = [np.arange(n) for n in TRAIN]
    held = [np.arange(n, n + m) for n, m in zip(TRAIN, HELD, strict=True)]
    return MemberRows(packed[members], slices, train[members], held[members])


def trainer(config: EpochConfig, members: slice = slice(0, 3), **options: object) -> EpochTrainer:
    seeds = (5, 6, 7)[members]
    network = SingleCVAE(WIDTHS, seeds=seeds)
    return EpochTrainer(network, rows(network.reads, members), config, seeds, **options)  # type: ignore[arg-type]


CONFIG = EpochConfig((0.1,), epochs=12, patience=2, batch_size=16, learning_rate=0.03)


def test_a_member_in_a_crowd_equals_the_member_alone() -> None:
    crowd = trainer(CONFIG)
    together = crowd.train()
    assert len(set(together.stopped_at.tolist())) > 1  # they stop at different epochs
    for m in range(3):
        alone = trainer(CONFIG, slice(m, m + 1)).train()
        assert alone.stopped_at[0] == together.stopped_at[m]
        assert alone.best_epoch[0] == together.best_epoch[m]
        torch.testing.assert_close(alone.values[0], together.values[m], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.taken[0], together.taken[m])


def test_a_step_is_that_of_torch() -> None:
    """One epoch of one member against a loop with torch's own Adam on separate parameters and a plain mean."""
    config = EpochConfig((0.1,), epochs=1, batch_size=16, learning_rate=0.03, weight_decay=0.1)
    run = trainer(config, slice(1, 2))
    order, real, noise = run._shuffled(0)
    other = SingleCVAE(WIDTHS, seeds=(6,))
    optimizer = torch.optim.Adam(other.parameters(), lr=0.03, weight_decay=0.1)
    parts = rows(other.reads, slice(1, 2))
    for batch, keep, z in zip(order, real, noise, strict=True):
        chosen = batch[0][keep[0]]
        assert len(chosen) in (16, TRAIN[1] - 16)
        shown = parts.parts(parts.packed[:, chosen])
        q = other.encoder(shown[AMOUNTS], shown[TREATMENT], shown[REACTION]).base_dist
        out = other.decoder(q.loc + q.scale * z[:, : len(chosen)], shown[TREATMENT], shown[REACTION])
        kl = -0.5 * (1 + 2 * q.scale.log() - q.loc**2 - q.scale**2).sum()
        loss = (((out - shown[AMOUNTS]) ** 2).sum() + 0.1 * kl) / len(chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.run_epoch()
    for mine, theirs in zip(run.network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_every_row_is_seen_once_an_epoch_and_never_a_held_out_one() -> None:
    run = trainer(CONFIG)
    for epoch in (0, 1):
        order, real, _ = run._shuffled(epoch)
        for m in range(3):
            assert sorted(order[:, m][real[:, m]].tolist()) == list(range(TRAIN[m]))
    assert not torch.equal(run._shuffled(0)[0], run._shuffled(1)[0])


def test_training_goes_on_bit_for_bit() -> None:
    config = EpochConfig((0.05, 0.1), epochs=6, patience=3, batch_size=16)

    def fresh(state: dict[str, torch.Tensor] | None = None) -> EpochTrainer:
        network = JointCVAE(WIDTHS, seeds=(1, 2, 3))
        return EpochTrainer(network, rows(network.reads), config, (1, 2, 3), state)

    whole = fresh().train()
    run = fresh()
    for _ in range(4):
        run.run_epoch()
    stored = {name: tensor.clone() for name, tensor in run.state.tensors().items()}
    resumed = fresh(stored).train()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name


def test_patience_waits_for_the_annealing() -> None:
    config = EpochConfig((0.1, 0.05, 0.02), annealing=0.5, epochs=10, patience=1, batch_size=16, learning_rate=1e-9)
    network = PublishedHierarchy(WIDTHS, seeds=(0,))
    run = EpochTrainer(network, rows(network.reads, slice(0, 1)), config, (0,))
    weights = [run._weights(epoch)[:, 0].tolist() for epoch in (0, 2, 5, 9)]
    for progress, found in zip((1e-3, 0.4, 1.0, 1.0), weights, strict=True):
        assert found == pytest.approx([progress * w for w in config.kl_weights])
    run._validate(torch.tensor([True]))
    run.state.best_loss.fill_(-1e9)  # nothing will ever be better
    run.train()
    assert run.state.stopped_at.tolist() == [5]


def test_what_training_ends_with_is_the_best_epoch() -> None:
    run = trainer(EpochConfig((0.1,), epochs=8, patience=3, batch_size=16, learning_rate=0.1))
    losses = []
    while not run.finished:
        run.run_epoch()
        before = run.state.best_loss.clone()
        losses.append(before)
    run.train()
    found = run.state.best_loss.clone()
    run.state.best_loss.fill_(float("inf"))
    run._validate(torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(run.state.best_loss, found)
    assert torch.equal(found, torch.stack(losses).amin(dim=0))


@pytest.mark.slow
@pytest.mark.thorough
def test_a_compiled_epoch_equals_the_eager_one(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    runs = [trainer(EpochConfig((0.1,), epochs=1, batch_size=16, compile=how)) for how in ("never", "always")]
    for run in runs:
        run.run_epoch()
    assert runs[1].engine.startswith("compiled step"), runs[1].engine
    torch.testing.assert_close(runs[0].state.values, runs[1].state.values, rtol=1e-4, atol=1e-5)


def test_a_weight_for_each_latent_is_needed() -> None:
    with pytest.raises(ValueError, match="2 KL weights for 1 latents"):
        trainer(EpochConfig((0.1, 0.1)))
