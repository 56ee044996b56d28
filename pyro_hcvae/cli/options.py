"""Options that several commands share, and small helpers to print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pyro_hcvae.data.reading import ReadOptions
    from pyro_hcvae.data.report import ImportReport

_RUN_FILES = {
    "codec.json", "config.toml", "environment.json", "experiments.csv", "history.csv", "import_report.txt", "schema.toml",
    "checkpoint.safetensors", "weights.safetensors",
}  # fmt: skip

Table = Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, Excel or Parquet file.", show_default=False)]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder made by 'fit' or 'demo'.", show_default=False)]
Schema = Annotated[str, typer.Option("--schema", help="Built-in schema or schema file.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**31, help="The same seed gives the same result.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Unseen = Literal["recipe", "composition", "laboratory"]
"""What is new about the recipes that are asked about."""
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Processes that share the members [1].")]
Compilation = Literal["auto", "always", "never"]
"""Whether something is compiled ahead of time."""
Compile = Annotated[
    str | None,
    typer.Option("--compile", help="Compile the training step: auto (if it pays, the default), always or never."),
]
EngineKind = Annotated[
    str, typer.Option("--engine", help="Where the work is done: local, dask or ray (extras of the same names).")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Of a cluster; default: a cluster of this machine's own.", show_default=False),
]
Pieces = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Pieces of work at once [1; on a cluster: all of its cores].")
]
Decimal = Annotated[str, typer.Option("--decimal", help="Decimal mark of a text file.")]
Thousands = Annotated[str | None, typer.Option("--thousands", help="Thousands separator of a text file.")]
Encoding = Annotated[str, typer.Option("--encoding", help="Encoding of a text file, e.g. cp1252.")]
Sheet = Annotated[str | None, typer.Option("--sheet", help="Sheet of a workbook; default: the first.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output file.")]
DropColumn = Annotated[
    list[str] | None,
    typer.Option("--drop-column", help="Leave a component or an unknown column out; may be repeated."),
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out rows with errors; the report names them.")
]


def read_options(decimal: str, thousands: str | None, encoding: str, sheet: str | None) -> ReadOptions:
    """Bundle the options that say how a file is written."""
    from pyro_hcvae.data.reading import ReadOptions

    return ReadOptions(decimal=decimal, thousands=thousands, encoding=encoding, sheet=sheet)


def settings(pairs: Sequence[str]) -> dict[str, float]:
    """Parse ``NAME=VALUE`` pairs.

    Raises:
        InputError: If a pair has no ``=``, no number, or repeats a name.
    """
    out: dict[str, float] = {}
    for pair in pairs:
        name, sign, text = pair.rpartition("=")
        name = name.strip()
        if not sign or not name:
            raise InputError(f"--set {pair!r}: write NAME=VALUE, e.g. --set 'Reaction T=700'")
        if name in out:
            raise InputError(f"--set {name!r} is given twice")
        try:
            out[name] = float(text)
        except ValueError:
            raise InputError(
                f"--set {pair!r}: {text!r} is not a number (conditions take numbers with a decimal "
                "point; to fix a part of the recipe use: pyro-hcvae complete)"
            ) from None
    return out


def print_json(data: Any) -> None:
    """Print one JSON object; NaN becomes null."""
    typer.echo(json.dumps(_plain(data), indent=1, allow_nan=False))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as plain records."""
    out: list[dict[str, Any]] = _plain(frame.to_dict("records"))
    return out


def _plain(data: Any) -> Any:
    match data:
        case dict():
            return {str(k): _plain(v) for k, v in data.items()}
        case list() | tuple():
            return [_plain(v) for v in data]
        case float():
            return data if abs(data) < float("inf") else None
        case Path():
            return str(data)
    return data.item() if hasattr(data, "item") else data


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table whole or not at all."""
    from pyro_hcvae.inference.checkpoints import write_atomically

    write_atomically(path, frame.to_csv(index=False, lineterminator="\n").encode())


def check_out(path: Path, *inputs: Path, force: bool = False, suffix: str = ".csv") -> None:
    """Refuse an output path that cannot be written, or that holds something already, before any work is done.

    Raises:
        InputError: If its folder does not exist, if it is a folder itself, an input, a file of a run, an existing file without
            ``force``, or of another kind than what is written.
    """
    if path.suffix.lower() != suffix:
        raise InputError(f"--out {path}: this command writes {suffix[1:].upper()}; choose a name that ends in {suffix}")
    if path.is_dir():
        raise InputError(f"--out {path}: this is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}")
    if any(path.exists() and other.exists() and path.samefile(other) for other in inputs):
        raise InputError(f"--out {path} is the input itself: choose another file")
    if path.name in _RUN_FILES and (path.parent / "config.toml").exists():
        raise InputError(f"--out {path} belongs to a run: choose another file")
    if path.exists() and not force:
        raise InputError(f"{path} exists already: choose another --out, or replace it with --force")


def free_name(path: Path) -> Path:
    """The path, or the first of ``name_2``, ``name_3``, ... that does not exist: what was written before is kept."""
    number = 2
    found = path
    while found.exists():
        found = path.with_name(f"{path.stem}_{number}{path.suffix}")
        number += 1
    return found


def show_findings(report: ImportReport) -> None:
    """Say on stderr what an import changed or found odd."""
    if report.findings:
        typer.echo(report.to_text(), err=True)
