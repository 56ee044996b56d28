"""`pyro-hcvae study paper`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FIGURE = "study.svg"


def command(
    table: options.Table,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; an interrupted study goes on there.")],
    repeats: Annotated[int, typer.Option("--repeats", min=2, help="Splits of each kind.")] = 20,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Longest training of a published model.")] = 800,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Longest training of ours, in minibatches.")] = 3000,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="row, recipe or composition; may be repeated. Default: all three."),
    ] = None,
    seed: options.Seed = 0,
    compilation: Annotated[
        options.Compilation,
        typer.Option("--compile", help="Whether training steps are compiled: if each pays for it, or not."),
    ] = "auto",
    schema: options.Schema = "drm",
    drop_column: options.DropColumn = None,
    skip_bad_rows: options.SkipBadRows = False,
    decimal: options.Decimal = ".",
    thousands: options.Thousands = None,
    encoding: options.Encoding = "utf-8-sig",
    sheet: options.Sheet = None,
    engine: options.EngineKind = "local",
    address: options.Address = None,
    jobs: options.Pieces = None,
    json: options.Json = False,
) -> None:
    """Repeat the published study of plain conditional VAEs, beside it ask what it did not ask, and our model the same.

    Splits by row are the published protocol: rows of one recipe stand on both sides. Splits by recipe and by composition are
    not. The published score is R2 of reconstructed metals; beside it, recipes are generated from the prior and judged.
    All repeats of an architecture are trained at once, and with --jobs or an --engine several architectures. What is finished is
    kept: after an interruption, the same command goes on.

    Examples:
      pyro-hcvae study paper 211210-DRM-total.csv --repeats 20 --epochs 800 --compile always --out study

      pyro-hcvae study paper 211210-DRM-total.csv --split row --out study --json

      pyro-hcvae study paper table.csv --repeats 2 --epochs 3 --steps 20 --out quick
    """
    from pyro_hcvae.cli.progress import study_progress
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.model.scopes import keep_freed_memory
    from pyro_hcvae.study.engines import Engine
    from pyro_hcvae.study.paper import TABLE, begin, run_study, write_table
    from pyro_hcvae.study.protocol import SPLITS, StudyRows
    from pyro_hcvae.study.protocol import split as part
    from pyro_hcvae.study.training import StudyConfig

    for name in split or ():
        if name not in SPLITS:
            raise InputError(f"--split {name!r}: choose from {', '.join(SPLITS)}")
    data = RecipeTable.read(
        table,
        RecipeSchema.load(schema),
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    where = Engine(engine, address, jobs)  # type: ignore[arg-type]  # it checks the name itself
    rows = StudyRows.of(data)
    splits = [by for by in SPLITS if not split or by in split]
    for by in splits:
        part(data, by, seed)  # too small a table is refused before anything is made
    config = StudyConfig(seed=seed, epochs=epochs, steps=steps, compile=compilation)
    settings = begin(out, rows, repeats, config)
    keep_freed_memory()
    with study_progress(quiet=json) as (on_progress, on_model):
        scores = run_study(
            rows,
            out,
            repeats=repeats,
            config=config,
            splits=splits,
            engine=where if engine != "local" or (jobs or 1) > 1 else None,
            on_progress=on_progress,
            on_model=on_model,
        )
    summary = write_table(scores, out)
    figure = _figure(summary, out / FIGURE)
    if json:
        options.print_json(
            {"table": out / TABLE, "figure": figure, "settings": settings, "summary": options.records(summary)}
        )
        return
    _show(summary)
    typer.echo(f"All scores: {out / TABLE}")
    typer.echo(f"Figure: {figure}" if figure else 'No figure: it needs matplotlib (pip install "pyro-hcvae[plots]")')


def _figure(summary: pd.DataFrame, path: Path) -> Path | None:
    """Draw the figure; None without matplotlib."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        return None
    from pyro_hcvae.study.figure import draw

    draw(summary, path)
    return path


def _show(summary: pd.DataFrame) -> None:
    from pyro_hcvae.study.scoring import GENERATED, R2

    for by, rows in summary.groupby("split", sort=False):
        typer.echo(f"Split by {by}: mean of the repeats +- sd")
        typer.echo(
            f"  {'model':12} {'gate':5} {'KL weights':15} {'R2 metals':>16} {'published':>16} "
            f"{'R2 generated':>13} {'valid':>6} {'rules':>6} {'novel':>6}"
        )
        for _, row in rows.iterrows():
            found = f"{row[R2]:.4f} +- {row[f'{R2}, sd']:.4f}"
            known = "" if row.isna()["published"] else f"{row['published']:.4f}"
            if known and not row.isna()["published, sd"]:
                known += f" +- {row['published, sd']:.4f}"
            typer.echo(
                f"  {row['model']:12} {row['gate']:5} {row['kl_weights']:15} {found:>16} {known:>16} "
                f"{row[GENERATED + R2]:13.2f} {100 * row[GENERATED + 'valid']:5.1f}% "
                f"{100 * row.get(GENERATED + 'keeps the rules', float('nan')):5.1f}% {100 * row[GENERATED + 'novel']:5.1f}%"
            )
