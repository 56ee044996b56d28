"""The published architectures: their losses by hand, what they see, and what gates do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.nn import functional as F

from pyro_hcvae.inference.objective import GivenNoise, ScaledELBO
from pyro_hcvae.model.architectures import (
    AMOUNTS,
    LATENT,
    PRESENCE,
    REACTION,
    SHARES,
    SUPPORTED,
    TREATMENT,
    JointCVAE,
    PublishedHierarchy,
    SharedCVAE,
    SingleCVAE,
    gated,
)

WIDTHS = {AMOUNTS: 5, PRESENCE: 5, SHARES: 4, SUPPORTED: 4, TREATMENT: 3, REACTION: 2}
MEMBERS, ROWS = 2, 7


def networks() -> dict[str, Any]:
    seeds = (3, 4)
    return {
        "amounts": SingleCVAE(WIDTHS, seeds=seeds),
        "presence": SingleCVAE(WIDTHS, PRESENCE, seeds=seeds),
        "shared": SharedCVAE(WIDTHS, seeds=seeds),
        "joint": JointCVAE(WIDTHS, seeds=seeds),
        "through gate": JointCVAE(WIDTHS, seeds=seeds, through_gate=True),
        "hierarchy": PublishedHierarchy(WIDTHS, seeds=seeds),
    }


def rows(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = {name: torch.rand(MEMBERS, ROWS, width, generator=generator) for name, width in WIDTHS.items()}
    return parts | {name: (parts[name] > 0.5).float() for name in (PRESENCE, SUPPORTED)}


def plain(sequence: Any, member: int, x: Tensor) -> Tensor:
    """A member's network, layer by layer with functions of torch."""
    for layer in sequence.layers:
        x = F.relu(F.linear(x, layer.weight[member].T, layer.bias[member, 0]))
    return F.linear(x, sequence.head.weight[member].T, sequence.head.bias[member, 0])


def published_loss(network: Any, parts: dict[str, Tensor], noise: dict[str, Tensor], member: int, w: float) -> Tensor:
    """The loss as it was published, summed over rows: written without distributions, for one member."""
    own = {name: x[member] for name, x in parts.items()}
    told = [own[TREATMENT], own[REACTION]]
    total = torch.zeros(())

    def encoded(encoder: Any, site: str, *shown: Tensor) -> Tensor:
        nonlocal total
        mean, log_variance = plain(encoder.network, member, torch.cat(shown, -1)).chunk(2, -1)
        total = total - w * 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return mean + (0.5 * log_variance).exp() * noise[site][member]

    def mse(mean: Tensor, part: str) -> None:
        nonlocal total
        total = total + F.mse_loss(mean, own[part], reduction="sum")

    def bce(log_odds: Tensor, part: str) -> None:
        nonlocal total
        total = total + F.binary_cross_entropy_with_logits(log_odds, own[part], reduction="sum")

    def decoded(decoder: Any, *shown: Tensor) -> Tensor:
        return plain(decoder.network, member, torch.cat(shown, -1))

    match network:
        case SingleCVAE():
            z = encoded(network.encoder, "z", own[network.part], *told)
            (mse if network.part == AMOUNTS else bce)(decoded(network.decoder, z, *told), network.part)
        case SharedCVAE():
            z = encoded(network.encoder, "z", own[AMOUNTS], *told)
            bce(decoded(network.presence, z, *told), PRESENCE)
            mse(decoded(network.amounts, z, *told), AMOUNTS)
        case JointCVAE():
            z = encoded(network.encoders[PRESENCE], "z presence", own[PRESENCE], *told)
            log_odds = decoded(network.decoders[PRESENCE], z, *told)
            bce(log_odds, PRESENCE)
            z = encoded(network.encoders[AMOUNTS], "z amounts", own[AMOUNTS], *told)
            amounts = decoded(network.decoders[AMOUNTS], z, *told)
            mse(torch.sigmoid(log_odds) * amounts if network.through_gate else amounts, AMOUNTS)
        case PublishedHierarchy():
            above: list[Tensor] = []
            for site, level in zip(("z1", "z2", "z3"), network.LEVELS, strict=True):
                z = encoded(network.encoders[site], site, *above, *(own[part] for part in level), own[REACTION])
                above.append(z)
                for part in level:
                    out = decoded(network.decoders[part], *above, own[REACTION])
                    (bce if part in (PRESENCE, SUPPORTED) else mse)(out, part)
    return total


