"""The Pyro programs: sites, shapes, priors, residual posterior, gradients, members."""

from __future__ import annotations

from dataclasses import replace

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.data.validity import is_valid
from pyro_hcvae.inference.objective import ScaledELBO
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE, block_features
from pyro_hcvae.posterior.predictive import draw_recipes
from tests.laboratories import SMALL, tiny_codec, tiny_model


def test_sites_come_in_the_order_of_the_decisions() -> None:
    model, batch, _ = tiny_model()
    with pyro.validation_enabled(True):
        trace = poutine.trace(model.model).get_trace(batch)
    names = [n for n, s in trace.nodes.items() if s["type"] == "sample" and not poutine.util.site_is_subsample(s)]
    expected = []
    for stage in model.schema.stages:
        expected += [sites.latent(stage), *sites.of_stage(stage)]
    assert names == expected
    assert all(trace.nodes[name]["is_observed"] == (not name.startswith("z_")) for name in names)
    for name in names:
        assert trace.nodes[name]["fn"].batch_shape == (2, 12)


def test_guide_samples_the_latents_of_the_model_in_the_same_order() -> None:
    model, batch, _ = tiny_model()
    trace = poutine.trace(model.guide).get_trace(batch)
    names = [n for n, s in trace.nodes.items() if s["type"] == "sample" and not poutine.util.site_is_subsample(s)]
    assert names == list(sites.latents(model.schema))
    assert [tuple(trace.nodes[n]["value"].shape) for n in names] == [(2, 12, 3), (2, 12, 2), (2, 12, 2)]


def test_posterior_is_the_prior_where_nothing_is_known_and_not_elsewhere() -> None:
    model, batch, _ = tiny_model(stir=0.2)
    everything = torch.zeros(batch.shape, dtype=torch.bool)
    everything[:, :6] = True
    hidden = batch.hide(dict.fromkeys(batch.values, everything))
    guide = poutine.trace(model.guide).get_trace(hidden)
    trace = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(hidden)
    for name in model.latent_dims:
        kl = kl_divergence(guide.nodes[name]["fn"], trace.nodes[name]["fn"])
        assert kl[:, :6].abs().max() == 0
        assert kl[:, 6:].min() > 0
    log_p = sum(trace.nodes[n]["fn"].log_prob(trace.nodes[n]["value"]) for n in batch.values)
    assert log_p[:, :6].abs().max() == 0


def test_residual_kl_has_nvaes_form_away_from_the_clamps() -> None:
    """KL = 1/2 [dmu^2 / sigma^2 + dsigma^2 - ln dsigma^2 - 1] with q = N(mu + dmu, sigma dsigma)."""
    model, batch, _ = tiny_model(stir=0.05)
    guide = poutine.trace(model.guide).get_trace(batch)
    trace = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(batch)
    q, p = guide.nodes["z_metal"]["fn"], trace.nodes["z_metal"]["fn"]
    shift = (q.loc - p.loc) / p.scale
    factor = (q.scale / p.scale) ** 2
    assert torch.allclose(kl_divergence(q, p), 0.5 * (shift**2 + factor - factor.log() - 1).sum(-1), atol=1e-6)


def test_training_starts_from_standard_normal_priors() -> None:
    model, batch, _ = tiny_model()
    trace = poutine.trace(model.model).get_trace(batch)
    for name in model.latent_dims:
        fn = trace.nodes[name]["fn"]
        assert torch.allclose(fn.loc, torch.zeros(()))
        assert torch.allclose(fn.scale, torch.tensor(1.01))


def test_every_parameter_gets_a_gradient() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    ScaledELBO().differentiable_loss(model.model, model.guide, batch).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        for member in range(model.members):
            assert p.grad[member].abs().sum() > 0, f"{name} of member {member}"


def test_gradients_stay_finite_where_values_are_unknown() -> None:
    model, batch, _ = tiny_model(stir=0.1)
    rows = torch.zeros(batch.shape, dtype=torch.bool)
    rows[:, ::2] = True
    for name in batch.values:
        ScaledELBO().differentiable_loss(model.model, model.guide, batch.hide({name: rows})).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_member_starts_the_same_in_any_crowd() -> None:
    codec, _ = tiny_codec()
    crowd = HierarchicalCVAE(codec.schema, len(codec.feature_names), SMALL, seeds=(5, 9, 7))
    alone = HierarchicalCVAE(codec.schema, len(codec.feature_names), SMALL, seeds=(9,))
    for a, b in zip(crowd.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a[1], b[0])
    assert not torch.equal(next(crowd.parameters())[0], next(crowd.parameters())[1])


