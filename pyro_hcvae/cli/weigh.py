"""`pyro-hcvae weigh`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    from pyro_hcvae.chemistry.prices import PriceTable
    from pyro_hcvae.chemistry.weighing import Settings, Sheet

_WRITES = (".md", ".html", ".csv")


def command(
    recipes: Annotated[
        Path, typer.Argument(metavar="RECIPES", help="Table of recipes, as 'propose' writes it or your own.")
    ],
    support_mass: Annotated[float, typer.Option("--support-mass", help="Grams of support for each recipe.")] = 5.0,
    basis: Annotated[
        Literal["catalyst", "support"], typer.Option("--basis", help="What the wt% of the metals are of.")
    ] = "catalyst",
    pore_volume: Annotated[
        float | None,
        typer.Option(
            "--pore-volume", help="Pore volume of the support in mL/g: adds stock solution and impregnations."
        ),
    ] = None,
    bulk: Annotated[
        Literal["skip", "weight", "atoms"],
        typer.Option(
            "--bulk", help="Amounts of recipes without support: wt% of the catalyst, ratios of atoms, or skip."
        ),
    ] = "skip",
    assay: Annotated[
        list[str] | None,
        typer.Option("--assay", metavar="METAL=PERCENT", help="Assay on the bottle; may be repeated."),
    ] = None,
    precursors: Annotated[
        Path | None, typer.Option("--precursors", help="CSV file of your own chemicals, over the built-in ones.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="CSV file of your own prices, over the built-in ones.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="Built-in schema or schema file.", show_default="drm")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Run folder whose schema the recipes have.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .md, .html (to print) or .csv; default: the terminal.")
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
    """Turn recipes into masses of precursors, to walk to the balance with.

    The wt% of a recipe are of the catalyst (the default) or of the support: tables rarely say which, and the masses differ.
    Amounts of components that the file has no column for count as 0. A file in a run folder is read with the schema of that run.

    Examples:
      pyro-hcvae weigh runs/drm/recipes.csv --support-mass 5 --out sheet.html

      pyro-hcvae weigh recipes.csv --basis support --pore-volume 0.6 --assay Ru=38

      pyro-hcvae weigh ours.xlsx --schema ours.toml --precursors bottles.csv --prices prices.csv --out sheet.csv
    """
    if out is not None:
        if out.suffix.lower() not in _WRITES:
            raise InputError(
                f"--out {out}: this command writes Markdown, HTML or CSV; end the name in .md, .html or .csv"
            )
        options.check_out(out, *(p for p in (recipes, precursors, prices) if p), force=force, suffix=out.suffix.lower())

    from pyro_hcvae.chemistry.precursors import load_precursors
    from pyro_hcvae.chemistry.prices import load_prices
    from pyro_hcvae.chemistry.weighing import Settings, weigh
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable

    settings = Settings(support_mass, basis, pore_volume, bulk)
    chemicals = load_precursors(precursors).with_assays(_assays(assay or []))
    price_table = load_prices(prices)
    table = RecipeTable.read(
        recipes,
        RecipeSchema.load(_schema(recipes, schema, run)),
        purpose="recipes",
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    frame = table.frame.loc[~table.frame.duplicated()]
    sheets = weigh(frame, table.schema, settings, precursors=chemicals, prices=price_table, source=str(recipes))
    if not json:
        options.show_findings(table.report)
        if repeats := len(table) - len(frame):
            typer.echo(f"{repeats} rows repeat a recipe: one sheet each is enough.", err=True)
    if out is not None:
        _write(out, sheets, settings, price_table)
    if json:
        options.print_json(
            {
                "out": out,
                "settings": asdict(settings),
                "recipes": [_plain(sheet, price_table) for sheet in sheets],
                "report": table.report.to_dict(),
            }
        )
    elif out is not None:
        typer.echo(f"{len(sheets)} weighing sheets: {out}")
    else:
        from pyro_hcvae.chemistry.sheets import to_markdown

        typer.echo(to_markdown(sheets, settings, price_table), nl=False)


def _schema(recipes: Path, schema: str | None, run: Path | None) -> str | Path:
    """The schema asked for, or that of the run whose folder the recipes lie in, or the built-in one."""
    if schema is not None and run is not None:
        raise InputError("--schema and --run both name a schema: leave one out")
    if schema is not None:
        return schema
    if run is not None:
        if not (run / "schema.toml").is_file():
            raise InputError(f"--run {run}: there is no run in this folder (it has no schema.toml)")
        return run / "schema.toml"
    beside = recipes.parent / "schema.toml"
    return beside if beside.is_file() and (recipes.parent / "config.toml").is_file() else "drm"


def _assays(pairs: Sequence[str]) -> dict[str, float]:
    assays: dict[str, float] = {}
    for pair in pairs:
        name, _, text = (part.strip() for part in pair.rpartition("="))
        if not name:
            raise InputError(f"--assay {pair!r}: write METAL=PERCENT, e.g. --assay Ru=38")
        if name in assays:
            raise InputError(f"--assay {name!r} is given twice")
        try:
            assays[name] = float(text.removesuffix("%"))
        except ValueError:
            raise InputError(f"--assay {pair!r}: {text!r} is not a number; write e.g. --assay Ru=38") from None
    return assays


def _write(path: Path, sheets: Sequence[Sheet], settings: Settings, prices: PriceTable) -> None:
    from pyro_hcvae.chemistry.sheets import to_frame, to_html, to_markdown
    from pyro_hcvae.inference.checkpoints import write_atomically

    match path.suffix.lower():
        case ".csv":
            options.write_csv(to_frame(sheets, settings, prices), path)
        case ".html":
            write_atomically(path, to_html(sheets, settings, prices).encode())
        case _:
            write_atomically(path, to_markdown(sheets, settings, prices).encode())


def _plain(sheet: Sheet, prices: PriceTable) -> dict[str, Any]:
    """A sheet as plain data, with what its parts work out."""
    charges = [
        asdict(charge)
        | {
            "mass_g": charge.mass_g,
            "metal_mol": charge.metal_mol,
            "price_date": prices.dates([charge.component]) or None,
        }
        for charge in sheet.charges
    ]
    return asdict(sheet) | {
        "charges": charges,
        "metal_cost_usd": sheet.cost_usd,
        "metal_cost_usd_per_kg_catalyst": sheet.cost_usd_per_kg,
    }
