"""Mass screening: what `pyro-hcvae propose --screen` does."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.cli.progress import work_progress
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    from pyro_hcvae.posterior.screening import Screen
    from pyro_hcvae.study.engines import Engine


def check_options(context: typer.Context, *, screen: bool, out: Path | None) -> None:
    """Refuse options that mean nothing together with ``--screen``, or without it.

    Raises:
        InputError: Names them.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if not screen:
        if alone := sorted(given & {"least_probability", "engine", "address", "jobs"}):
            raise InputError(f"{_written(alone[0])} belongs to a screening: add --screen, or leave it out")
        return
    if wrong := sorted(given & {"variety", "moves"}):
        raise InputError(f"{_written(wrong[0])} belongs to a search, and a screening does not search: leave it out")
    if "n" not in given:
        raise InputError("--screen: say with -n how many recipes are drawn, e.g. -n 1_000_000")
    if out is None:
        raise InputError("--screen: name a Parquet file with --out")


def _written(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def run(screen: Screen, out: Path, engine: Engine, *, force: bool, json: bool) -> None:
    """Do a screening with progress, and say what came of it."""
    from pyro_hcvae.study.screening import screen_to_parquet

    begun = time.monotonic()
    try:
        with work_progress("screening", quiet=json) as show:
            counts = screen_to_parquet(
                screen,
                out,
                engine,
                fresh=force,
                on_piece=lambda so_far, done, of: show(done, of, f"{so_far.drawn} draws, {so_far.kept} kept"),
            )
    except KeyboardInterrupt:
        typer.echo("Stopped. The finished pieces are kept: the same command goes on with the others.", err=True)
        raise typer.Exit(130) from None
    seconds = time.monotonic() - begun
    if json:
        options.print_json({"out": out, "settings": screen.settings(), **asdict(counts), "seconds": round(seconds, 1)})
        return
    typer.echo(
        f"{counts.drawn} draws, {counts.valid} valid, {counts.novel} not in the table, {counts.allowed} allowed, {counts.kept} "
        f"kept: {out}"
    )
