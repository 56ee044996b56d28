"""The subset distribution against brute force over all subsets."""

from itertools import product

import pytest
import torch
from torch import Tensor

from pyro_hcvae.model.distributions import SubsetBernoulli, largest_logit
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


def test_samples_follow_log_prob() -> None:
    fn = make(5, 1, 3, batch=())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = fn.sample((20_000,))
    codes = (draws @ (2.0 ** torch.arange(4, -1, -1).double())).long()
    frequency = torch.bincount(codes, minlength=32) / len(codes)
    expected = fn.log_prob(all_subsets(5).double().view(32, 5)).exp().detach()
    assert (frequency - expected).abs().max() < 0.015
    assert draws.sum(-1).min() >= 1
    assert draws.sum(-1).max() <= 3


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
    codes = (draws @ (2.0 ** torch.arange(4, -1, -1).double())).long()
    frequency = torch.bincount(codes, minlength=32) / len(codes)
    expected = torch.where(agree, probability, 0.0).detach()
    assert (frequency - expected / expected.sum()).abs().max() < 0.03


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
