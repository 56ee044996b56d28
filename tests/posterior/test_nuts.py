"""Completions against NUTS over the latents, along the hierarchy in three directions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro import poutine

from pyro_hcvae import InputError, RecipeDesigner, RecipeTable, TrainConfig
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.evaluation.completions import compare_with_nuts
from pyro_hcvae.posterior.nuts import draw_open, known_part, sample_latents
from pyro_hcvae.posterior.partial import given_part
from tests.laboratories import SMALL, tiny_model, tiny_schema, tiny_table

METALS = {"A": 4.2, "B": 0.0, "C": 0.0}
CASES = [
    pytest.param(METALS, id="metals"),
    pytest.param(
        {"A": 0.0, "B": 0.0, "C": 6.0, "X": 0.0, "Y": 0.0, "Z": 1.0},
        id="metals and supports",
        marks=pytest.mark.thorough,
    ),
    pytest.param({"X": 0.7, "Y": 0.3, "Z": 0.0}, id="supports", marks=pytest.mark.thorough),
]


def partial(**cells: float) -> RecipeTable:
    return RecipeTable.from_frame(
        pd.DataFrame([{"T": 650.0, "Yield": 60.0, **cells}]), tiny_schema(), purpose="partial"
    )


@pytest.fixture(scope="module")
def designer() -> RecipeDesigner:
    """One member whose latents carry nats: with beta at 1 those of forty recipes would carry next to nothing."""
    train = TrainConfig(
        members=1,
        steps=300,
        batch_size=32,
        final_beta=0.15,
        beta_warmup=0.0,
        learning_rate=5e-3,
        refit=False,
        compile="never",
    )
    return RecipeDesigner(tiny_schema(), model=SMALL, train=train).fit(tiny_table())


@pytest.mark.slow
@pytest.mark.parametrize("given", CASES)
def test_completions_agree_with_nuts(designer: RecipeDesigner, given: dict[str, float]) -> None:
    found = compare_with_nuts(designer, partial(**given), chains=32, draws=100, warmup=80, proposals=20_000, seed=0)
    assert found.r_hat < 1.02
    assert found.effective_chains > 1000
    assert found.effective > 4000
    frame = found.frame.set_index(["kind", "quantity"])
    kinds = {"latent mean", "latent variance", "code", "state", "number"}
    assert set(found.frame["kind"]) == kinds | ({"presence"} if len(given) == 3 else set())
    # There is something to tell: what is given moves the latents, and the errors are small beside it.
    assert frame.loc["latent mean", "nuts"].abs().max() > 0.25
    assert frame.drop("number", level="kind")["error"].max() < 0.06
    assert frame["deviation"].abs().max() < 4
    assert np.sqrt((frame["deviation"] ** 2).mean()) < 1.5


def batch_of(designer: RecipeDesigner, rows: int, **cells: float) -> RecipeBatch:
    return given_part(designer.codec, partial(**cells).frame).expand(1, rows).batch


def test_the_program_is_the_joint_density_of_noise_and_known_part(designer: RecipeDesigner) -> None:
    """Against the plain model, whose latents have another measure: ``dz = sigma d epsilon``."""
    model, batch = designer.network, batch_of(designer, 3, **METALS)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        trace = poutine.trace(known_part).get_trace(model, batch)
        noise = {site: trace.nodes[f"{site}.noise"]["value"] for site in model.latent_dims}
        z: dict[str, torch.Tensor] = {}
        stretch, above = torch.zeros(()), [batch.condition_inputs()]
        for part in model.stages:
            prior = part.latent.prior(*above)
            z[part.site] = prior.loc + prior.scale * noise[part.site]
            stretch = stretch + prior.scale.log().sum()
            above.append(z[part.site])
        plain = poutine.trace(poutine.condition(model.model, z)).get_trace(batch)
        plain.compute_log_prob()
    assert not set(model.latent_dims) & set(trace.nodes)
    assert trace.log_prob_sum().item() == pytest.approx((plain.log_prob_sum() + stretch).item(), rel=1e-4)
    # What is open has no say.
    blank = {name for name, known in batch.known.items() if not known.any()}
    assert {"supports.presence", "method.code", "reduction.value"} <= blank
    assert all(plain.nodes[name]["log_prob"].abs().max() == 0 for name in blank)


def test_chains_leave_no_trace_and_follow_their_seed(designer: RecipeDesigner) -> None:
    model, batch = designer.network, batch_of(designer, 2, **METALS)
    before = [p.clone() for p in model.parameters()]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads, mine = torch.get_num_threads(), pyro.settings.get("validate_distributions_pyro")
    runs = [sample_latents(model, batch, draws=4, warmup=4, seed=seed, compiled=False) for seed in (0, 0, 1)]
    drawn = [draw_open(model, batch, run, seed=3) for run in runs]
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002
    assert threads == torch.get_num_threads()
    assert pyro.settings.get("validate_distributions_pyro") == mine
    assert not pyro.get_param_store().keys()
    assert all(
        p.requires_grad and p.grad is None and torch.equal(p, q)
        for p, q in zip(model.parameters(), before, strict=True)
    )
    for name in runs[0]:
        assert torch.equal(runs[0][name], runs[1][name])
        assert not torch.equal(runs[0][name], runs[2][name])
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_open_stages_are_drawn_at_the_latents_and_given_ones_kept(designer: RecipeDesigner) -> None:
    model, batch = designer.network, batch_of(designer, 2, **METALS)
    noise = {site: torch.zeros(300, 1, 2, size) for site, size in model.latent_dims.items()}
    noise["z_support"][:, :, 1] = 3.0
    values = draw_open(model, batch, noise, seed=0)
    assert (values["metals.presence"] == batch.values["metals.presence"]).all()
    assert (values["metals.amount"] == batch.values["metals.amount"]).all()
    assert values["supports.presence"].shape == (300, 1, 2, 3)
    with torch.no_grad():  # the presences of each of the two rows are those of its own latents
        for row in range(2):
            mine = {site: x[:1, :, row] for site, x in noise.items()}
            above = [batch.rows(row, row + 1).condition_inputs()]
            for part in model.stages:
                prior = part.latent.prior(*above)
                above.append(prior.loc + prior.scale * mine[part.site])
                if part.site == "z_support":
                    break
            structure = next(part.blocks).structure(part.decoder(torch.cat(above, dim=-1)))
            with torch.random.fork_rng():
                expected = structure.sample((4000,)).mean(dim=(0, 1, 2))
            assert values["supports.presence"][:, 0, row].mean(0).numpy() == pytest.approx(expected.numpy(), abs=0.12)


@pytest.mark.parametrize(
    ("cells", "message"),
    [({"A": 2.0}, "'metals' is known in part"), ({"Red T": 0.0}, "'reduction' is known and hangs on 'method'")],
)
def test_what_does_not_factorise_is_refused(designer: RecipeDesigner, cells: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_latents(designer.network, batch_of(designer, 2, **cells), draws=1, warmup=1, seed=0)


def test_members_are_compared_one_at_a_time(designer: RecipeDesigner) -> None:
    several = RecipeDesigner(tiny_schema(), model=SMALL)
    several.network, _, several.codec = tiny_model((0, 1))
    with pytest.raises(InputError, match="got 2 and 1"):
        compare_with_nuts(several, partial(**METALS))
