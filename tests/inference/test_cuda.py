"""Training on a CUDA device, where there is one."""

from __future__ import annotations

import pytest
import torch

from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from tests.inference.test_engine import CONFIG, data
from tests.laboratories import SMALL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def train(device: str, compilation: str) -> Trainer:
    rows, codec = data()
    config = TrainConfig(**CONFIG.model_dump() | {"compile": compilation, "steps": 40, "refit": True})
    network = HierarchicalCVAE(codec.schema, len(codec.feature_names), SMALL, seeds=config.seeds).to(device)
    run = Trainer(network, rows, config)
    run.train()
    return run


@pytest.mark.parametrize("compilation", ["never", "auto"])
def test_a_training_on_the_device_agrees_with_one_on_the_cpu(compilation: str) -> None:
    reference, run = train("cpu", "never"), train("cuda", compilation)
    assert run.engine == ("CUDA graph" if compilation == "auto" else "eager step: compile is never")
    assert run.refitting
    assert torch.equal(run.state.until, reference.state.until)
    assert torch.allclose(run.state.best_loss, reference.state.best_loss, atol=1e-3)
    assert (run.state.values.cpu() - reference.state.values).abs().max() < 1e-3


def test_the_cuda_graph_gives_the_eager_steps() -> None:
    eager, graph = train("cuda", "never"), train("cuda", "always")
    assert (eager.state.values - graph.state.values).abs().max() < 1e-5
