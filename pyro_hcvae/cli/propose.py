"""`pyro-hcvae propose`."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.cli.screen import check_options
from pyro_hcvae.cli.screen import run as run_screening

if TYPE_CHECKING:
    import pandas as pd

    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.posterior.proposals import Proposals


def command(
    context: typer.Context,
    run: options.Run,
    target: Annotated[float, typer.Option("--target", help="Wanted performance, in the unit of its column.")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A condition, by column or feed ratio; may be repeated."),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", "--number", min=1, help="Number of distinct recipes; with --screen: of draws.")
    ] = 10,
    within: Annotated[
        float | None,
        typer.Option(
            "--within", help="Look for the target itself, at most so far from it; default: the target or better."
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint", metavar="TEXT", help="What every recipe must satisfy, e.g. 'Pt+Rh <= 1'; may be repeated."
        ),
    ] = None,
    constraints_file: Annotated[
        Path | None, typer.Option("--constraints", help="TOML file with a list 'constraints' of such texts.")
    ] = None,
    pending: Annotated[
        Path | None, typer.Option("--pending", help="Table of recipes under way, which are not proposed again.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="CSV file with prices of your own, over the built-in ones.")
    ] = None,
    variety: Annotated[
        float, typer.Option("--variety", min=0, max=1, help="0: the best, however alike; 1: as different as can be.")
    ] = 0.3,
    moves: Annotated[
        int | None,
        typer.Option("--moves", min=0, help="Moves of each search chain (default: 40); more find rarer recipes."),
    ] = None,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="CSV file; default: recipes.csv in the run folder, numbered. --screen: Parquet file."
        ),
    ] = None,
    allow_known: Annotated[bool, typer.Option("--allow-known", help="Also propose recipes of the table.")] = False,
    screen: Annotated[
        bool, typer.Option("--screen", help="Draw very many, check and judge each, and keep all in a Parquet file.")
    ] = False,
    least_probability: Annotated[
        float,
        typer.Option("--least-probability", min=0, max=1, help="--screen: drop what meets the target less likely."),
    ] = 0.0,
    engine: options.EngineKind = "local",
    address: options.Address = None,
    jobs: options.Pieces = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Propose new recipes for conditions and a wanted performance.

    Conditions that are not set are taken as typical of the table, and named. The output starts with the table's own columns, so
    that measured proposals can be appended to it; a second file beside it (..._intervals.csv) holds presence probabilities
    and 90 % credible intervals of recipes like the proposed one, one line a recipe and column.

    With --screen nothing is searched for or ranked: -n recipes are drawn, rounded, checked and judged, in pieces that --engine
    spreads over cores or machines, and every distinct one that may be proposed is a row of one Parquet file. Interrupted, the
    same command goes on.

    Examples:
      pyro-hcvae propose runs/drm --set "Reaction T=700" --set "CO2/CH4=1" --target 85 -n 20

      pyro-hcvae propose runs/drm --target 80 --constraint "exclude Pt Rh" --constraint "metals at most 2"
      --constraint "same Calcination T"

      pyro-hcvae propose runs/drm --set "Reaction T=600" --target 60 --json

      pyro-hcvae propose runs/drm --target 80 --screen -n 10_000_000 --jobs 8 --out screened.parquet
    """
    check_options(context, screen=screen, out=out)
    settings = options.settings(setting or [])
    path = out if out is not None else options.free_name(run / "recipes.csv")

    from pyro_hcvae.chemistry.prices import load_prices
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.posterior.search import SearchConfig

    if screen:
        from pyro_hcvae.study.engines import Engine
        from pyro_hcvae.study.screening import require_pyarrow

        require_pyarrow()
        options.check_out(path, force=force, suffix=".parquet")
        work_on = Engine(engine, address, jobs)  # type: ignore[arg-type]  # it checks the name itself
    designer, known_prices = RecipeDesigner.load(run), load_prices(prices)
    if not screen:
        options.check_out(path, force=force)
        options.check_out(intervals_beside(path), force=force)
    asked: dict[str, Any] = {
        "within": within,
        "constraints": designer.constraints(constraint or [], constraints_file, known_prices),
        "pending": None if pending is None else _pending(pending, designer.schema),
        "allow_known": allow_known,
        "prices": known_prices,
        "seed": seed,
    }
    if screen:
        work = designer.screen(settings, target, n, least_probability=least_probability, **asked)
        run_screening(work, path, work_on, force=force, json=json)
        return
    search = SearchConfig() if moves is None else SearchConfig(moves=moves)
    proposals = designer.propose(settings, target, n, variety=variety, search=search, **asked)
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
                "allowed": proposals.allowed,
                "search": {
                    "effective_start": proposals.search.effective_start,
                    "proposed_start": proposals.search.proposed_start,
                    "effective_chains": proposals.search.effective_chains,
                    "acceptance": proposals.search.acceptance,
                },
                "equilibrium": None if proposals.equilibrium is None else asdict(proposals.equilibrium),
                "predictor": {"r2_by_recipe": designer.predictor.r2, "mae_by_recipe": designer.predictor.mae},
                "recipes": options.records(proposals.frame),
            }
        )
        return
    show(designer, proposals)
    if len(proposals.frame) < n:
        typer.echo(f"Only {len(proposals.frame)} distinct recipes were found that may be proposed.", err=True)
    typer.echo(f"Recipes, with the reasons for each: {path}\nIntervals: {intervals}")