def test_two_models_in_one_process_are_independent() -> None:
    first, batch, _ = tiny_model(seeds=(0,))
    second, _, _ = tiny_model(seeds=(0,))
    before = [p.clone() for p in second.parameters()]
    optimizer = torch.optim.Adam(first.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        ScaledELBO().differentiable_loss(first.model, first.guide, batch).backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, second.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, first.parameters(), strict=True))
    assert not pyro.get_param_store().keys()


@pytest.mark.parametrize("components", [1, 4])
def test_draws_of_an_untrained_model_are_valid_by_construction(components: int) -> None:
    config = ModelConfig(latent_dims=(2,), hidden=(8,), mixture_components=components)
    model, _, codec = tiny_model(stir=0.5, config=config)
    _, packed = tiny_codec()
    drawn = torch.cat([x for _, x in draw_recipes(model, codec.layout, packed[:50], 20, seed=0)])
    frame = codec.decode(drawn)
    totals = frame[["A", "B", "C"]].sum(axis=1)
    # Only the cap on the sum and the empty recipe are not ruled out by the form of the model.
    sensible = (totals <= 20) & ((totals > 0) | (frame[["X", "Y", "Z"]].sum(axis=1) > 0))
    assert sensible.sum() > 200
    assert is_valid(frame[sensible], codec.schema).all()


def test_independent_presence_is_an_option() -> None:
    model, batch, _ = tiny_model(config=ModelConfig(latent_dims=(2,), hidden=(8,), presence="independent"))
    trace = poutine.trace(model.model).get_trace(batch)
    fn = trace.nodes["metals.presence"]["fn"]
    value = batch.values["metals.presence"]
    bernoulli = torch.distributions.Bernoulli(logits=fn.base_dist.base_dist.logits)
    assert torch.allclose(fn.log_prob(value), bernoulli.log_prob(value).sum(-1), atol=1e-6)


BEFORE_AND_AFTER = {
    "no": {
        "metals.presence": {"metals.amount"},
        "metals.amount": set(),
        "supports.presence": {"supports.ratio"},
        "supports.ratio": set(),
        "method.code": set(),
        "reduction.state": {"reduction.value"},
        "reduction.value": set(),
    },
    "stage": {"method.code": {"reduction.state", "reduction.value"}},
}
"""What sees a site, beside itself; each entry goes beyond the one above it."""
BEFORE_AND_AFTER["stage"] = BEFORE_AND_AFTER["no"] | BEFORE_AND_AFTER["stage"]


def chained_model(chained: str) -> tuple[HierarchicalCVAE, RecipeBatch, dict[str, Tensor]]:
    """A model whose every network has a say, a batch, and values of the latents."""
    config = SMALL.model_copy(update={"chained": chained})
    model, batch, _ = tiny_model(stir=0.2, config=config)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return model, batch, model.guide(batch)


def densities(model: HierarchicalCVAE, batch: RecipeBatch, latents: dict[str, Tensor]) -> dict[str, Tensor]:
    """Log density of every site of a batch, given the latents."""
    trace = poutine.trace(poutine.condition(model.model, data=latents)).get_trace(batch)
    return {name: trace.nodes[name]["fn"].log_prob(trace.nodes[name]["value"]).detach() for name in batch.values}


def another(name: str, value: Tensor) -> Tensor:
    """Other values of a site that are possible."""
    match name.split(".")[1]:
        case "presence":
            return value.roll(3, dims=1)  # of other recipes
        case "code":
            return 1 - value
        case "state":
            return (value + 1) % 3
    return value + 0.3


@pytest.mark.parametrize("chained", ["no", "stage"])
def test_given_the_latents_a_site_sees_what_it_is_chained_to_and_nothing_else(chained: str) -> None:
    model, batch, latents = chained_model(chained)
    before = densities(model, batch, latents)
    for name, value in batch.values.items():
        changed = replace(batch, values={**batch.values, name: another(name, value)})
        after = densities(model, changed, latents)
        moved = {site for site in before if not torch.equal(before[site], after[site])}
        assert moved == {name} | BEFORE_AND_AFTER[chained][name], name