@pytest.mark.parametrize("name", networks())
def test_the_published_loss_is_the_weighted_bound_but_for_a_constant(name: str) -> None:
    network, parts, w = networks()[name], rows(), 0.1
    generator = torch.Generator().manual_seed(1)
    noise = {site: torch.randn(MEMBERS, ROWS, LATENT, generator=generator) for site in network.latent_dims}
    elbo = ScaledELBO(dict.fromkeys(network.latent_dims, w))
    ours = elbo.terms(network.model, GivenNoise(noise)(network.guide), parts).loss
    theirs = sum(published_loss(network, parts, noise, member, w) for member in range(MEMBERS))
    numbers = sum(WIDTHS[part] for part in network.reads if part in (AMOUNTS, SHARES))
    numbers += WIDTHS[TREATMENT] if name == "hierarchy" else 0
    constant = MEMBERS * ROWS * numbers * 0.5 * math.log(math.pi)
    assert ours.item() == pytest.approx(theirs.item() + constant, rel=1e-5)  # type: ignore[union-attr]
    parameters = list(network.parameters())
    mine = torch.autograd.grad(ours, parameters)
    for gradient, expected in zip(mine, torch.autograd.grad(theirs, parameters), strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", networks())
def test_nothing_but_conditions_is_needed_to_generate(name: str) -> None:
    network, parts = networks()[name], rows()
    told = (REACTION,) if name == "hierarchy" else (TREATMENT, REACTION)
    out = network.model({part: parts[part] for part in told})
    decoded = set(network.reads) - set(told)
    assert set(out) == decoded
    assert all(out[part].shape == parts[part].shape for part in decoded)
    for part in decoded & {PRESENCE, SUPPORTED}:
        assert ((out[part] > 0) & (out[part] < 1)).all()


def test_levels_of_the_hierarchy_see_what_was_decided_before() -> None:
    network, parts = networks()["hierarchy"], rows()
    noise = {site: torch.zeros(MEMBERS, ROWS, LATENT) for site in network.latent_dims}

    def locs(changed: str) -> dict[str, Tensor]:
        shown = parts | {changed: parts[changed] + 1}
        trace = poutine.trace(GivenNoise(noise)(network.guide)).get_trace(shown)
        return {site: trace.nodes[site]["fn"].base_dist.loc for site in network.latent_dims}

    before = poutine.trace(GivenNoise(noise)(network.guide)).get_trace(parts)
    moved = {
        part: [
            not torch.equal(loc, before.nodes[site]["fn"].base_dist.loc) for site, loc in locs(part).items()
        ]
        for part in (AMOUNTS, SHARES, TREATMENT)
    }  # fmt: skip
    assert moved == {AMOUNTS: [True] * 3, SHARES: [False, True, True], TREATMENT: [False, False, True]}


def test_members_start_as_layers_of_torch_do() -> None:
    layer = SingleCVAE(WIDTHS, seeds=range(50)).encoder.network.layers[0]
    bound = 1 / math.sqrt(WIDTHS[AMOUNTS] + WIDTHS[TREATMENT] + WIDTHS[REACTION])
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_gates() -> None:
    amounts, presence = torch.tensor([4.0, 2.0, -1.0]), torch.tensor([0.5, 0.25, 0.9])
    assert gated(amounts, presence, "none").tolist() == [4, 2, -1]
    assert gated(amounts, presence, "hard").tolist() == [4, 0, -1]
    torch.testing.assert_close(gated(amounts, presence, "soft"), torch.tensor([2.0, 0.5, -0.9]))
    with pytest.raises(ValueError, match="unknown gate 'wide'"):
        gated(amounts, presence, "wide")
