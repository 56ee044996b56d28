"""`pyro-hcvae schema`: draft, show and check schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

app = typer.Typer(
    help="Draft a schema for your own table, show one, or check a table against it.", no_args_is_help=True
)


@app.command("init")
def init(
    table: options.Table,
    out: Annotated[Path | None, typer.Option("--out", help="Schema file to write; default: TABLE with .toml.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the schema; default: the file's name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
) -> None:
    """Draft a schema from a table. Every guess is commented: read the file and correct it before fitting.

    Examples:
      pyro-hcvae schema init ours.xlsx --out ours.toml
    """
    if table.is_dir():
        raise InputError(f"{table} is a folder, not a table")
    path = out if out is not None else table.with_suffix(".toml")
    options.check_out(path, table, force=force, suffix=".toml")

    from pyro_hcvae.data.draft import draft_schema
    from pyro_hcvae.data.reading import read_frame, refuse_decimal_commas
    from pyro_hcvae.inference.checkpoints import write_atomically

    frame = read_frame(table, options.read_options(decimal, thousands, encoding, sheet))
    refuse_decimal_commas(frame, str(table))
    text = draft_schema(frame, name=name or table.stem)
    write_atomically(path, text.encode())
    typer.echo(
        f"Draft: {path}\nCheck every line marked as a guess, then: pyro-hcvae schema check {table} --schema {path}"
    )


@app.command("show")
def show(
    schema: Annotated[str, typer.Argument(metavar="SCHEMA", help="Built-in schema or schema file.")] = "drm",
    toml: Annotated[bool, typer.Option("--toml", help="Print the schema file, to start your own from.")] = False,
    json: options.Json = False,
) -> None:
    """Show what a schema says.

    Examples:
      pyro-hcvae schema show drm

      pyro-hcvae schema show drm --toml > mine.toml
    """
    from pyro_hcvae.data.schema import RecipeSchema

    loaded = RecipeSchema.load(schema)
    if json:
        options.print_json(loaded.model_dump(mode="json"))
    elif toml:
        typer.echo(loaded.to_toml(), nl=False)
    else:
        typer.echo(loaded.describe())


@app.command("check")
def check(
    table: options.Table,
    schema: options.Schema = "drm",
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV file of the findings, cell by cell, at most 10,000 each.")
    ] = None,
    drop_column: options.DropColumn = None,
    skip_bad_rows: options.SkipBadRows = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Check a table against a schema, and report every problem by row, column and value.

    Examples:
      pyro-hcvae schema check 211210-DRM-total.csv

      pyro-hcvae schema check ours.xlsx --schema ours.toml --out findings.csv
    """
    if out is not None:
        options.check_out(out, table, force=force)

    from pyro_hcvae.data.report import TableError
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable

    error: TableError | None = None
    try:
        report = RecipeTable.read(
            table,
            RecipeSchema.load(schema),
            options=options.read_options(decimal, thousands, encoding, sheet),
            drop_columns=drop_column or (),
            skip_bad_rows=skip_bad_rows,
        ).report
    except TableError as found:
        error, report = found, found.report
    if out is not None:
        options.write_csv(report.to_frame(), out)
    if json:
        options.print_json(report.to_dict() | {"usable": error is None})
    elif error is None:
        typer.echo(report.to_text())
    if out is not None and not json:
        typer.echo(f"All cells: {out}")
    if error is not None:
        if json:
            raise typer.Exit(2)
        raise error
