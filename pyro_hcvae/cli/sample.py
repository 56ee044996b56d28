"""`pyro-hcvae sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_hcvae.cli import options


def command(
    run: options.Run,
    conditions: Annotated[
        Path, typer.Option("--conditions", metavar="TABLE", help="Rows with conditions and wanted performance.")
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.")],
    draws_per_row: Annotated[int, typer.Option("--draws-per-row", min=1, help="Recipes for each row.")] = 1,
    borrow: Annotated[
        float,
        typer.Option(
            "--borrow",
            min=0,
            max=1,
            help="Share of draws whose components, preparation and steps are those of a recipe of the run's table.",
        ),
    ] = 0.0,
    guidance: Annotated[
        int,
        typer.Option(
            "--guidance", min=1, help="Draw so many times as many, and keep those that fit the wanted performance best."
        ),
    ] = 1,
    as_drawn: Annotated[
        bool, typer.Option("--as-drawn", help="Leave numbers as drawn: not at the values that the run's table repeats.")
    ] = False,
    compilation: Annotated[
        options.Compilation,
        typer.Option("--compile", help="Compile the drawing: auto (from millions of draws on), always or never."),
    ] = "auto",
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
    """Draw unfiltered recipes for every row of a table of conditions.

    The output has the table's own columns: recipes as the model draws them, not filtered, beside the row's conditions and wanted
    performance; the draws of a row stand together, in the order of the rows. Numbers within the noise around a value that the
    run's table repeats are written as that value. With --borrow 0.5 half of the draws take their structure from a recipe that
    was measured under conditions like theirs, and only their numbers from the model: they look more like what is made there, and
    hold fewer combinations that nobody has tried. With --guidance draws follow the wanted performance more closely: the
    predictor, which shares nothing with the model, has a say in which are kept. With both, half of the draws that are written
    borrow all the same.

    Examples:
      pyro-hcvae sample runs/drm --conditions held_out.csv --draws-per-row 20 --seed 1 --out draws.csv

      pyro-hcvae sample runs/drm --conditions held_out.csv --borrow 0.5 --guidance 4 --out draws.csv
    """
    options.check_out(out, conditions, force=force)

    from rich.console import Console

    from pyro_hcvae.cli.progress import messages
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.inference.checkpoints import replacing

    designer = RecipeDesigner.load(run)
    asked = RecipeTable.read(
        conditions,
        designer.schema,
        purpose="conditions",
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    if not json:
        options.show_findings(asked.report)
    count = 0
    with replacing(out) as file, messages(Console(stderr=True)):
        chunks = designer.sample(
            asked.frame, draws_per_row, borrowed=borrow, guidance=guidance, as_drawn=as_drawn, compilation=compilation,
            seed=seed,
        )  # fmt: skip
        for chunk in chunks:
            text = designer.in_table_order(chunk).to_csv(index=False, header=count == 0, lineterminator="\n")
            file.write(text.encode())
            count += len(chunk)
    if json:
        options.print_json(
            {"draws": count, "conditions": len(asked), "seed": seed, "out": out, "report": asked.report.to_dict()}
        )
    else:
        typer.echo(f"{count} draws for {len(asked)} rows of conditions: {out}")
