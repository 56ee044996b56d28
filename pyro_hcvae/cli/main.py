"""`pyro-hcvae`: entry point of the command line."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from pyro_hcvae import __version__
from pyro_hcvae.cli import (
    complete,
    demo,
    equilibrium,
    evaluate,
    fit,
    propose,
    report,
    sample,
    schema,
    study,
    sweep,
    uncertainty,
    weigh,
)
from pyro_hcvae.errors import InputError

app = typer.Typer(
    name="pyro-hcvae",
    help="Learn recipes from a table of experiments, and propose the next ones.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (demo, fit, propose, complete, sample, weigh, equilibrium, evaluate, uncertainty, report):
    app.command()(module.command)
    app.registered_commands[-1].name = module.__name__.rsplit(".", maxsplit=1)[-1]
app.add_typer(schema.app, name="schema")
study.app.command("sweep")(sweep.command)
app.add_typer(study.app, name="study")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyro-hcvae {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _keep_output_to_ourselves() -> None:
    """Send to standard error what compiled libraries print, as HiGHS does now and then: standard output is what commands say."""
    out = sys.stdout
    try:
        if out.fileno() != 1:
            return
        errors = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # no streams, or such as are no files: nothing to part
        return
    out.flush()
    ours = os.fdopen(os.dup(1), "wb")
    os.dup2(errors, 1)
    sys.stdout = io.TextIOWrapper(ours, out.encoding, out.errors, line_buffering=out.isatty())


def run() -> None:
    """Run the command line; wrong input ends with one clear message and exit code 2."""
    _keep_output_to_ourselves()
    try:
        app()
    except InputError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to say.
        sys.stderr.close()
        sys.exit(0)
