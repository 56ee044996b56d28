"""A step compiled ahead of time: the same training, kept in the cache, and a way out where it cannot be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference import engine
from pyro_hcvae.inference.compilation import compile_step, worth_compiling
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer
from pyro_hcvae.inference.streams import TrainingData
from pyro_hcvae.model import compilation
from pyro_hcvae.model.compilation import CompilationError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.scopes import computing_scope
from tests.inference.test_engine import CONFIG, trainer
from tests.inference.test_step import example
from tests.laboratories import SMALL, tiny_frame, tiny_schema


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(compilation.CACHE_VARIABLE, str(folder))
        yield folder


def config(**settings: object) -> TrainConfig:
    return TrainConfig(**CONFIG.model_dump() | settings)


def metals_alone(settings: TrainConfig) -> Trainer:
    """Of the tiny schema the first stage alone, whose step is built in a third of the time."""
    schema = tiny_schema()
    schema = schema.model_copy(update={"stages": schema.stages[:1]})
    table = RecipeTable.from_frame(tiny_frame()[list(schema.columns)], schema, source="tiny")
    codec = RecipeCodec.fit(schema, table.frame)
    network = HierarchicalCVAE(schema, len(codec.feature_names), SMALL, seeds=settings.seeds)
    rows = TrainingData(codec.encode(table.frame), codec.layout, table.recipe_ids(), table.recipe_ids())
    return Trainer(network, rows, settings)


@pytest.mark.slow
def test_the_step_of_the_whole_hierarchy_is_traced() -> None:
    """A graph for all minibatches; it is built for the first stage alone below, as building all takes minutes."""
    run = trainer(config(members=3))
    with computing_scope():  # as where it is built: validation of distributions reads values
        graph = make_fx(run._gradients.pure)(*example(run))
    values, ours, *batch = example(run, interval=1)
    values = values + 0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))  # rates start at 0
    traced = torch.zeros_like(ours)
    rates = run._gradients.pure(values, ours, *batch)
    torch.testing.assert_close(graph(values, traced, *batch), rates)
    torch.testing.assert_close(traced, ours)


@pytest.mark.slow
@pytest.mark.parametrize("members", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_compiled_training_gives_the_weights_of_eager_training(cache: Path, members: int) -> None:
    eager, compiled = (metals_alone(config(members=members, compile=c)) for c in ("never", "always"))
    before = eager.state.values.clone()
    random, variables, children = (
        torch.get_rng_state(),
        dict(os.environ),
        set(psutil.Process().children(recursive=True)),
    )
    eager.run_steps(0)
    compiled.run_steps(0)
    assert compiled.engine.startswith("compiled step")
    assert eager.engine == "eager step: compile is never"
    moved = (eager.state.values - before).abs().max()
    assert (compiled.state.values - eager.state.values).abs().max() < 1e-3 * moved
    assert torch.allclose(compiled.state.rates, eager.state.rates, atol=1e-5)
    # Nothing is left behind but the package.
    assert torch.equal(torch.get_rng_state(), random)
    assert dict(os.environ) == variables
    assert set(psutil.Process().children(recursive=True)) <= children
    assert {path.suffix for path in cache.iterdir()} == {".pt2"}


@pytest.mark.slow
def test_a_step_in_the_cache_is_not_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = metals_alone(config(members=3, compile="always"))
    run.run_steps(0)
    monkeypatch.setattr(compilation, "_build", lambda *_: pytest.fail("built again"))
    again = metals_alone(config(members=3, compile="always", learning_rate=1e-3, seed=9))
    again.run_steps(0)
    assert again.engine.startswith("compiled step")
    # What is compiled looks neither at shapes nor at strides: what would be read wrongly is refused.
    assert again._step_function is not None
    values, gradient, packed, *batch = example(again)
    for wrong in (packed.transpose(0, 1).contiguous().transpose(0, 1), packed[:2], packed.double()):
        with pytest.raises(ValueError, match="contiguous one of"):
            again._step_function(values, gradient, wrong, *batch)
    other = example(metals_alone(config(members=3, batch_size=8)))
    with pytest.raises(pytest.fail.Exception):  # other shapes, another package
        compile_step(run._gradients.pure, other)


def test_a_damaged_package_is_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = metals_alone(config(members=2))
    built: list[Path] = []

    def build(graph: object, inputs: object, package: Path) -> None:
        built.append(package)
        package.write_bytes(b"not a package")

    monkeypatch.setattr(compilation, "_build", build)
    for attempt in (1, 2):
        with pytest.raises(CompilationError, match="cannot be loaded"):
            compile_step(run._gradients.pure, example(run))
        assert len(built) == attempt
        assert not built[0].exists()


def test_a_wrong_result_is_found_and_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = metals_alone(config(members=2))
    written: list[Path] = []

    def build(graph: object, inputs: object, package: Path) -> None:
        written.append(package)
        package.write_bytes(b"")

    def load(path: str):  # type: ignore[no-untyped-def]
        def wrong(values: torch.Tensor, gradient: torch.Tensor, *batch: torch.Tensor) -> torch.Tensor:
            rates = run._gradients.pure(values, gradient, *batch)
            gradient.mul_(1.01)
            return rates

        return wrong

    monkeypatch.setattr(compilation, "_build", build)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    with pytest.raises(CompilationError, match="does not give"):
        compile_step(run._gradients.pure, example(run))
    assert not written[0].exists()


def test_without_a_compiler_training_goes_on_eagerly_and_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(engine, "worth_compiling", lambda *_: (True, "for this test"))
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        run = metals_alone(config(members=2, steps=20, interval=10))
        run.train()
        assert run.engine.startswith("eager step: ")
        assert "compiler" in run.engine.lower()
        with pytest.raises(InputError, match="needs a C\\+\\+ compiler"):
            metals_alone(config(members=2, compile="always")).run_steps(0)
    assert not list(cache.glob(".building-*"))


def test_auto_compiles_long_trainings_only() -> None:
    assert not worth_compiling(500, 1, 64)[0]
    assert worth_compiling(100_000, 1, 64)[0]
    assert worth_compiling(5_000, 20, 64)[0]
    enough, why = worth_compiling(300, 5, 64)
    assert not enough
    assert "300 steps of 5 members" in why
