"""`pyro-hcvae propose`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_hcvae.cli import options

if TYPE_CHECKING:
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.posterior.proposals import Proposals


def command(
    run: options.Run,
    target: Annotated[float, typer.Option("--target", help="Wanted performance, in the unit of its column.")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A condition, by column or feed ratio; may be repeated."),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Number of distinct recipes.")] = 10,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV file; default: recipes.csv in the run folder, numbered.")
    ] = None,
    allow_known: Annotated[bool, typer.Option("--allow-known", help="Also propose recipes of the table.")] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Propose new recipes for conditions and a wanted performance.

    Conditions that are not set are taken as typical of the table, and named. The output starts with the table's own columns, so
    that measured proposals can be appended to it; a second file beside it (..._intervals.csv) holds presence probabilities
    and 90 % credible intervals of recipes like the proposed one, one line a recipe and column.

    Examples:
      pyro-hcvae propose runs/drm --set "Reaction T=700" --set "CO2/CH4=1" --target 85 -n 20

      pyro-hcvae propose runs/drm --set "Reaction T=600" --target 60 --json
    """
    settings = options.settings(setting or [])
    path = out if out is not None else options.free_name(run / "recipes.csv")

    from pyro_hcvae.designer import RecipeDesigner

    designer = RecipeDesigner.load(run)
    options.check_out(path, force=force)
    options.check_out(intervals_beside(path), force=force)
    proposals = designer.propose(settings, target, n, seed=seed, allow_known=allow_known)
    intervals = write(designer, proposals, path)
    if json:
        options.print_json(
            {
                "out": path,
                "intervals": intervals,
                "seed": seed,
                "conditions": proposals.conditions.row,
                "assumed": proposals.conditions.assumed,
                "warnings": proposals.conditions.warnings,
                "drawn": proposals.drawn,
                "valid": proposals.valid,
                "novel": proposals.novel,
                "predictor": {"r2_by_recipe": designer.predictor.r2, "mae_by_recipe": designer.predictor.mae},
                "recipes": options.records(proposals.frame),
            }
        )
        return
    show(designer, proposals)
    if len(proposals.frame) < n:
        typer.echo(f"Only {len(proposals.frame)} distinct new recipes were found for these conditions.", err=True)
    typer.echo(f"Recipes: {path}\nIntervals: {intervals}")


def write(designer: RecipeDesigner, proposals: Proposals, path: Path) -> Path:
    """Write recipes in the table's columns, and their intervals beside them; returns the path of the latter."""
    from pyro_hcvae.data.table import PROPOSAL_PREFIX

    extra = [c for c in proposals.frame.columns if c.startswith(PROPOSAL_PREFIX)]
    intervals = intervals_beside(path)
    options.write_csv(proposals.intervals.round(6), intervals)
    options.write_csv(designer.in_table_order(proposals.frame, extra), path)
    return intervals


def intervals_beside(path: Path) -> Path:
    """Where the intervals of the recipes in a file are written."""
    return path.with_name(f"{path.stem}_intervals.csv")


def show(designer: RecipeDesigner, proposals: Proposals) -> None:
    """Print proposals as a table for reading."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    schema, predictor, conditions = designer.schema, designer.predictor, proposals.conditions
    units = schema.units()
    console = Console()
    shown = ", ".join(
        f"{k} {conditions.row[k]:g} {units[k]}".rstrip() for k in schema.condition_columns if conditions.row[k]
    )
    console.print(f"Conditions: {shown}", highlight=False)
    if conditions.assumed:
        assumed = ", ".join(f"{name} = {value:g}" for name, value in conditions.assumed.items())
        console.print(f"Not set, taken as typical of the table: {assumed}", highlight=False)
    for warning in conditions.warnings:
        console.print(f"Warning: {warning}", highlight=False)
    console.print(
        f"{proposals.drawn} draws, {proposals.valid} valid, {proposals.novel} not in the table. Predictor on recipes it has not "
        f"seen: R2 {predictor.r2:.2f}, mean error {predictor.mae:.1f} {schema.performance.unit}",
        highlight=False,
    )
    table = Table(box=SIMPLE, show_edge=False)
    table.add_column("rank", justify="right")
    table.add_column(" -> ".join(stage.name for stage in schema.stages))
    table.add_column(f"predicted\n{schema.performance.name} {schema.performance.unit}".rstrip())
    table.add_column("reaches\ntarget", justify="right")
    columns = {c.removeprefix("proposal: "): c for c in proposals.frame.columns if c.startswith("proposal: ")}
    predicted = next(
        columns[c] for c in columns if c.startswith("predicted ") and " low " not in c and " high " not in c
    )
    low = next(columns[c] for c in columns if " low 5 %" in c)
    high = next(columns[c] for c in columns if " high 95 %" in c)
    reach = columns["probability to reach the target"]
    for row in proposals.frame.to_dict("records"):
        table.add_row(
            str(row[columns["rank"]]),
            "\n-> ".join(stage_in_words(stage, row) for stage in schema.stages),
            f"{row[predicted]:.0f} ({row[low]:.0f} to {row[high]:.0f})",
            f"{100 * row[reach]:.0f} %",
        )
    console.print(table)


def stage_in_words(stage: Any, row: dict[Any, Any]) -> str:
    """One stage of a recipe as a laboratory would write it."""
    from pyro_hcvae.data.schema import Amounts, Category, Fractions

    words = []
    for block in stage.blocks:
        match block:
            case Amounts():
                parts = [_with_unit(row[c], block.unit, c) for c in block.columns if row[c] > 0]
                words.append(", ".join(parts) if parts else f"no {block.name}")
            case Fractions():
                parts = [c if row[c] == block.total else f"{row[c]:g} {c}" for c in block.columns if row[c] > 0]
                words.append(" + ".join(parts) if parts else f"no {block.name}")
            case Category():
                code = row[block.column]
                words.append(block.labels.get(str(code), f"{block.column} {code}"))
            case _:
                if block.optional and row[block.columns[0].name] == block.absent:
                    words.append(f"no {block.name}")
                else:
                    values = [_with_unit(row[c.name], c.unit, c.name).removesuffix(f" {c.name}") for c in block.columns]
                    words.append(f"{block.name} {', '.join(values)}")
    return "; ".join(words)


def _with_unit(value: float, unit: str, name: str) -> str:
    """``5 wt% Ni``, without the unit where the column's name has it already."""
    return f"{value:g} {name}" if not unit or unit in name else f"{value:g} {unit} {name}"
