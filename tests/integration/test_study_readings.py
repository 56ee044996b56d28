"""The readings of the published study that were tried all run, and change what they say they change."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from pyro import poutine
from torch.nn import functional as F

from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.inference.objective import GivenNoise, ScaledELBO
from pyro_hcvae.model.architectures import PRESENCE, REACTION, TREATMENT
from tests.model.test_architectures import MEMBERS, ROWS, WIDTHS, plain, rows

SCRIPT = Path(__file__).parents[2] / "scripts" / "study_readings.py"


def test_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    VirtualLab().experiments(recipes=40, rows_per_recipe=3, seed=0).to_csv(table, index=False)
    script = runpy.run_path(str(SCRIPT))
    script["main"]([str(table), "--repeats", "2", "--epochs", "2", "--json"])
    results = json.loads(capsys.readouterr().out)["results"]
    single = {entry["reading"]: entry["mean"] for entry in results if entry["model"] == "single"}
    assert set(single) == {"baseline", "rate-multiplied", "bounded", "clipped", "posterior-mean"}
    assert len(set(single.values())) == 5  # none of them is another one under a second name
    assert single["clipped"] > single["baseline"]
    gates = [(entry["reading"], entry["gate"]) for entry in results if entry["model"] != "single"]
    others = ("shared-both", "shared-trunk", "shared-mean-bce", "shared-prior-gate", "joint-through-gate")
    assert gates == [(reading, gate) for reading in others for gate in script["GATES"]]
    assert len({tuple(entry["scores"]) for entry in results}) == len(results)
    assert all(len(entry["scores"]) == 2 for entry in results)


def test_the_mean_over_columns_is_what_binary_cross_entropy_does_by_default() -> None:
    script = runpy.run_path(str(SCRIPT))
    parts = rows()
    found = {}
    for name in ("SharedMean", "SharedCVAE"):
        network = script[name](WIDTHS, seeds=(3, 4))
        noise = {site: torch.zeros(MEMBERS, ROWS, size) for site, size in network.latent_dims.items()}
        guide = GivenNoise(noise)(network.guide)
        with torch.no_grad():
            found[name] = ScaledELBO().terms(network.model, guide, parts).loss.item()
            latent = poutine.trace(guide).get_trace(parts).nodes["z"]["value"]
    by_default = 0.0
    for member in range(MEMBERS):
        shown = torch.cat([latent[member], *(parts[name][member] for name in (TREATMENT, REACTION))], dim=-1)
        logits = plain(network.presence.network, member, shown)
        for row in range(ROWS):
            by_default += F.binary_cross_entropy_with_logits(logits[row], parts[PRESENCE][member, row]).item()
    gained = found["SharedCVAE"] - found["SharedMean"]
    assert gained == pytest.approx((WIDTHS[PRESENCE] - 1) * by_default, rel=1e-4)
