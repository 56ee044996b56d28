"""Numbers of a block: they start at the levels of a table, see only what exists, and follow one another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from pyro_hcvae.data.batch import Levels
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.likelihoods import Gaussians, Numbers, NumbersHead
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


def first_numbers(module: NumbersHead) -> Gaussians:
    """Logits, means and scales of each row's first number: it has none before it."""
    out = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    logits, loc, scale = (part[:, :, 0] for part in module.mixture(out._state, out._gaussians))
    return logits, loc, scale


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
    logits, loc, scale = first_numbers(module)
    # Rows 1 and 3 both have number 0 in the first place.
    assert torch.equal(loc[:, 1], loc[:, 3])
    assert torch.equal(scale[:, 1], scale[:, 3])
    assert not torch.allclose(logits[:, 1], logits[:, 3])


def test_free_gaussians_move_with_the_recipe() -> None:
    for part in first_numbers(head(ModelConfig(mixture="free", mixture_components=3))):
        assert not torch.isclose(part[:, 1], part[:, 3]).any()


def test_one_free_component_is_one_gaussian() -> None:
    module = head(ModelConfig(mixture="free", mixture_components=1, scale_floor=FLOOR, chained="no"))
    out = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    _, loc, scale = module.mixture(out._state, out._gaussians)
    expected = torch.zeros(MEMBERS, ROWS)
    for place in range(AT_MOST):
        at = out.positions[..., place : place + 1]
        each = Normal(loc[..., place, 0], scale[..., place, 0]).log_prob(NUMBERS.gather(-1, at).squeeze(-1))
        expected += each * out.exists[..., place]
    assert torch.allclose(log_prob(module), expected, atol=1e-5)
    assert (scale > FLOOR).all()
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


@pytest.mark.parametrize("chained", ["no", "stage"])
@pytest.mark.parametrize("mixture", ["levels", "free"])
def test_numbers_are_the_same_whether_all_are_computed_or_those_that_exist(mixture: str, chained: str) -> None:
    module = head(ModelConfig(mixture=mixture, mixture_components=3, chained=chained))  # type: ignore[arg-type]
    few = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    module.at_most = FEATURES
    every = module(HIDDEN_STATE, STRUCTURES, EXISTS)
    assert (few.positions.shape[-1], every.positions.shape[-1]) == (AT_MOST, FEATURES)
    assert torch.allclose(few.log_prob(NUMBERS), every.log_prob(NUMBERS), atol=1e-5)
    logits, loc, scale = module.mixture(every._state, every._gaussians)
    chances = logits.softmax(-1)
    expected = (chances * loc).sum(-1)
    spread = (chances * (loc**2 + scale**2)).sum(-1) - expected**2
    # The mean of a number that another one stands before is not known in closed form.
    closed = EXISTS & ((EXISTS.cumsum(-1) == 1) | (chained == "no"))
    for at_most in (AT_MOST, FEATURES):
        module.at_most = at_most
        drawn = draw(module, EXISTS, 500)
        assert (drawn[:, ~EXISTS] == 0).all()
        assert ((drawn.mean(0) - expected).abs() < 5 * (spread / 500).sqrt())[closed].all()


def repeated(module: NumbersHead, exists: Tensor, times: int) -> Numbers:
    """The distribution with each row many times in succession."""
    out = module(*(part.repeat_interleave(times, dim=1) for part in (HIDDEN_STATE, STRUCTURES, exists)))
    assert isinstance(out, Numbers)
    return out