def _pending(path: Path, schema: RecipeSchema) -> pd.DataFrame:
    """Recipes of a file, all of whose recipe columns are needed."""
    from pyro_hcvae.data.table import RecipeTable

    return RecipeTable.read(path, schema, purpose="recipes").frame


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

    from pyro_hcvae.chemistry.recipe_words import brief
    from pyro_hcvae.data.table import PROPOSAL_PREFIX

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
    chains = proposals.search.effective_chains
    console.print(
        f"{proposals.drawn} draws, {proposals.valid} valid, {proposals.novel} not in the table, {proposals.allowed} allowed. "
        f"Effective sample size: {proposals.search.effective_start:.0f} at the start"
        f"{'' if isnan(chains) else f', {chains:.0f} of the chains'}. Predictor on recipes it has not seen: "
        f"R2 {predictor.r2:.2f}, mean error {predictor.mae:.1f} {schema.performance.unit}",
        highlight=False,
    )
    if proposals.equilibrium is not None:
        verdict = proposals.equilibrium
        console.print(f"Equilibrium: {verdict.level}. {verdict.reason} {verdict.carbon_risk}".rstrip(), highlight=False)
        if verdict.level != "green":
            console.print(
                "Warning: the predictor is told the equilibrium and not bound by it. What it predicts above "
                f"{verdict.without_carbon_pct:.0f} % goes with the formation of carbon, above "
                f"{verdict.with_carbon_pct:.0f} % it is an error.",
                highlight=False,
            )
    table = Table(box=SIMPLE, show_edge=False)
    table.add_column("rank", justify="right")
    table.add_column(" -> ".join(stage.name for stage in schema.stages))
    table.add_column(f"predicted\n{schema.performance.name} {schema.performance.unit}".rstrip())
    near = proposals.frame.filter(like="near the target").columns
    table.add_column("comes\nnear" if len(near) else "reaches\ntarget", justify="right")
    table.add_column("wants a second look")
    table.add_column("nearest known recipe\n(row, distance)")
    columns = {c.removeprefix(PROPOSAL_PREFIX): c for c in proposals.frame.columns if c.startswith(PROPOSAL_PREFIX)}
    nearest_gave = columns[f"its {schema.performance.name}"]
    cost = columns.get("metal cost [USD/kg]")
    if cost:
        table.add_column("metals\nUSD/kg", justify="right")
    predicted = next(
        columns[c] for c in columns if c.startswith("predicted ") and " low " not in c and " high " not in c
    )
    low = next(columns[c] for c in columns if " low 5 %" in c)
    high = next(columns[c] for c in columns if " high 95 %" in c)
    reach = next(columns[c] for c in columns if c.startswith("probability to "))
    for row in proposals.frame.to_dict("records"):
        said = [part for part in row[columns["rules broken"]].split(" | ") if part and not part.startswith("note")]
        table.add_row(
            str(row[columns["rank"]]),
            "\n-> ".join(brief(stage, row) for stage in schema.stages),
            f"{row[predicted]:.0f} ({row[low]:.0f} to {row[high]:.0f})",
            f"{100 * row[reach]:.0f} %",
            "\n".join(part.partition(". ")[0] for part in said) or "nothing",
            f"{row[columns['nearest known recipe']]}\n{row[nearest_gave]} "
            f"({row[columns['nearest known recipe [row]']]}, {row[columns['distance to it [sd]']]:.2g})",
            *([f"{row[cost]:.3g}"] if cost else []),
        )
    console.print(table)
