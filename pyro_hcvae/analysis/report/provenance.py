"""Where everything came from, so that it can be made again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from pyro_hcvae.analysis.report.page import Listing, Section
from pyro_hcvae.errors import InputError

_FILES = ("config.toml", "environment.json", "schema.toml")


def provenance_section(run: Path, *, draws: int, seed: int) -> Section:
    """Versions, seeds, hash of the data, command, and the files of the run as they are.

    Raises:
        InputError: If ``environment.json`` is missing or damaged.
    """
    path = run / "environment.json"
    try:
        environment: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{run} is not a whole run folder: {path.name} is missing") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    versions = ", ".join(f"{name} {number}" for name, number in environment.get("versions", {}).items())
    rows = [
        ["table", str(environment.get("table", ""))],
        ["SHA-256 of the rows", str(environment.get("data_sha256", ""))],
        ["command", shlex.join(map(str, environment.get("command", [])))],
        ["versions", versions],
        ["Python", str(environment.get("python", ""))],
        ["platform", str(environment.get("platform", ""))],
        ["threads", str(environment.get("threads", ""))],
        ["draws a recipe in this report, and their seed", f"{draws}, {seed}"],
    ]
    texts = [(name, (run / name).read_text(encoding="utf-8")) for name in _FILES if (run / name).is_file()]
    return Section(
        "provenance",
        "Provenance",
        [
            "The same version, table, settings and seed give the same weights; the same run, proposals, draws and seed "
            "give this report again."
        ],
        listings=[Listing("Origin", ["what", "value"], rows)],
        texts=texts,
    )
