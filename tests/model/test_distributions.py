"""The subset distribution against brute force over all subsets."""

from itertools import product

import pytest
import torch
from torch import Tensor

from pyro_hcvae.model.distributions import SparseMixture, SubsetBernoulli, existing_positions, largest_logit
from pyro_hcvae.model.networks import soft_clamp


def all_subsets(features: int) -> Tensor:
    return torch.tensor(list(product((0.0, 1.0), repeat=features)))


def make(features: int, smallest: int, sizes: int, batch: tuple[int, ...] = (2, 3)) -> SubsetBernoulli:
    generator = torch.Generator().manual_seed(features)
    size_logits = torch.randn(*batch, sizes, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(*batch, features, generator=generator, dtype=torch.float64)
    return SubsetBernoulli(size_logits.requires_grad_(), logits.requires_grad_(), smallest=smallest)


@pytest.mark.parametrize(("features", "smallest", "sizes"), [(1, 0, 2), (3, 1, 3), (5, 0, 4), (6, 2, 2), (7, 0, 8)])
def test_log_prob_sums_to_one_and_follows_its_definition(features: int, smallest: int, sizes: int) -> None:
    fn = make(features, smallest, sizes)
    subsets = all_subsets(features).double()
    log_prob = torch.stack([fn.log_prob(s.expand(2, 3, -1)) for s in subsets])
    assert torch.allclose(log_prob.exp().sum(0), torch.ones(2, 3, dtype=torch.float64))
    for k in range(features + 1):
        members = [i for i, s in enumerate(subsets) if s.sum() == k]
        mass = log_prob[members].exp().sum(0)
        if smallest <= k < smallest + sizes:
            assert torch.allclose(mass, fn.size_log_probs[..., k - smallest].exp())
            # Within a size, log probabilities differ as the sums of the log weights do.
            score = torch.stack([(subsets[i] * fn.logits).sum(-1) for i in members])
            assert torch.allclose(
                (log_prob[members] - score).std(0, correction=0), torch.zeros(2, 3).double(), atol=1e-9
            )
        else:
            assert (mass == 0).all()


def test_gradients_are_finite_and_correct() -> None:
    size_logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    value = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).double()
    assert torch.autograd.gradcheck(lambda a, b: SubsetBernoulli(a, b).log_prob(value), (size_logits, logits))


@pytest.mark.parametrize("largest", [1, 4, 10])
def test_float32_survives_extreme_logits(largest: int) -> None:
    limit = largest_logit(largest)
    logits = torch.linspace(-limit, limit, 45).requires_grad_()
    fn = SubsetBernoulli(torch.zeros(largest + 1), logits)
    for value in (torch.eye(45)[0], (torch.arange(45) < largest).float(), (torch.arange(45) >= 45 - largest).float()):
        log_prob = fn.log_prob(value)
        (gradient,) = torch.autograd.grad(log_prob, logits, retain_graph=True)
        assert torch.isfinite(log_prob)
        assert torch.isfinite(gradient).all()


def assert_frequencies(codes: Tensor, probability: Tensor) -> None:
    """Counts of codes 0, 1, ... lie within five standard deviations of what is expected; what is impossible never occurs."""
    probability = probability.detach().double().clamp(max=1.0)
    expected = len(codes) * probability
    counts = torch.bincount(codes, minlength=len(probability)).double()
    assert (counts[expected == 0] == 0).all()
    spread = (expected * (1 - probability)).sqrt()
    assert ((counts - expected).abs() <= 5 * spread + 1).all()


def subset_codes(draws: Tensor) -> Tensor:
    """Position of each subset in `all_subsets`."""
    features = draws.shape[-1]
    return (draws.long() * 2 ** torch.arange(features - 1, -1, -1)).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("features", "smallest", "sizes"), [(1, 0, 2), (5, 1, 3), (5, 0, 1), (6, 0, 7), (4, 4, 1), (7, 2, 3)]
)
def test_samples_follow_log_prob(features: int, smallest: int, sizes: int, dtype: torch.dtype) -> None:
    given = make(features, smallest, sizes, batch=(2,))
    fn = SubsetBernoulli(given.size_logits.to(dtype), given.logits.to(dtype), smallest=smallest)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = fn.sample((100_000,))
    assert draws.dtype == dtype
    assert draws.shape == (100_000, 2, features)
    subsets = all_subsets(features).to(dtype)
    for row in range(2):
        one = SubsetBernoulli(fn.size_logits[row], fn.logits[row], smallest=smallest)
        assert_frequencies(subset_codes(draws[:, row]), one.log_prob(subsets).exp())


