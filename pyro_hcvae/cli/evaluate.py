"""`pyro-hcvae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pyro_hcvae.cli import options

Grouping = Literal["recipe", "composition", "laboratory", "leaking-rows"]


def command(
    table: options.Table,
    schema: options.Schema = "drm",
    by: Annotated[
        Grouping, typer.Option("--by", help="What no split cuts in two; leaking-rows cuts recipes.")
    ] = "recipe",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds of each seed.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Repetitions with other folds and initial values.")] = 1,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with tables 'model' and 'train'.", show_default=False)
    ] = None,
    members: Annotated[int | None, typer.Option("--members", min=1, help="Replicates trained at once [5].")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Longest training, in minibatches [4000].")
    ] = None,
    jobs: options.Jobs = None,
    compilation: options.Compile = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the scores of every fold.")] = None,
    drop_column: options.DropColumn = None,
    skip_bad_rows: options.SkipBadRows = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
    device: options.Device = "auto",
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Measure the model on recipes, compositions or laboratories that it has not seen.

    Densities are importance-weighted (K = 256), in nats per recipe, of standardised numbers; validity is of unfiltered draws.

    Examples:
      pyro-hcvae evaluate 211210-DRM-total.csv --by recipe --folds 5

      pyro-hcvae evaluate ours.xlsx --schema ours.toml --by laboratory --json
    """
    import pandas as pd

    from pyro_hcvae.cli.fit import run_config
    from pyro_hcvae.cli.progress import training_progress
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.evaluation.cross_validation import cross_validate, summarise

    if out is not None:
        options.check_out(out, table, force=force)
    settings = run_config(config, {"members": members, "steps": steps, "jobs": jobs, "compile": compilation})
    data = RecipeTable.read(
        table,
        RecipeSchema.load(schema),
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    rows = []
    with training_progress(quiet=True) as on_interval:
        for scores in cross_validate(
            data, settings, by=by, folds_count=folds, seeds=range(seeds), on_interval=on_interval, device=device
        ):
            rows.append(scores)
            if not json:
                done = f"fold {len(rows)} of {folds * seeds}"
                typer.echo(f"{done}: {scores['log p recipe [nats]']:.2f} nats per recipe", err=True)
            if out is not None:
                options.write_csv(pd.DataFrame(rows), out)
    frame = pd.DataFrame(rows)
    summary = summarise(frame)
    if json:
        options.print_json(
            {"by": by, "folds": folds, "seeds": seeds, "summary": summary.to_dict("index"), "scores": rows}
        )
        return
    label = " (LEAKING: rows of one recipe on both sides)" if by == "leaking-rows" else ""
    typer.echo(f"{table}: split by {by}{label}, {folds} folds x {seeds} seeds, mean +- sd")
    for name, row in summary.iterrows():
        typer.echo(f"  {name!s:44} {row['mean']:9.3f} +- {row['sd']:.3f}")
