"""Draws: reproducible, for the right rows and members, and leaving random state alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from pyro import poutine

from pyro_hcvae.posterior import predictive
from pyro_hcvae.posterior.predictive import draw_recipes, drawing_scope, explain
from tests.laboratories import tiny_codec, tiny_model


def draws(
    seed: int, rows: int = 7, each: int = 5, members: tuple[int, ...] = (0, 1, 2)
) -> tuple[torch.Tensor, torch.Tensor]:
    model, _, codec = tiny_model(seeds=members, stir=0.3)
    _, packed = tiny_codec()
    parts = list(draw_recipes(model, codec.layout, packed[:rows], each, seed=seed))
    return torch.cat([r for r, _ in parts]), torch.cat([x for _, x in parts])


def test_draws_of_a_row_stand_together_beside_its_conditions() -> None:
    rows, drawn = draws(0)
    assert rows.tolist() == [i for i in range(7) for _ in range(5)]
    codec, packed = tiny_codec()
    c = codec.layout.condition_features
    assert torch.equal(drawn[:, :c], packed[:7].repeat_interleave(5, dim=0)[:, :c])


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    assert torch.equal(draws(1)[1], draws(1)[1])
    assert not torch.equal(draws(1)[1], draws(2)[1])


def test_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    draws(1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_between_chunks_everything_is_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictive, "CHUNK_ROWS", 10)
    model, _, codec = tiny_model(stir=0.3)
    _, packed = tiny_codec()
    whole = torch.cat([x for _, x in draw_recipes(model, codec.layout, packed[:7], 5, seed=1)])
    parts = []
    threads = torch.get_num_threads()
    for _, drawn in draw_recipes(model, codec.layout, packed[:7], 5, seed=1):
        assert torch.is_grad_enabled()
        assert torch.get_num_threads() == threads
        with torch.random.fork_rng():
            torch.manual_seed(99)  # what the caller does in between does not matter
            torch.rand(3)
        parts.append(drawn)
    assert len(parts) == 4
    assert torch.equal(torch.cat(parts), whole)


def test_draws_do_not_depend_on_what_is_known_of_the_recipe() -> None:
    model, _, codec = tiny_model(stir=0.3)
    _, packed = tiny_codec()
    blank = packed.clone()
    blank[:, codec.layout.condition_features :] = float("nan")
    a = torch.cat([x for _, x in draw_recipes(model, codec.layout, packed[:5], 4, seed=0)])
    b = torch.cat([x for _, x in draw_recipes(model, codec.layout, blank[:5], 4, seed=0)])
    assert torch.equal(a, b)


def test_every_row_sees_every_member() -> None:
    """Members whose presence is forced apart show up in the draws of each row."""
    model, _, codec = tiny_model(seeds=(0, 1), stir=0.0)
    with torch.no_grad():
        head = next(next(model.stages).blocks).presence_head
        head.bias[0, 0] = torch.tensor([15.0, -15.0, -15.0])
        head.bias[1, 0] = torch.tensor([-15.0, -15.0, 15.0])
        size = next(next(model.stages).blocks).size_head
        size.bias[:, 0] = torch.tensor([-15.0, 15.0, -15.0])
    _, packed = tiny_codec()
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, packed[:3], 4, seed=0)])
    presence = drawn[:, codec.layout.slices["metals.presence"]].view(3, 4, 3)
    assert (presence[..., 0].sum(1) == 2).all()
    assert (presence[..., 2].sum(1) == 2).all()


def test_explain_keeps_the_structure_in_the_second_set() -> None:
    model, _, codec = tiny_model(stir=0.3)
    _, packed = tiny_codec()
    batch = codec.layout.unpack(packed[None, :6])
    free, given = explain(model, batch, 8, seed=0)
    assert free["metals.presence"].shape == (8, 2, 6, 3)
    assert (given["metals.presence"] == batch.values["metals.presence"]).all()
    assert not (free["metals.presence"] == batch.values["metals.presence"]).all()
    present = batch.values["metals.presence"][0] > 0
    spread = given["metals.amount"].std(0).mean(0)
    assert (spread[present] > 0.05).all()


def test_explanations_in_several_chunks_are_of_the_rows_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, codec = tiny_model(stir=0.3)
    _, packed = tiny_codec()
    batch = codec.layout.unpack(packed[None, :6])
    monkeypatch.setattr(predictive, "CHUNK_ROWS", 2 * 6 * 3)  # three draws at once, and two in the end
    free, given = explain(model, batch, 8, seed=0)
    assert all(len(x) == 8 for draws in (free, given) for x in draws.values())
    assert (given["metals.presence"] == batch.values["metals.presence"]).all()
    assert len(torch.unique(given["metals.amount"].flatten(1), dim=0)) == 8  # no chunk repeats another


def test_draws_follow_the_model_given_its_latents() -> None:
    """Frequencies of whole structures among the draws of one row agree with their probabilities, averaged over latents."""
    model, _, codec = tiny_model(seeds=(0,), stir=0.3)
    _, packed = tiny_codec()
    name = "metals.presence"
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, packed[:1], 60_000, seed=0)])
    presence = drawn[:, codec.layout.slices[name]]
    batch = codec.layout.unpack_conditions(packed[:1, : codec.layout.condition_features].expand(1, 60_000, -1))
    with drawing_scope(1):
        trace = poutine.trace(model.model).get_trace(batch)
        for subset in itertools.product((0.0, 1.0), repeat=3):
            value = torch.tensor(subset)
            probability = trace.nodes[name]["fn"].log_prob(value.expand(1, 60_000, 3)).exp()
            frequency = (presence == value).all(-1).double().mean()
            spread = (probability.var() + probability.mean() * (1 - probability.mean())).sqrt() / 60_000**0.5
            assert abs(frequency - probability.mean()) <= 5 * spread
