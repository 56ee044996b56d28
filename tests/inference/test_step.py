"""The training step as a function of tensors, and the scope it runs in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.inference.engine import Trainer
from pyro_hcvae.inference.streams import RecipeStream, TrainingData
from pyro_hcvae.model import scopes
from pyro_hcvae.model.scopes import computing_scope, fast_matmul
from tests.inference.test_engine import CONFIG, data, trainer
from tests.laboratories import tiny_table


def example(run: Trainer, interval: int = 0) -> tuple[torch.Tensor, ...]:
    """Parameters, room for the gradient, and the first minibatch of an interval of a training run."""
    chunks = [stream.chunk(interval, 1, sum(run.dims)) for stream in run._streams]
    rows, *draws = (torch.stack(part, dim=1)[0] for part in zip(*chunks, strict=True))
    weights = torch.linspace(0.1, 2.0 + interval, len(run.dims) * run.config.members).view(len(run.dims), -1)
    return run.state.values, torch.zeros_like(run.state.values), run.packed[rows], *draws, weights


def test_the_pure_step_equals_the_one_at_the_models_own_parameters() -> None:
    run = trainer()
    values, ours, *batch = example(run)
    pure, elsewhere = torch.zeros_like(ours), torch.zeros_like(ours)
    assert torch.equal(run._gradients(values, ours, *batch), run._gradients.pure(values, pure, *batch))
    assert torch.equal(ours, pure)
    run._gradients.pure(values + 0.1, elsewhere, *batch)
    assert not torch.allclose(elsewhere, ours, atol=1e-3)


def test_a_weight_of_a_member_moves_that_members_gradient_alone() -> None:
    run = trainer()
    values, before, *batch, weights = example(run)
    values = values + 0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))  # rates start at 0
    run._gradients.pure(values, before, *batch, weights)
    changed, after = weights.clone(), torch.zeros_like(before)
    changed[:, 1] *= 3
    run._gradients.pure(values, after, *batch, changed)
    moved = (after - before).abs().amax(dim=1)
    assert moved[1] > 1e-4
    assert moved[0] == moved[2] == 0


def test_the_step_needs_nothing_from_the_host() -> None:
    """What a CUDA graph asks for, shown without a device: no value is read, and no tensor of the CPU enters."""
    run = trainer()
    inputs = [x.to("meta") for x in example(run)]
    run.model.to("meta")
    with computing_scope():
        rates = run._gradients.pure(*inputs)
    assert rates.is_meta
    assert rates.shape == (len(run.dims), run.config.members)


kernels = pytest.mark.skipif(
    not hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision"),
    reason="this torch has no such setting",
)


@kernels
def test_the_scope_restores_what_it_found() -> None:
    matmul = torch.backends.mkldnn.matmul
    before = torch.get_num_threads(), pyro.distributions.is_validation_enabled(), matmul.fp32_precision
    try:
        torch.set_num_threads(3)
        with pytest.raises(RuntimeError, match="inside"), computing_scope(100_000):
            assert torch.get_num_threads() == 1
            assert not pyro.distributions.is_validation_enabled()
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before[0])
    assert (pyro.distributions.is_validation_enabled(), matmul.fp32_precision) == before[1:]


@kernels
def test_the_quick_kernel_is_taken_only_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = torch.backends.mkldnn.matmul
    usual = matmul.fp32_precision
    monkeypatch.setattr(scopes, "_exact", lambda: True)
    with fast_matmul():
        assert matmul.fp32_precision == "bf16"
    assert matmul.fp32_precision == usual
    monkeypatch.setattr(scopes, "_exact", lambda: False)
    with fast_matmul():
        assert matmul.fp32_precision == usual
    monkeypatch.setattr(scopes, "_matmul_settings", lambda: None)
    with fast_matmul():
        assert matmul.fp32_precision == usual


@kernels
@pytest.mark.parametrize(("maker", "kernel"), [("GenuineIntel", False), ("AuthenticAMD", True), (None, True)])
def test_the_quick_kernel_is_left_alone_on_processors_of_intel(
    maker: str | None, kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul = torch.backends.mkldnn.matmul
    if maker is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {maker}\n", encoding="utf-8")
    monkeypatch.setattr(scopes, "_PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(scopes, "_exact", lambda: True)
    scopes._made_by_intel.cache_clear()
    try:
        with computing_scope(100_000):
            assert (matmul.fp32_precision == "bf16") == kernel
    finally:
        scopes._made_by_intel.cache_clear()


@kernels
def test_the_probe_tells_float32_from_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.bmm
    scopes._exact.cache_clear()
    monkeypatch.setattr(torch, "bmm", lambda a, b: product(a.bfloat16(), b.bfloat16()).float())
    assert not scopes._exact()
    scopes._exact.cache_clear()
    monkeypatch.setattr(torch, "bmm", product)


def test_a_stretch_of_epochs_shows_every_recipe_equally_often() -> None:
    rows, _ = data()
    stream = RecipeStream(replace(rows, weights=None), CONFIG, CONFIG.seed)
    recipes = len(stream._start)
    whole = stream._recipes_from(0, 5 * recipes)
    assert (torch.bincount(whole) == 5).all()
    assert not torch.equal(whole[:recipes], whole[recipes : 2 * recipes])
    for start, count in ((0, 3), (recipes - 2, 5), (2 * recipes + 1, 2 * recipes)):
        assert torch.equal(stream._recipes_from(start, count), whole[start : start + count])


def test_rows_come_as_often_as_they_count() -> None:
    table, epochs = tiny_table(), 1000
    codec, recipes = RecipeCodec.fit(table.schema, table.frame), table.recipe_ids()
    weights = np.random.default_rng(0).choice([0.25, 1.0], len(recipes))  # rows of one recipe differ, too
    wanted = weights / np.bincount(recipes)[recipes]
    rows = TrainingData(codec.encode(table.frame), codec.layout, recipes, recipes, weights)
    stream = RecipeStream(rows, CONFIG, CONFIG.seed)
    learned = stream._order.numpy()
    steps = epochs * len(stream._start) // CONFIG.batch_size
    shown = np.bincount(stream.chunk(0, steps, dims=1)[0].flatten(), minlength=len(recipes))
    assert shown.sum() == shown[learned].sum()
    np.testing.assert_allclose(shown[learned] / shown.sum(), wanted[learned] / wanted[learned].sum(), rtol=0.2)
    whole = stream._recipes_from(0, 10 * len(stream._start))
    assert (whole[1:] == whole[:-1]).float().mean() < 0.1  # one that comes twice in an epoch comes at two places
    for start, count in ((0, 3), (len(stream._start) - 2, 5), (2 * len(stream._start) + 1, 2 * len(stream._start))):
        assert torch.equal(stream._recipes_from(start, count), whole[start : start + count])
    held, each = stream.validation_rows()
    np.testing.assert_allclose(each, wanted[held] / wanted[held].sum())
