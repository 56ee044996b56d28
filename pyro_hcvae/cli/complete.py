"""`pyro-hcvae complete`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError


def command(
    run: options.Run,
    partial: Annotated[Path, typer.Argument(metavar="PARTIAL", help="Table with empty cells where a recipe is open.")],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Completions of each row.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file; default: PARTIAL_completed.csv.")] = None,
    proposals: Annotated[int, typer.Option("--proposals", min=1, help="Weighted draws behind each row.")] = 2000,
    as_drawn: Annotated[
        bool,
        typer.Option(
            "--as-drawn", help="Leave open cells as drawn: neither at usual values nor on the laboratory's grid."
        ),
    ] = False,
    seed: options.Seed = 0,
    drop_column: options.DropColumn = None,
    skip_bad_rows: options.SkipBadRows = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Fill the empty cells of partial recipes.

    Given cells stay as they are; an empty cell, or a column that the file lacks, is open. 0 says that a component is absent.
    Columns that identify a row (its number, its name) come back beside every completion of it. The effective sample size tells
    how well the draws stand for the given cells: below about 50, raise --proposals.

    Examples:
      pyro-hcvae complete runs/drm partial.csv -n 10 --out completed.csv
    """
    if partial.is_dir():
        raise InputError(f"{partial} is a folder, not a table")
    path = out if out is not None else partial.with_name(f"{partial.stem}_completed.csv")
    options.check_out(path, partial, force=force)

    import pandas as pd

    from pyro_hcvae.data.table import PROPOSAL_PREFIX, RecipeTable
    from pyro_hcvae.designer import RecipeDesigner

    designer = RecipeDesigner.load(run)
    asked = RecipeTable.read(
        partial,
        designer.schema,
        purpose="partial",
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    if not json:
        options.show_findings(asked.report)
    parts, summaries = [], []
    for completion in designer.complete(asked, n, proposals=proposals, seed=seed, as_drawn=as_drawn):
        recipes = completion.frame
        recipes[f"{PROPOSAL_PREFIX}completes row"] = completion.row
        recipes[f"{PROPOSAL_PREFIX}effective sample size"] = round(completion.effective, 1)
        parts.append(recipes)
        summaries.append(
            {"row": completion.row, "effective_sample_size": completion.effective, "proposals": completion.proposed}
        )
    done = pd.concat(parts, ignore_index=True)
    known = {*designer.table.header, *designer.schema.columns}
    options.write_csv(designer.in_table_order(done, [c for c in done.columns if c not in known]), path)
    if json:
        options.print_json({"out": path, "seed": seed, "rows": summaries, "report": asked.report.to_dict()})
        return
    for summary in summaries:
        typer.echo(
            f"row {summary['row']}: effective sample size {summary['effective_sample_size']:.0f} of {summary['proposals']}"
        )
    typer.echo(f"{n} completions of each of {len(parts)} rows: {path}")