@pytest.mark.parametrize("largest", [3, 4, 10])
def test_extreme_weights_are_drawn_as_often_as_they_should_and_sizes_always_allowed(largest: int) -> None:
    """45 components whose weights span what float32 is asked to bear, the heavy ones first, last or mixed."""
    limit = largest_logit(largest)
    rising = torch.linspace(-limit, limit, 45)
    shuffled = rising[torch.randperm(45, generator=torch.Generator().manual_seed(0))]
    for logits in (rising, rising.flip(0), shuffled):
        fn = SubsetBernoulli(torch.zeros(largest), logits, smallest=1)
        exact = SubsetBernoulli(torch.zeros(largest).double(), logits.double().requires_grad_(), smallest=1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            draws = fn.sample((50_000,))
        assert_frequencies(draws.sum(-1).long() - 1, torch.full((largest,), 1 / largest))
        # d log e_k / d log w_i is the probability that i is in a subset of size k.
        inclusion = torch.zeros(45, dtype=torch.float64)
        for k in range(1, largest + 1):
            (gradient,) = torch.autograd.grad(exact._log_e(torch.tensor([k])).sum(), exact.logits, retain_graph=True)
            inclusion += gradient / largest
        spread = (inclusion * (1 - inclusion) / len(draws)).sqrt()
        assert ((draws.double().mean(0) - inclusion).abs() <= 5 * spread + 1 / len(draws)).all()


def test_a_component_of_no_weight_is_never_drawn() -> None:
    logits = torch.tensor([-1e4, 0.0, -1e4, 0.0, 0.0, -1e4])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = SubsetBernoulli(torch.zeros(3), logits, smallest=1).sample((20_000,))
    assert (draws[:, logits < 0] == 0).all()
    assert set(draws.sum(-1).tolist()) == {1.0, 2.0, 3.0}


def test_uniform_numbers_at_their_ends_give_subsets_of_the_size_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fn = SubsetBernoulli(torch.tensor([-torch.inf, 0.0, -torch.inf]), torch.linspace(-7.5, 7.5, 9), smallest=2)
    for end in (0.0, 1 - 2.0**-24):
        monkeypatch.setattr(torch, "rand", lambda shape, end=end, **kwargs: torch.full(shape, end, **kwargs))
        assert fn.sample((3,)).sum(-1).tolist() == [3.0] * 3


def mixture(dtype: torch.dtype = torch.float32) -> tuple[SparseMixture, Tensor]:
    """Five numbers, of which the second and the fourth exist in the first row, and the last in the other one."""
    exists = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
    positions, real = existing_positions(exists, 3)
    generator = torch.Generator().manual_seed(3)
    logits, loc, log_scale = (torch.randn(2, 3, 4, generator=generator, dtype=dtype) for _ in range(3))
    return SparseMixture(2 * logits, 3 * loc, (log_scale - 1).exp(), positions, real, 5), exists


def test_mixture_samples_follow_their_density() -> None:
    """Every existing number, sent through its distribution function, is uniform."""
    fn, exists = mixture()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = fn.sample((100_000,))
    assert draws.shape == (100_000, 2, 5)
    assert (draws[:, ~exists] == 0).all()
    for row, place in fn.exists.nonzero().tolist():
        x = draws[:, row, fn.positions[row, place]].double()
        parts = torch.distributions.Normal(fn.loc[row, place].double(), fn.scale[row, place].double())
        level = (parts.cdf(x[:, None]) * fn.logits[row, place].double().softmax(-1)).sum(-1)
        assert_frequencies((level * 20).long().clamp(max=19), torch.full((20,), 1 / 20))


def test_a_gaussian_of_no_weight_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 0.0, -torch.inf]])
    loc = torch.tensor([[-500.0, 0.0, 500.0, 1.0, 500.0]])
    position, exists = torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.bool)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = SparseMixture(logits, loc, torch.ones(1, 5), position, exists, 1).sample((50_000,))
    assert draws.abs().max() < 50
    weight = logits.softmax(-1)[0, 3]
    assert abs(draws.mean() - weight) < 5 * (1 + weight * (1 - weight)).sqrt() / 50_000**0.5


def test_known_components_are_marginalised_and_completed() -> None:
    fn = make(5, 0, 4, batch=())
    value = torch.tensor([1.0, 0, 0, 0, 0]).double()
    known = torch.tensor([True, True, False, False, False])
    subsets = all_subsets(5).double()
    agree = (subsets[:, :2] == value[:2]).all(-1)
    probability = fn.log_prob(subsets).exp()
    assert torch.allclose(fn.log_prob_known(value, known).exp(), probability[agree].sum())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draws = torch.stack([fn.sample_completion(value, known) for _ in range(4000)])
    assert (draws[:, :2] == value[:2]).all()
    expected = torch.where(agree, probability, 0.0)
    assert_frequencies(subset_codes(draws), expected / expected.sum())


def test_a_large_set_can_be_learned() -> None:
    """20 components without a cap: one nearly always present, one half of the time, the others rare."""
    rates = torch.full((20,), 0.01)
    rates[0], rates[1] = 0.95, 0.5
    generator = torch.Generator().manual_seed(0)
    data = (torch.rand(4000, 20, generator=generator) < rates).float()
    sizes = torch.zeros(21, requires_grad=True)
    logits = torch.zeros(20, requires_grad=True)
    optimizer = torch.optim.Adam([sizes, logits], lr=0.1)
    limit = largest_logit(20)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -SubsetBernoulli(sizes, soft_clamp(logits, limit)).log_prob(data).mean()
        loss.backward()
        optimizer.step()
    independent = torch.distributions.Bernoulli(rates).entropy().sum()
    assert loss < independent + 0.05


def test_more_components_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="size 3"):
        SubsetBernoulli(torch.zeros(4), torch.zeros(2))


def test_a_draw_takes_no_gradient_from_a_later_density() -> None:
    logits = torch.linspace(-1, 1, 5).requires_grad_()
    value = torch.tensor([1.0, 0, 0, 1, 0])
    fresh, drawn = (SubsetBernoulli(torch.zeros(3), logits, smallest=1) for _ in range(2))
    with torch.random.fork_rng():
        drawn.sample()
        drawn.sample_completion(value, torch.ones(5, dtype=torch.bool))
    expected, found = (torch.autograd.grad(fn.log_prob(value), logits)[0] for fn in (fresh, drawn))
    assert expected.abs().min() > 1e-3
    assert torch.equal(expected, found)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_the_mean_is_the_probability_of_each_component(batch: tuple[int, ...]) -> None:
    fn = make(5, 1, 3, batch=batch)
    subsets = all_subsets(5).double()
    probability = torch.stack([fn.log_prob(subset.expand(*batch, 5)).exp() for subset in subsets], dim=-1)
    assert fn.mean.shape == (*batch, 5)
    assert torch.allclose(fn.mean, probability @ subsets)
