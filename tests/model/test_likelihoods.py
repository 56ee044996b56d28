"""Heads of numbers: they start at the levels of a table, and see only what exists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.likelihoods import NumbersHead
from pyro_hcvae.model.networks import look_up, reset_members
from tests.laboratories import SMALL, tiny_model, tiny_table

MEMBERS, ROWS, HIDDEN, STRUCTURE, FEATURES, AT_MOST = 2, 6, 4, 3, 5, 2
FLOOR = 0.05
GENERATOR = torch.Generator().manual_seed(0)
HIDDEN_STATE = torch.randn(MEMBERS, ROWS, HIDDEN, generator=GENERATOR)
STRUCTURES = torch.randn(MEMBERS, ROWS, STRUCTURE, generator=GENERATOR)
NUMBERS = torch.randn(MEMBERS, ROWS, FEATURES, generator=GENERATOR)
EXISTS = torch.zeros(MEMBERS, ROWS, FEATURES, dtype=torch.bool)
for row, columns in enumerate(([], [0], [3], [0, 1], [1, 3], [0, 3])):  # 2 and 4 never exist
    EXISTS[:, row, columns] = True


def head(config: ModelConfig, *, stir: float = 0.5) -> NumbersHead:
    out = NumbersHead(MEMBERS, HIDDEN, STRUCTURE, FEATURES, AT_MOST, config)
    reset_members(out, (3, 4))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in out.parameters():
            p += stir * torch.randn(p.shape, generator=generator)
    return out


def log_prob(head: NumbersHead, numbers: Tensor = NUMBERS) -> Tensor:
    out: Tensor = head(HIDDEN_STATE, STRUCTURES, EXISTS).log_prob(numbers)
    return out


def levels(count: int) -> Levels:
    generator = torch.Generator().manual_seed(2)
    weights, loc, scale = torch.randn(3, FEATURES, count, generator=generator)
    scale = scale.abs()
    scale[:, 0] = 0.0  # a single value
    return Levels(weights.log_softmax(-1), loc, scale)


def test_it_starts_at_the_density_of_the_levels() -> None:
    start = levels(6)
    module = head(ModelConfig(mixture_components=6, scale_floor=FLOOR))
    module.start_at(start)
    nn.init.zeros_(module.head.weight)
    nn.init.zeros_(module.head.bias)
    # Single values are as wide as the floor, and a little more.
    gaussians = Normal(start.loc, start.scale.clamp(min=1.1 * FLOOR))
    each = MixtureSameFamily(Categorical(logits=start.log_weights), gaussians).log_prob(NUMBERS)
    assert torch.allclose(log_prob(module), (each * EXISTS).sum(-1), rtol=1e-4, atol=1e-4)


def test_a_whole_model_starts_at_the_levels_of_its_table() -> None:
    model, _, codec = tiny_model()
    frame = tiny_table().frame
    found = fit_levels(codec, codec.encode(frame), np.ones(len(frame)), SMALL.mixture_components)
    model.start_at(found)
    for part in model.stages:
        for block in part.blocks:
            if block.numbers_site is not None:
                for member in block.numbers_head.gaussians:
                    assert torch.equal(member[:, 0], found[block.numbers_site].log_weights)
                    assert torch.equal(member[:, 1], found[block.numbers_site].loc)


def test_levels_stay_where_they_are_whatever_the_recipe_and_their_weights_do_not() -> None:
    module = head(ModelConfig(mixture_components=6))
    module.start_at(levels(6))
    out = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    # Rows 1 and 3 both have number 0 in the first place.
    assert torch.equal(out.loc[:, 1, 0], out.loc[:, 3, 0])
    assert torch.equal(out.scale[:, 1, 0], out.scale[:, 3, 0])
    assert not torch.allclose(out.logits[:, 1, 0], out.logits[:, 3, 0])


def test_free_gaussians_move_with_the_recipe() -> None:
    out = head(ModelConfig(mixture="free", mixture_components=3))(HIDDEN_STATE, STRUCTURES, EXISTS)
    for part in (out.logits, out.loc, out.scale):
        assert not torch.isclose(part[:, 1, 0], part[:, 3, 0]).any()


def test_one_free_component_is_one_gaussian() -> None:
    module = head(ModelConfig(mixture="free", mixture_components=1, scale_floor=FLOOR))
    out = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    expected = torch.zeros(MEMBERS, ROWS)
    for place in range(AT_MOST):
        at = out.positions[..., place : place + 1]
        each = Normal(out.loc[..., place, 0], out.scale[..., place, 0]).log_prob(NUMBERS.gather(-1, at).squeeze(-1))
        expected += each * out.exists[..., place]
    assert torch.allclose(log_prob(module), expected, atol=1e-5)
    assert (out.scale > FLOOR).all()
    assert (log_prob(module)[:, 0] == 0).all()  # nothing exists in the first row


@pytest.mark.parametrize("mixture", ["levels", "free"])
def test_what_does_not_exist_neither_counts_nor_learns(mixture: str) -> None:
    module = head(ModelConfig(mixture=mixture, mixture_components=3))  # type: ignore[arg-type]
    density = log_prob(module)
    assert torch.equal(density, log_prob(module, torch.where(EXISTS, NUMBERS, 1e6)))
    density.sum().backward()
    for table in (module.which.rows, module.gaussians):
        assert table.grad is not None
        for absent in (2, 4):
            assert (table.grad[:, absent] == 0).all()
        for present in (0, 1, 3):
            assert (table.grad[:, present].flatten(1).abs().sum(-1) > 0).all()
    before = log_prob(module).detach()
    with torch.no_grad():
        for table in (module.which.rows, module.gaussians):
            table[:, [2, 4]] += 1.0
    assert torch.equal(before, log_prob(module))


@pytest.mark.parametrize("mixture", ["levels", "free"])
def test_members_are_independent(mixture: str) -> None:
    module = head(ModelConfig(mixture=mixture, mixture_components=3))  # type: ignore[arg-type]
    before = log_prob(module)
    before[0].sum().backward()
    for name, p in module.named_parameters():
        assert p.grad is not None, name
        assert (p.grad[1] == 0).all(), name
        assert p.grad[0].abs().sum() > 0, name
    with torch.no_grad():
        for p in module.parameters():
            p[1] += 1.0
    after = log_prob(module)
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1, 1:], after[1, 1:]).any()


@pytest.mark.parametrize("mixture", ["levels", "free"])
def test_numbers_are_the_same_whether_all_are_computed_or_those_that_exist(mixture: str) -> None:
    module = head(ModelConfig(mixture=mixture, mixture_components=3))  # type: ignore[arg-type]
    few = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    module.at_most = FEATURES
    every = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    assert (few.positions.shape[-1], every.positions.shape[-1]) == (AT_MOST, FEATURES)
    assert torch.allclose(few.log_prob(NUMBERS), every.log_prob(NUMBERS), atol=1e-5)
    assert torch.equal(
        every.expand((7, MEMBERS, ROWS)).log_prob(NUMBERS.expand(7, -1, -1, -1))[3], every.log_prob(NUMBERS)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = every.sample((500,))
    assert (drawn[:, ~EXISTS] == 0).all()
    chances = every.logits.softmax(-1)
    expected = (chances * every.loc).sum(-1)
    spread = (chances * (every.loc**2 + every.scale**2)).sum(-1) - expected**2
    assert ((drawn.mean(0) - expected).abs() < 5 * (spread / 500).sqrt())[EXISTS].all()


def test_rows_of_a_table_are_looked_up_for_each_member() -> None:
    table = torch.randn(3, 4, 2)
    positions = torch.tensor([[[0, 3], [1, 1]]]).expand(3, 2, 2)
    found = look_up(table, positions)
    assert found.shape == (3, 2, 2, 2)
    for member in range(3):
        assert torch.equal(found[member], table[member][positions[member]])
    assert torch.equal(look_up(table, None).expand(3, 2, 4, 2)[:, 1], table)