@pytest.mark.parametrize("chained", ["stage"])
@pytest.mark.parametrize("block", ["metals", "supports", "method", "reduction"])
def test_what_is_hidden_does_not_leak_to_what_comes_after(block: str, chained: str) -> None:
    model, batch, latents = chained_model(chained)
    rows = torch.zeros(batch.shape, dtype=torch.bool)
    rows[:, ::2] = True
    own = [name for name in batch.values if name.startswith(f"{block}.")]
    hidden = batch.hide(dict.fromkeys(own, rows))
    values = dict(hidden.values)
    for name in own:
        there = rows if values[name].dim() == 2 else rows.unsqueeze(-1)
        values[name] = torch.where(there, another(name, values[name]), values[name])
    found, expected = densities(model, replace(hidden, values=values), latents), densities(model, hidden, latents)
    for name in batch.values:
        assert torch.equal(found[name], expected[name]), name
        if name in own:
            assert (found[name][rows] == 0).all()
    # Others know that it is hidden, but where it is not nothing changes.
    seen = densities(model, batch, latents)
    for name in BEFORE_AND_AFTER[chained][own[-1]]:
        assert not torch.isclose(seen[name], expected[name])[rows].all()
    for name in batch.values:
        assert torch.equal(seen[name][~rows], expected[name][~rows])


def test_unknown_numbers_of_a_known_block_do_not_leak() -> None:
    model, batch, latents = chained_model("stage")
    known = {**batch.known, "metals.amount": torch.zeros_like(batch.known["metals.amount"])}
    unknown = replace(batch, known=known)
    values = {**batch.values, "metals.amount": batch.values["metals.amount"] + 1.0}
    found, expected = densities(model, replace(unknown, values=values), latents), densities(model, unknown, latents)
    for name in batch.values:
        assert torch.equal(found[name], expected[name])
    # Nor to whatever is shown the block, its encoder or a block after it; the structure stays visible.
    metals = model.schema.blocks[0]
    shown, flag = block_features(metals, values, known, torch.float32)
    assert torch.equal(shown, block_features(metals, batch.values, known, torch.float32)[0])
    assert torch.equal(shown[..., :3], batch.values["metals.presence"])
    assert (shown[..., 3:] == 0).all()
    assert (flag == 1).all()


@pytest.mark.parametrize("frequencies", [0, 3])
def test_conditions_that_are_not_known_do_not_leak(frequencies: int) -> None:
    config = SMALL.model_copy(update={"condition_frequencies": frequencies})
    model, batch, _ = tiny_model(stir=0.2, config=config)
    keep = torch.rand(batch.conditions.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    hidden = batch.blur(torch.zeros_like(batch.conditions), keep)
    other = batch.blur(torch.where(keep, 0.0, 1.0), keep)
    latents = {name: torch.zeros(*batch.shape, size) for name, size in model.latent_dims.items()}
    found, expected = densities(model, other, latents), densities(model, hidden, latents)
    for name in batch.values:
        assert torch.equal(found[name], expected[name])
    seen = densities(model, batch, latents)
    assert not torch.equal(seen["metals.presence"], expected["metals.presence"])


@pytest.mark.parametrize("chained", ["no", "stage"])
def test_recipes_are_drawn_from_the_densities_that_are_trained(chained: str) -> None:
    """What was drawn has, as an observed recipe, the density that it was drawn from."""
    model, batch, latents = chained_model(chained)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trace = poutine.trace(poutine.condition(model.model, data=latents)).get_trace(batch.conditions_only())
    drawn = {name: trace.nodes[name]["value"] for name in batch.values}
    known = {name: torch.ones_like(value, dtype=torch.bool) for name, value in drawn.items()}
    for part in model.stages:
        for block in part.blocks:
            if block.numbers_site is not None:
                known[block.numbers_site] = block.applies(drawn[block.structure_site])
    observed = densities(model, replace(batch, values=drawn, known=known), latents)
    for name, value in drawn.items():
        assert torch.allclose(observed[name], trace.nodes[name]["fn"].log_prob(value), atol=1e-6), name
