"""Steps of Adam are those of torch's optimizers, and come without its compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_hcvae.model.adam import adam_step


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_are_those_of_the_optimizer(decoupled: bool, fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((3, 2), (4,))]
    theirs = [torch.nn.Parameter(x.clone()) for x in start]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(theirs, lr=0.1, weight_decay=0.02, fused=fused)
    ours, first, second = start, *([torch.zeros_like(x) for x in start] for _ in range(2))
    taken = [torch.zeros(()) for _ in start]
    for _ in range(5):
        gradients = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in start]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        adam_step(ours, gradients, first, second, taken, rate=0.1, weight_decay=0.02, decoupled=decoupled, fused=fused)
    assert [float(x) for x in taken] == [5, 5]
    for mine, parameter in zip(ours, theirs, strict=True):
        assert torch.equal(mine, parameter.detach())


@pytest.mark.slow
def test_training_and_predicting_leave_the_compiler_where_it_is() -> None:
    program = """
import sys
from pyro_hcvae import RecipeDesigner, TrainConfig
from tests.laboratories import SMALL, tiny_schema, tiny_table
designer = RecipeDesigner(tiny_schema(), model=SMALL, train=TrainConfig(members=1, steps=2, compile="never"))
designer.fit(tiny_table()).predictor
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True, timeout=300)
