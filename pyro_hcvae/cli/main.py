"""`pyro-hcvae`: entry point of the command line."""

from __future__ import annotations

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


def run() -> None:
    """Run the command line; wrong input ends with one clear message and exit code 2."""
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
