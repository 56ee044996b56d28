"""Compiled draws are the draws, only quicker; where nothing can be compiled they are drawn all the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor

from pyro_hcvae import InputError, RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.data.batch import Layout
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.inference.step import FlatParameters
from pyro_hcvae.model import compilation
from pyro_hcvae.model.compilation import CACHE_VARIABLE
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.compiled_draws import CompiledDraws, worth_compiling
from pyro_hcvae.posterior.predictive import CHUNK_ROWS, draw_once, draw_recipes
from tests.laboratories import SMALL, TINY_TOML, tiny_frame, tiny_model, tiny_schema


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


def network(codec: RecipeCodec, seeds: tuple[int, ...]) -> HierarchicalCVAE:
    """Members whose heads, which start at zero, have a say."""
    made = HierarchicalCVAE(codec.schema, len(codec.feature_names), SMALL, seeds=seeds)
    generator = torch.Generator().manual_seed(seeds[0])
    with torch.no_grad():
        for p in made.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return made


def designer() -> RecipeDesigner:
    table = RecipeTable.from_frame(tiny_frame(), RecipeSchema.from_toml(TINY_TOML), source="tiny")
    train = TrainConfig(members=2, steps=5, batch_size=8, compile="never")
    return RecipeDesigner(table.schema, model=SMALL, train=train).fit(table)


@pytest.mark.slow
def test_compiled_draws_are_the_draws(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Sets with numbers, and codes: all kinds of random choices, in a third of the time that the whole schema takes.
    schema = tiny_schema()
    first, _, last = schema.stages
    short = (first, last.model_copy(update={"blocks": last.blocks[:1]}))
    schema = schema.model_copy(update={"stages": short})
    table = RecipeTable.from_frame(tiny_frame()[list(schema.columns)], schema, source="tiny")
    codec = RecipeCodec.fit(schema, table.frame)
    packed = codec.encode(table.frame)
    model, other = (network(codec, seeds) for seeds in ((0, 1), (8, 9)))
    random = torch.get_rng_state()
    compiled = CompiledDraws(model, codec.layout)
    assert torch.equal(torch.get_rng_state(), random)
    assert "c-shim" not in capfd.readouterr().err  # torch's advice to those who write kernels
    calls: list[Tensor] = []

    def counted(conditions: Tensor) -> Tensor:
        calls.append(conditions)
        return compiled(conditions)

    def draws(pass_: CompiledDraws | None) -> Tensor:
        each = (2 * CHUNK_ROWS + 100) // 7  # two whole chunks, and a part of one
        parts = draw_recipes(model, codec.layout, packed[:7], each, seed=3, compiled=pass_ and counted)
        return torch.cat([x for _, x in parts])

    def same(a: Tensor, b: Tensor) -> float:
        return float(torch.isclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True).all(dim=1).float().mean())

    before = draws(None)
    assert same(draws(compiled), before) > 0.999
    assert len(calls) == 2
    # Values are those of the moment, and what was built serves other members, also those that training has laid out.
    model.load_state_dict(other.state_dict())
    model.double().float()
    after = draws(None)
    assert same(after, before) < 0.5
    assert same(draws(compiled), after) > 0.999
    monkeypatch.setattr(compilation, "_build", lambda *_: pytest.fail("built again"))
    FlatParameters(other)
    CompiledDraws(other, codec.layout)


def test_without_a_compiler_draws_are_made_uncompiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    fitted = designer()
    asked = fitted.table.frame.iloc[:1]
    usual = pd.concat(fitted.sample(asked, CHUNK_ROWS, seed=1))
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        with pytest.raises(InputError, match=r"draws cannot be compiled: InvalidCxxCompiler"):
            list(fitted.sample(asked, CHUNK_ROWS, compilation="always"))
        assert not caplog.records
        monkeypatch.setattr("pyro_hcvae.designer.worth_compiling", lambda draws: draws == CHUNK_ROWS)
        pd.testing.assert_frame_equal(pd.concat(fitted.sample(asked, CHUNK_ROWS, seed=1)), usual)
        assert "draws are not compiled" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_wrong_pass_is_found_and_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    model, _, codec = tiny_model(seeds=(0, 1), stir=0.3)
    written: list[Path] = []

    def build(graph: object, inputs: object, package: Path) -> None:
        written.append(package)
        package.write_bytes(b"")

    width = codec.layout.width
    monkeypatch.setattr(compilation, "_build", build)

    def broken(*inputs: Tensor) -> Tensor:
        raise RuntimeError("does not run")

    wrongs = (
        (lambda x, *_: torch.rand(*x.shape[:2], width), "the compiled draw does not give"),
        (broken, "does not run"),
    )
    for wrong, message in wrongs:
        monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path, wrong=wrong: wrong)
        with pytest.raises(compilation.CompilationError, match=message):
            CompiledDraws(model, codec.layout)
        assert not written[-1].exists()
    assert len(written) == 2


class Recorded:
    """In the place of a compiled pass: the eager one, which remembers the members that it was made for and the chunks drawn."""

    made: ClassVar[list[Recorded]] = []

    def __init__(self, model: HierarchicalCVAE, layout: Layout) -> None:
        self.model, self.layout, self.chunks = model, layout, 0
        self.made.append(self)

    def __call__(self, conditions: Tensor) -> Tensor:
        self.chunks += 1
        return draw_once(self.model, self.layout, conditions)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    monkeypatch.setattr(Recorded, "made", [])
    monkeypatch.setattr("pyro_hcvae.designer.CompiledDraws", Recorded)
    return Recorded.made


def test_a_designer_keeps_its_pass_until_the_network_is_another_one(recorded: list[Recorded]) -> None:
    fitted = designer()
    asked = fitted.table.frame.iloc[:3]
    usual = pd.concat(fitted.sample(asked, CHUNK_ROWS, seed=2))
    list(fitted.sample(asked, CHUNK_ROWS // 4, compilation="always"))  # no whole chunk
    assert not recorded
    for calls in (1, 2):
        found = pd.concat(fitted.sample(asked, CHUNK_ROWS, compilation="always", seed=2))
        pd.testing.assert_frame_equal(found, usual)
        assert [made.chunks for made in recorded] == [3 * calls]
    assert "_compiled_draws" not in pickle.loads(pickle.dumps(fitted)).__dict__
    fitted.fit(fitted.table)
    list(fitted.sample(asked, CHUNK_ROWS, compilation="always"))
    fitted.network = copy.deepcopy(fitted.network)
    list(fitted.sample(asked, CHUNK_ROWS, compilation="always"))
    assert len({made.model for made in recorded}) == len(recorded) == 3
    assert recorded[-1].model is fitted.network


def test_auto_counts_all_draws_that_are_made(recorded: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = designer()
    monkeypatch.setattr("pyro_hcvae.designer.worth_compiling", lambda draws: draws >= 4 * CHUNK_ROWS)
    list(fitted.sample(fitted.table.frame.iloc[:2], CHUNK_ROWS))
    assert not recorded
    list(fitted.sample(fitted.table.frame.iloc[:2], CHUNK_ROWS, guidance=2))
    assert [made.chunks for made in recorded] == [4]


@pytest.mark.usefixtures("recorded")
def test_a_network_on_another_device_is_not_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = designer()
    fitted.network.to("meta")
    with pytest.raises(InputError, match="not on the CPU"):
        list(fitted.sample(fitted.table.frame.iloc[:1], CHUNK_ROWS, compilation="always"))


def test_millions_of_draws_are_worth_it() -> None:
    assert not worth_compiling(1_000_000)
    assert worth_compiling(10_000_000)