def draw(module: NumbersHead, exists: Tensor, times: int) -> Tensor:
    """Draws, shape ``(times, M, B, F)``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = repeated(module, exists, times).sample()
    return drawn.view(MEMBERS, ROWS, times, FEATURES).permute(2, 0, 1, 3)


def chain_of(*columns: int) -> tuple[NumbersHead, Tensor]:
    """A head in which numbers say much to those after them, and rows in which some of the numbers exist."""
    module = head(ModelConfig(mixture_components=3))
    module.at_most = len(columns)
    with torch.no_grad():
        module.chain.levels.weight *= 4.0  # type: ignore[union-attr]
        module.gaussians[:, :, 1] *= 2.0
    exists = torch.zeros(MEMBERS, ROWS, FEATURES, dtype=torch.bool)
    exists[..., list(columns)] = True
    return module, exists


GRID = torch.linspace(-10.0, 10.0, 201)
STEP = 0.1


def on_grid(module: NumbersHead, exists: Tensor, columns: list[int], row: int) -> Tensor:
    """Density of member 0 in a row at all points of a grid in some columns, one axis for each column."""
    points = torch.cartesian_prod(*[GRID] * len(columns)).view(-1, len(columns))
    value = torch.zeros(1, len(points), FEATURES)
    value[0, :, columns] = points
    at = [part[:, row : row + 1].expand(-1, len(points), -1) for part in (HIDDEN_STATE, STRUCTURES, exists)]
    density = module(*at).log_prob(value.expand(MEMBERS, -1, -1))[0].exp()
    return density.detach().view(*[len(GRID)] * len(columns))  # type: ignore[no-any-return]


@pytest.mark.parametrize("columns", [[3], [1, 3]])
def test_draws_have_the_density_that_is_said(columns: list[int]) -> None:
    """Entropy and mixed moment by integration over a grid, and over draws."""
    module, exists = chain_of(*columns)
    row, times = 4, 4000
    density = on_grid(module, exists, columns, row) * STEP ** len(columns)
    assert density.sum().item() == pytest.approx(1.0, abs=1e-3)
    drawn = draw(module, exists, times)
    log_density = repeated(module, exists, times).log_prob(drawn.permute(1, 2, 0, 3).flatten(1, 2))
    said = -log_density.view(MEMBERS, ROWS, times)[0, row].detach()
    entropy = -(density * (density / STEP ** len(columns)).clamp(min=1e-30).log()).sum()
    assert (said.mean() - entropy).abs() < 4 * said.std() / times**0.5
    if len(columns) == 2:
        product = drawn[:, 0, row, columns[0]] * drawn[:, 0, row, columns[1]]
        expected = (density * GRID[:, None] * GRID).sum()
        assert (product.mean() - expected).abs() < 4 * product.std() / times**0.5
        first, second = (density * GRID[:, None]).sum(), (density * GRID).sum()
        assert (expected - first * second).abs() > 0.1  # they do depend on each other


@pytest.mark.parametrize("columns", [[0, 1], [0, 1, 4]])
def test_a_number_does_not_depend_on_those_after_it(columns: list[int]) -> None:
    """Integrated over its last number, a block has the density that it has without it."""
    module, exists = chain_of(*columns)
    value = torch.randn(MEMBERS, ROWS, FEATURES, generator=torch.Generator().manual_seed(5))
    without = exists.clone()
    without[..., columns[-1]] = False
    expected = module(HIDDEN_STATE, STRUCTURES, without).log_prob(value)
    many = value.repeat_interleave(len(GRID), dim=1)
    many[..., columns[-1]] = GRID.repeat(ROWS)
    density = repeated(module, exists, len(GRID)).log_prob(many).exp().view(MEMBERS, ROWS, -1)
    assert torch.allclose((density.sum(-1) * STEP).log(), expected, atol=2e-3)


@pytest.mark.parametrize("chained", ["no", "stage"])
def test_numbers_depend_on_each_other_only_if_they_are_chained(chained: str) -> None:
    module = head(ModelConfig(mixture_components=3, chained=chained))  # type: ignore[arg-type]
    assert (module.chain is None) == (chained == "no")
    moved = [NUMBERS.clone() for _ in range(4)]
    for change, (first, second) in zip(moved, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        change[:, 3, 0] += first
        change[:, 3, 1] += second
    neither, one, other, both = (log_prob(module, change)[:, 3] for change in moved)
    interaction = (both - one - other + neither).abs()
    assert (interaction < 1e-5).all() if chained == "no" else (interaction > 1e-2).all()


def echo() -> tuple[NumbersHead, Tensor]:
    """Two numbers with levels at -1 and 1, equally likely, of which the second repeats the level of the first."""
    module = NumbersHead(MEMBERS, 2, STRUCTURE, FEATURES, 2, ModelConfig(mixture_components=2, scale_floor=FLOOR))
    wide = torch.zeros(FEATURES, 2)
    module.start_at(Levels(wide, torch.tensor([-1.0, 1.0]).expand(FEATURES, 2), wide))
    with torch.no_grad():
        module.chain.levels.weight[:] = 10 * torch.eye(2)  # type: ignore[union-attr]
        module.chain.gate.rows[:] = 1.0  # type: ignore[union-attr]
        module.head.weight[:] = torch.eye(2)
    exists = torch.zeros(MEMBERS, 1, FEATURES, dtype=torch.bool)
    exists[..., [1, 3]] = True
    return module, exists


def echoes(times: int) -> Numbers:
    module, exists = echo()
    at = (torch.zeros(MEMBERS, times, 2), torch.zeros(MEMBERS, times, STRUCTURE), exists.expand(-1, times, -1))
    out = module(*at)
    assert isinstance(out, Numbers)
    return out


def test_a_number_can_repeat_the_level_of_the_one_before_it() -> None:
    out = echoes(1000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = out.sample()
    assert torch.equal(drawn[..., 1] > 0, drawn[..., 3] > 0)
    assert (drawn[..., 1] > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    value = torch.zeros(MEMBERS, 1000, FEATURES)
    value[..., 1] = 1.0
    value[:, 0::2, 3], value[:, 1::2, 3] = 1.0, -1.0
    peak = Normal(0.0, 1.1 * FLOOR).log_prob(torch.tensor(0.0)).item()
    # Log odds of 10 for the same level as before.
    assert out.log_prob(value)[0, 0].item() == pytest.approx(math.log(0.5) + 2 * peak, abs=1e-3)
    assert out.log_prob(value)[0, 1].item() == pytest.approx(math.log(0.5) + 2 * peak - 10, abs=1e-3)


@pytest.mark.parametrize("mixture", ["levels", "free"])
def test_whole_numbers_are_completed_by_themselves_with_their_density(mixture: str) -> None:
    module = head(ModelConfig(mixture=mixture, mixture_components=3))  # type: ignore[arg-type]
    module.at_most = 3
    exists = EXISTS.clone()
    exists[:, 2, [0, 1]] = True  # and 3
    out = module(HIDDEN_STATE, STRUCTURES, exists)
    # Even where numbers that do not exist are called known.
    for known in (exists, torch.ones_like(exists)):
        value, weight = out.complete(NUMBERS, known)
        assert torch.equal(value, torch.where(known, NUMBERS, 0.0))
        assert torch.allclose(weight, out.log_prob(NUMBERS), atol=1e-5)
    value, weight = out.complete(NUMBERS, torch.zeros_like(exists))
    assert (weight == 0).all()
    assert not torch.isclose(value, NUMBERS)[exists].any()


def test_open_numbers_follow_the_known_ones_or_are_weighed_by_them() -> None:
    out = echoes(2000)
    value, known = torch.zeros(MEMBERS, 2000, FEATURES), torch.zeros(MEMBERS, 2000, FEATURES, dtype=torch.bool)
    for first, second in ((1, 3), (3, 1)):
        given, mask = value.clone(), known.clone()
        given[..., first], mask[..., first] = 1.0, True
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn, weight = out.complete(given, mask)
        assert torch.equal(drawn[..., first], given[..., first])
        same = drawn[..., second] > 0
        # The one after it is drawn given it; the one before it regardless of it, which the weights make up for.
        if first == 1:
            assert same.all()
            assert torch.allclose(weight, weight[0, 0])
        else:
            assert same.float().mean().item() == pytest.approx(0.5, abs=0.05)
            assert (weight.exp() * same).sum() / weight.exp().sum() > 0.999
        # Either way they average to the density of what is known: half of a narrow level.
        peak = Normal(0.0, 1.1 * FLOOR).log_prob(torch.tensor(0.0)).exp().item()
        assert weight.exp().mean().item() == pytest.approx(0.5 * peak, rel=0.05)


def test_numbers_are_drawn_once_for_the_rows_that_they_are_of() -> None:
    out = head(SMALL)(HIDDEN_STATE, STRUCTURES, EXISTS)
    assert out.sample().shape == (MEMBERS, ROWS, FEATURES)
    assert out.expand((MEMBERS, ROWS)) is out
    with pytest.raises(NotImplementedError, match="one draw"):
        out.sample((2,))
    with pytest.raises(NotImplementedError, match="stay so"):
        out.expand((7, MEMBERS, ROWS))


def test_rows_of_a_table_are_looked_up_for_each_member() -> None:
    table = torch.randn(3, 4, 2)
    positions = torch.tensor([[[0, 3], [1, 1]]]).expand(3, 2, 2)
    found = look_up(table, positions)
    assert found.shape == (3, 2, 2, 2)
    for member in range(3):
        assert torch.equal(found[member], table[member][positions[member]])
    assert torch.equal(look_up(table, None).expand(3, 2, 4, 2)[:, 1], table)
