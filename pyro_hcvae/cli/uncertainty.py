"""`pyro-hcvae uncertainty`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pyro_hcvae.designer import RecipeDesigner

DRAWS, NUMBERS, STRUCTURES, PERFORMANCE = "draws.nc", "numbers.csv", "structures.csv", "performance.csv"
FILES = (DRAWS, NUMBERS, STRUCTURES, PERFORMANCE)
"""What is written, in this order."""


def command(
    run: options.Run,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files; made if it is not there.")],
    recipes: Annotated[
        Path | None, typer.Option("--recipes", metavar="TABLE", help="Whole recipes with their conditions.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A condition; those not set are typical of the table."),
    ] = None,
    target: Annotated[
        float | None, typer.Option("--target", help="Wanted performance; with --recipes: where the table has none.")
    ] = None,
    propose: Annotated[
        int, typer.Option("--propose", min=0, help="Look around so many proposals instead of at the conditions alone.")
    ] = 0,
    draws: Annotated[int, typer.Option("--draws", min=2, help="Draws of the latents, for each member.")] = 100,
    repeats: Annotated[int, typer.Option("--repeats", min=2, help="Recipes for each of them.")] = 5,
    refits: Annotated[int, typer.Option("--refits", min=2, help="Fits of the predictor on recipes drawn anew.")] = 10,
    unseen: Annotated[
        options.Unseen,
        typer.Option(
            "--unseen",
            help="What is new about the measurement to come: its error reckons with it, and refits leave it out whole.",
        ),
    ] = "recipe",
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
    """Say where the uncertainty of recipes comes from: noise, latents, or members that disagree.

    Around the recipes of a table (--recipes), around proposals (--target with --propose), or for conditions alone (--target).
    The folder gets numbers.csv (parts of the variance of every amount, share and setting), structures.csv (parts of the
    entropy of every presence, code and step), performance.csv (parts of the variance of the predicted performance) and
    draws.nc (all draws with named dimensions, for ArviZ and xarray).

    Examples:
      pyro-hcvae uncertainty runs/drm --recipes recipes.csv --target 80 --out uncertain

      pyro-hcvae uncertainty runs/drm --set "Reaction T=700" --target 80 --out uncertain

      pyro-hcvae uncertainty runs/drm --set "Reaction T=700" --target 80 --propose 5 --out uncertain
    """
    _check_out(out, force=force)
    if recipes is None and target is None:
        raise InputError("give --recipes TABLE, or --target (with --set NAME=VALUE as you like)")
    if recipes is not None and (setting or propose):
        raise InputError("--recipes brings its own conditions and recipes: leave out --set and --propose")

    from pyro_hcvae.analysis.inference_data import write_netcdf
    from pyro_hcvae.analysis.performance_parts import Refits, performance_uncertainty
    from pyro_hcvae.analysis.uncertainty import uncertainty
    from pyro_hcvae.data.splits import groups_of
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.designer import RecipeDesigner

    designer = RecipeDesigner.load(run)
    if recipes is not None:
        table = RecipeTable.read(
            recipes,
            designer.schema,
            purpose="partial",
            options=options.read_options(decimal, thousands, encoding, sheet),
            drop_columns=drop_column or (),
            skip_bad_rows=skip_bad_rows,
        )
        if not json:
            options.show_findings(table.report)
        rows = with_target(designer, table.frame, target)
    else:
        asked = options.settings(setting or [])
        rows = asked_rows(designer, asked, float(target or 0.0), propose, seed=seed)
    found = uncertainty(designer, rows, draws=draws, repeats=repeats, seed=seed)
    designer.reckon_with(unseen)
    groups = groups_of(designer.table, unseen)
    fits = Refits.fit(designer.predictor, designer.table, groups, refits, seed=seed)
    performance = performance_uncertainty(designer, rows, fits, draws=draws, seed=seed)
    data = designer.to_inference_data(rows, draws=draws, seed=seed)

    _make(out)
    # Under another name first: a file is there whole, or not at all.
    temporary = out / f".{DRAWS}"
    try:
        write_netcdf(data, temporary)
        temporary.replace(out / DRAWS)
    finally:
        temporary.unlink(missing_ok=True)
    for name, frame in ((NUMBERS, found.numbers), (STRUCTURES, found.structures), (PERFORMANCE, performance)):
        options.write_csv(frame, out / name)
    if json:
        options.print_json(
            {"recipes": len(rows), "draws": draws, "repeats": repeats, "seed": seed, "out": out}
            | {"numbers": options.records(found.numbers), "structures": options.records(found.structures)}
            | {"performance": options.records(performance)}
        )
    else:
        for frame in (performance, found.numbers):
            show(frame)
        typer.echo("\n".join(str(out / name) for name in FILES))


def with_target(designer: RecipeDesigner, frame: pd.DataFrame, target: float | None) -> pd.DataFrame:
    """Recipes of a file; an empty performance becomes the target, or stays unknown.

    Raises:
        InputError: If the table holds no recipe at all.
    """
    if not frame[list(designer.schema.recipe_columns)].notna().to_numpy().any():
        raise InputError("the table holds conditions and no recipe: ask with --set and --target")
    name = designer.schema.performance.name
    return frame if target is None else frame.assign(**{name: frame[name].fillna(target)})


def asked_rows(
    designer: RecipeDesigner, asked: dict[str, float], target: float, proposals: int, *, seed: int
) -> pd.DataFrame:
    """Proposals numbered by rank; or, without any, one row of conditions whose recipe cells are NaN."""
    import numpy as np

    schema = designer.schema
    if proposals:
        found = designer.propose(asked, target, proposals, seed=seed).frame
        rows = found[list(schema.columns)].assign(**{schema.performance.name: target})
        return rows.set_axis(range(1, len(rows) + 1), axis=0)
    conditions = designer.conditions(asked, target)
    for warning in conditions.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    rows = conditions.frame().reindex(columns=list(schema.columns), fill_value=np.nan)
    return rows.set_axis([1], axis=0)


def show(frame: pd.DataFrame) -> None:
    """Print the parts as shares of the variance, in %."""
    shown = frame[["recipe", "column", "unit", "value", "mean", "sd"]]
    shares = 100 * frame[["aleatoric", "latent", "epistemic"]].div(frame["variance"], axis=0)
    together = shown.join(shares.add_suffix(" %").round())
    typer.echo(together.to_string(index=False, na_rep="-", float_format=lambda x: f"{x:.4g}"))


def _check_out(out: Path, *, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: name a folder")
    if (out / "config.toml").exists():
        raise InputError(f"--out {out} is a run: choose another folder, e.g. one in it")
    there = [name for name in FILES if (out / name).exists()]
    if there and not force:
        raise InputError(f"{out / there[0]} exists already: choose another --out, or replace it with --force")


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot make this folder: {error.strerror}") from None
