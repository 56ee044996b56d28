"""A real training process is killed or interrupted at random times, and goes on to the same bits."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pyro_hcvae.cli import main
from tests.laboratories import TINY_TOML, tiny_frame

CONFIG = """
[model]
latent_dims = [3]
hidden = [16]
mixture_components = 2

[train]
members = 2
steps = 100
interval = 10
batch_size = 16
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pyro_hcvae", "fit", "--quiet", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


@pytest.fixture
def fit_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The same command in this process, which is quicker where nothing is to be killed."""

    def run(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["pyro-hcvae", "fit", "--quiet", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main.run()
        assert not stop.value.code

    return run


def lines(run: Path) -> int:
    """Lines of the history, which grows by one a member and interval."""
    history = run / "history.csv"
    return len(history.read_text().splitlines()) if history.exists() else 0


def anew(run: Path) -> bool:
    """Whether the checkpoint is one of members that are trained anew on all rows."""
    checkpoint = run / "checkpoint.safetensors"
    return checkpoint.exists() and bool(load_file(checkpoint)["until"].any())


@pytest.fixture
def files(tmp_path: Path) -> tuple[object, ...]:
    tiny_frame().to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "schema.toml").write_text(TINY_TOML)
    (tmp_path / "config.toml").write_text(CONFIG)
    return (tmp_path / "table.csv", "--schema", tmp_path / "schema.toml", "--config", tmp_path / "config.toml", "--out")


@pytest.mark.slow
def test_a_run_that_is_killed_and_interrupted_goes_on_to_the_same_bits(
    tmp_path: Path, files: tuple[object, ...], fit_here: Callable[..., None]
) -> None:
    fit_here(*files, tmp_path / "whole")
    rng = random.Random(7)
    run = tmp_path / "killed"
    # At odd moments: before the first interval is on disk, a few later, and when members are trained anew on all rows.
    kill, interrupt = signal.SIGKILL, signal.SIGINT
    moments = (((run / "config.toml").exists, kill), (lambda: lines(run) > 8, interrupt), (lambda: anew(run), kill))
    arguments: tuple[object, ...] = (*files, run)
    for has_come, sent in moments:
        process = start(*arguments)
        while process.poll() is None and not has_come():
            time.sleep(0.01)  # not without pause: training runs beside it
        time.sleep(rng.uniform(0.0, 0.03))
        process.send_signal(sent)
        _, err = process.communicate(timeout=120)
        assert process.returncode == (130 if sent == interrupt else -kill), err
        if sent == interrupt:
            assert f"fit --resume {run}" in err
            assert "Traceback" not in err
        assert not (run / "weights.safetensors").exists()
        arguments = ("--resume", run)
    fit_here(*arguments)
    for name in ("weights.safetensors", "stopped.safetensors", "history.csv"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(run.glob(".*"))  # no half-written file is left once the run is finished


@pytest.mark.slow
@pytest.mark.thorough
def test_a_run_of_two_processes_is_killed_and_goes_on_to_the_same_bits(
    tmp_path: Path, files: tuple[object, ...], fit_here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    long = ("--steps", 300, "--jobs", 2, "--compile", "never")
    fit_here(*files, whole, *long)
    process = start(*files, cut, *long)
    deadline = time.monotonic() + 120
    while process.poll() is None and lines(cut) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait(timeout=60)  # not communicate: the orphaned workers hold the pipes a little longer
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert not (cut / "weights.safetensors").exists()
    capsys.readouterr()
    fit_here("--resume", cut, "--json")
    assert json.loads(capsys.readouterr().out)["engine"].startswith("2 processes, eager step")
    assert (cut / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (cut / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
