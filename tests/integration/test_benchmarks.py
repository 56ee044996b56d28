"""The implementations that training is measured against compute the same objective, and the harness says what it measured."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pyro
import pytest
import torch

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def problem(load: Any) -> Any:
    return load("references.problem").Problem.simulated(recipes=80)


@pytest.fixture
def script(load: Any) -> ModuleType:
    module: ModuleType = load("benchmark_training")
    return module


def test_handwritten_loop_computes_our_loss_and_gradients(load: Any, problem: Any) -> None:
    assert load("references.handwritten").check(problem, tolerance=TOLERANCE) <= TOLERANCE


def test_the_check_sees_a_difference(load: Any, problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("references.handwritten")
    monkeypatch.setattr(module, "HALF_LOG_2PI", 0.9)
    with pytest.raises(AssertionError, match="something else"):
        module.check(problem, tolerance=TOLERANCE)


def test_handwritten_loop_trains(load: Any, problem: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loop = load("references.handwritten").Loop(problem, 32)
        before = [p.clone() for p in loop.model.parameters()]
        loop.run(3)
    assert all(not torch.equal(a, b) for a, b in zip(before, loop.model.parameters(), strict=True))


def test_stock_pyro_computes_our_loss_and_keeps_to_its_own_store(load: Any, problem: Any) -> None:
    module = load("references.stock_pyro")
    mine = pyro.param("mine", torch.tensor(1.0))
    try:
        assert module.check(problem, tolerance=TOLERANCE) <= TOLERANCE
        loop = module.Loop(problem, 16)
        before = next(loop.network.parameters()).clone()
        for _ in range(2):
            loop.run(1)
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert pyro.param("mine") is mine
    finally:
        pyro.clear_param_store()
    assert len(loop.optimizer.optim_objs) == len(list(loop.network.parameters()))  # none was replaced between the runs
    assert not torch.equal(before, next(loop.network.parameters()))


@pytest.mark.slow
def test_numpyro_computes_our_loss_and_gradients(
    problem: Any, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JAX_PLATFORMS", "XLA_FLAGS"):  # set when NumPyro is imported; gone after the test
        monkeypatch.setenv(name, {"JAX_PLATFORMS": "cpu"}.get(name, ""))
    module = script.import_numpyro()
    if module is None:
        pytest.skip("NumPyro is not installed")
    assert module.check(problem, tolerance=TOLERANCE) <= TOLERANCE


def test_the_floor_knows_every_affine_map_and_needless_products(load: Any, problem: Any) -> None:
    shapes = load("references.floor").shapes(problem, 16)
    tables = sum(table.numel() for table in load("references.problem").our_tables(problem.network()))
    parameters = sum(shape.inputs * shape.outputs + shape.outputs for shape in shapes)
    assert parameters + tables == sum(p.numel() for p in problem.network().parameters())
    # The encoder's first layer and the first prior's see data alone: nobody needs their gradient.
    assert sum(not shape.passes_on for shape in shapes) == 2
    # The heads of numbers, with an output for each Gaussian, run for what exists in the minibatch; what numbers say to others,
    # with an input for each Gaussian, for those with one after them in their row; the rest for its rows.
    batch = problem.batch(next(problem.draws(16)))
    counts = [known.sum(-1) for name, known in batch.known.items() if name in problem.levels]
    assert [shape.rows for shape in shapes if shape.outputs == 24] == [int(count.sum()) for count in counts]
    heard = [int((count - (count > 0).int()).sum()) for count in counts]
    assert [shape.rows for shape in shapes if shape.inputs == 24] == heard
    assert {shape.rows for shape in shapes if 24 not in shape[1:3]} == {16}


def test_benchmark_prints_ratios_as_json_and_as_a_table(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--members", "1", "2", "--batch", "16", "32", "--recipes", "40", "--rounds", "2", "--slice", "0.001"]
    arguments = [*sizes, "--without-numpyro", "--only", "eager", "products"]
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        script.main([*arguments, "--json"])
        result = json.loads(capsys.readouterr().out)
        script.main(arguments)
    assert torch.get_num_threads() == threads
    measured = [(row["variant"], row["members"], row["batch"]) for row in result["rows"]]
    assert measured == [
        ("handwritten", 1, 16), ("eager", 1, 16), ("products", 1, 16), ("eager", 2, 16), ("products", 2, 16),
        ("handwritten", 1, 32), ("eager", 2, 32), ("products", 2, 32),
    ]  # fmt: skip
    for row in result["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["ratio"] <= high
        if row["variant"] == "handwritten":
            assert row["ratio"] == 1
    assert result["floor"] == result["rows"][4]["ratio"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(measured) + 1
    assert lines[-1].startswith("floor, 2 members, batch 16:")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "eagre"], "no variant is called eagre"),
        (["--rounds", "0"], "1 or more"),
        (["--recipes", "8"], "at least the largest --batch"),
    ],
)
def test_benchmark_explains_wrong_input(
    arguments: list[str], said: str, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        script.main([*arguments, "--without-numpyro"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
