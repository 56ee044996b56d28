"""`pyro-hcvae study sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.cli.progress import work_progress

if TYPE_CHECKING:
    import pandas as pd

Grouping = Literal["recipe", "composition", "laboratory"]
Pruning = Literal["median", "halving", "no"]
_SHOWN = 10
"""Trials in the printed table."""


def command(
    table: options.Table,
    out: Annotated[Path, typer.Option("--out", help="Folder of the sweep; an interrupted one goes on there.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials in the end, with those already there.")] = 50,
    space: Annotated[
        Path | None, typer.Option("--space", help='TOML file: what is varied, e.g. learning_rate = "1e-4..1e-2:log".')
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="NAME=RANGE", help="The same in one text, e.g. 'hidden=64,64|128,128'; may be repeated."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings that are not varied, as for fit.", show_default=False)
    ] = None,
    members: Annotated[int | None, typer.Option("--members", min=1, help="Replicates of each trial [5].")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Longest training, in minibatches [3000].")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**31, help="Seed of the sweep [0].")] = None,
    compilation: options.Compile = None,
    by: Annotated[Grouping, typer.Option("--by", help="What no split cuts in two.")] = "recipe",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Parts that the table is cut into.")] = 5,
    scored: Annotated[int, typer.Option("--scored", min=1, help="Of these, parts that each trial is scored on.")] = 1,
    together: Annotated[
        int, typer.Option("--together", min=1, help="Trials in one training, if they differ member by member.")
    ] = 1,
    pruning: Annotated[Pruning, typer.Option("--pruning", help="What stops a trial that goes badly.")] = "median",
    engine: options.EngineKind = "local",
    address: options.Address = None,
    jobs: options.Pieces = None,
    schema: options.Schema = "drm",
    drop_column: options.DropColumn = None,
    skip_bad_rows: options.SkipBadRows = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
    json: options.Json = False,
) -> None:
    """Search for settings by the likelihood of held-out recipes.

    Each trial trains on all recipes but one fold, and is scored on the fold's recipes of the development part: the reserve stays
    for the report (evaluate --part reserve). Writes trials.csv, and the best settings as config.toml for fit --config. Ctrl-C
    loses nothing: the same command goes on, and with more --trials it goes further.

    Examples:
      pyro-hcvae study sweep 211210-DRM-total.csv --trials 50 --out sweep

      pyro-hcvae study sweep ours.xlsx --schema ours.toml --vary "learning_rate=1e-4..1e-2:log" --together 4 --out rates

      pyro-hcvae study sweep ours.csv --space space.toml --by composition --engine dask --address tcp://head:8786 --out sweep
    """
    from pyro_hcvae.cli.fit import run_config
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.model.scopes import keep_freed_memory
    from pyro_hcvae.study.engines import Engine
    from pyro_hcvae.study.settings_space import SettingsSpace
    from pyro_hcvae.study.sweep import Sweep, best_trial, require_optuna, trial_table

    require_optuna()
    where = Engine(engine, address, jobs)  # type: ignore[arg-type]  # it checks the name itself
    overrides = {"members": members, "steps": steps, "seed": seed, "compile": compilation}
    settings = run_config(config, overrides)
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"jobs": 1})})
    asked = SettingsSpace.read(settings, vary or (), space)
    data = RecipeTable.read(
        table,
        RecipeSchema.load(schema),
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    if not json:
        options.show_findings(data.report)
    keep_freed_memory()
    sweep = Sweep(data, asked, by=by, folds=folds, scored=scored, together=together, pruning=pruning)
    try:
        with work_progress("trials", quiet=json) as show:

            def tell(study: Any, of: int) -> None:
                frame, best = trial_table(study), best_trial(study)
                ended = 0 if frame.empty else int((frame["state"] != "running").sum())
                show(
                    ended, of, "none complete" if best is None else f"best {best.value:.2f} nats (trial {best.number})"
                )

            study = sweep.run(out, trials, where, on_trial=tell)
    except KeyboardInterrupt:
        typer.echo("Stopped. Finished trials are kept: the same command goes on with the others.", err=True)
        raise typer.Exit(130) from None
    _show(trial_table(study), list(asked.ranges), out, json=json)


def _show(frame: pd.DataFrame, names: list[str], out: Path, *, json: bool) -> None:
    score = "log p recipe [nats]"
    ranked = frame.sort_values(score, ascending=False, na_position="last", kind="stable")
    complete = ranked[ranked["state"] == "complete"]
    states = frame["state"].value_counts().to_dict()
    cost = float(frame["cpu_s"].sum()) if "cpu_s" in frame else 0.0
    config = out / "config.toml" if len(complete) else None
    if json:
        best = options.records(complete.head(1))
        options.print_json(
            {
                "out": out,
                "config": config,
                "states": states,
                "cpu_s": cost,
                "best": best[0] if best else None,
                "trials": options.records(frame),
            }
        )
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=SIMPLE, show_edge=False)
    for column in ("trial", score, *names, "CPU s"):
        shown.add_column(column, justify="right")
    for row in complete.head(_SHOWN).to_dict("records"):
        shown.add_row(
            str(row["number"]), f"{row[score]:.3f}", *(_number(row[name]) for name in names), f"{row['cpu_s']:.0f}"
        )
    Console().print(shown)
    typer.echo(
        f"{', '.join(f'{count} {state}' for state, count in states.items())}; {cost:.0f} s of CPU. "
        f"All trials: {out / 'trials.csv'}"
    )
    if config is not None:
        typer.echo(f"Best settings: pyro-hcvae fit TABLE --config {config} --out RUN")


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
