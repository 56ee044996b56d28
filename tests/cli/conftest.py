"""A fitted run, made once, and a way to call the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pyro_hcvae.cli import main
from tests.laboratories import TINY_TOML, tiny_frame

CONFIG = """
[model]
latent_dims = [3]
hidden = [16]
mixture_components = 2

[train]
members = 2
steps = 80
batch_size = 16
"""


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call ``pyro-hcvae`` with arguments, as a user's shell would."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", ["pyro-hcvae", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main.run()
        captured = capsys.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``table.csv``, ``schema.toml``, ``config.toml`` and a finished ``run``."""
    folder = tmp_path_factory.mktemp("laboratory")
    frame = tiny_frame()
    frame.insert(0, "No.", range(1, len(frame) + 1))
    frame.to_csv(folder / "table.csv", index=False)
    (folder / "schema.toml").write_text(TINY_TOML.replace('name = "tiny"', 'name = "tiny"\nidentifiers = ["No."]', 1))
    (folder / "config.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        arguments = [
            "fit",
            "table.csv",
            "--schema",
            "schema.toml",
            "--config",
            "config.toml",
            "--out",
            "run",
            "--quiet",
        ]
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pyro-hcvae", *arguments])
        main.run()
    assert not stop.value.code
    return folder
