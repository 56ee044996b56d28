"""`pyro-hcvae fit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.cli.progress import training_progress
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.inference.config import RunConfig, TrainConfig


def command(
    context: typer.Context,
    table: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="CSV, Excel or Parquet file.", show_default=False)
    ] = None,
    schema: options.Schema = "drm",
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to make.", show_default=False)] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with tables 'model' and 'train'.", show_default=False)
    ] = None,
    members: Annotated[int | None, typer.Option("--members", min=1, help="Replicates trained at once [5].")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Longest training, in minibatches (default: 3000).")
    ] = None,
    unseen: Annotated[
        options.Unseen | None,
        typer.Option(
            "--unseen",
            help="What is to be new about recipes: for other laboratories, other settings serve (default: recipe).",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**31, help="Seed of the run [0].")] = None,
    jobs: options.Jobs = None,
    compilation: options.Compile = None,
    drop_column: options.DropColumn = None,
    skip_bad_rows: options.SkipBadRows = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no report.")] = False,
) -> None:
    """Learn from a table of experiments.

    Writes a run folder, from which the other commands work. Ctrl-C loses nothing: go on with --resume.

    Examples:
      pyro-hcvae fit 211210-DRM-total.csv --out runs/drm

      pyro-hcvae fit ours.xlsx --schema ours.toml --out runs/ours --drop-column Ag

      pyro-hcvae fit --resume runs/drm
    """
    if resume is not None:
        free = {"context", "resume", "device", "json", "quiet"}
        sources = {name: context.get_parameter_source(name) for name in context.params if name not in free}
        given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        written = {"table": "TABLE", "compilation": "--compile"}
        if extra := [written.get(name, f"--{name.replace('_', '-')}") for name in given]:
            raise InputError(f"--resume goes on with the settings of the run: leave out {', '.join(extra)}")
        run = resume
    elif table is None or out is None:
        raise InputError("name a TABLE and a run folder with --out, or go on with a run by --resume RUN")
    else:
        run = out
    quiet = quiet or json
    overrides = {"members": members, "steps": steps, "seed": seed, "jobs": jobs, "compile": compilation}
    settings = None if resume is not None else run_config(config, overrides)
    if settings is not None and unseen is not None:
        settings = settings.model_copy(update={"train": settings.train.for_unseen(unseen)})
        if kept := _kept(settings.train, unseen):
            typer.echo(f"--unseen {unseen}: set otherwise, and left so: {', '.join(kept)}", err=True)

    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.designer import RecipeDesigner

    try:
        with training_progress(quiet=quiet) as on_interval:
            if settings is None:
                designer = RecipeDesigner.resume(run, on_interval=on_interval, device=device)
            else:
                data = RecipeTable.read(
                    table or "",
                    RecipeSchema.load(schema),
                    options=options.read_options(decimal, thousands, encoding, sheet),
                    drop_columns=drop_column or (),
                    skip_bad_rows=skip_bad_rows,
                )
                if not quiet:
                    typer.echo(data.report.to_text(), err=True)
                designer = RecipeDesigner(data.schema, model=settings.model, train=settings.train)
                designer.fit(data, out=run, on_interval=on_interval, device=device)
    except KeyboardInterrupt:
        begun = (run / "config.toml").is_file()
        hint = f"Go on with: pyro-hcvae fit --resume {run}" if begun else "Nothing was written."
        typer.echo(f"Stopped. {hint}", err=True)
        raise typer.Exit(130) from None
    summary = _summary(designer, run)
    if json:
        options.print_json(summary)
    else:
        typer.echo(
            f"{summary['members']} members, {summary['steps']} steps, best validation "
            f"{summary['validation_nats_per_recipe']:.2f} nats per recipe"
        )
        typer.echo(f"Run folder: {run}")


def _kept(chosen: TrainConfig, unseen: options.Unseen) -> list[str]:
    """Settings that serve what is unseen, but that were chosen otherwise."""
    usual = type(chosen)()
    wanted = usual.for_unseen(unseen)
    serve = [name for name in type(chosen).model_fields if getattr(wanted, name) != getattr(usual, name)]
    return [name for name in serve if getattr(chosen, name) != getattr(wanted, name)]


def run_config(path: Path | None, overrides: Mapping[str, int | str | None]) -> RunConfig:
    """Settings from a file, with those of the command line on top.

    Raises:
        InputError: If the file cannot be read or a setting is wrong.
    """
    import tomllib

    from pydantic import ValidationError

    from pyro_hcvae.data.schema import describe
    from pyro_hcvae.inference.config import RunConfig

    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"--config {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"--config {path}: not a TOML file: {error}") from None
    train = data.setdefault("train", {})
    if isinstance(train, dict):
        train |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise InputError(f"settings{f' of {path}' if path else ''}: {describe(error)}") from None


def _summary(designer: RecipeDesigner, run: Path) -> dict[str, Any]:
    history = designer.history
    best = history.groupby("member")["validation_loss"].min()
    return {
        "run": str(run),
        "members": len(best),
        "steps": int(history["step"].max()),
        "validation_nats_per_recipe": float(best.mean()),
        "rows": len(designer.table),
        "recipes": int(designer.table.recipe_ids().max() + 1),
        "engine": designer.engine,
    }
