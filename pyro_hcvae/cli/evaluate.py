"""`pyro-hcvae evaluate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

Grouping = Literal["recipe", "composition", "laboratory", "leaking-rows"]
Part = Literal["all", "development", "reserve"]
OURS, GUIDED, BORROWING, BOTH = "hcvae", "hcvae-guided", "hcvae-borrowing", "hcvae-both"
GUIDANCE, BORROWED = 4, 0.5
"""Draws among which the predictor chooses one; share of draws that borrow their structure."""
WAYS: dict[str, dict[str, Any]] = {
    OURS: {},
    GUIDED: {"guidance": GUIDANCE},
    BORROWING: {"borrowed": BORROWED},
    BOTH: {"borrowed": BORROWED, "guidance": GUIDANCE},
}
"""Ways to draw from one fit: options of `Designer`."""
HEADLINES = (
    "log p recipe [nats]", "valid", "valid, by row", "keeps the rules", "keeps the rules, by row", "C2ST AUC, jittered",
    "C2ST AUC, structure", "precision", "precision, many draws", "recall", "recall, many draws", "coverage",
    "coverage, many draws", "novel, valid and unique",
)  # fmt: skip


def command(
    table: options.Table,
    schema: options.Schema = "drm",
    by: Annotated[
        Grouping, typer.Option("--by", help="What no split cuts in two; leaking-rows cuts recipes.")
    ] = "recipe",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds of each seed.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Repetitions with other folds and initial values.")] = 1,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="Number of the first repetition.")] = 0,
    part: Annotated[
        Part, typer.Option("--part", help="Held-out recipes that are scored: choose on development, report on reserve.")
    ] = "all",
    densities: Annotated[
        bool, typer.Option("--densities", help="Only what the model says of held-out recipes; nothing is drawn.")
    ] = False,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            help="What is scored: hcvae (the default), a baseline, or all; may be repeated. An unknown name lists them.",
        ),
    ] = None,
    repaired: Annotated[
        bool,
        typer.Option("--repaired", help="Score the draws of baselines a second time, with what breaks them mended."),
    ] = False,
    draws: Annotated[int, typer.Option("--draws", min=2, help="Draws for each held-out recipe.")] = 20,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with tables 'model' and 'train'.", show_default=False)
    ] = None,
    members: Annotated[int | None, typer.Option("--members", min=1, help="Replicates trained at once [5].")] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Longest training, in minibatches (default: 3000, by laboratory 2000)."),
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
    """Measure the model, and others beside it, on recipes, compositions or laboratories that they have not seen.

    Densities are importance-weighted (K = 256), in nats per recipe, of standardised numbers; everything else is scored on
    unfiltered draws. What the scores mean stands in the documentation, under Evaluation.

    Examples:
      pyro-hcvae evaluate 211210-DRM-total.csv --by recipe --folds 5

      pyro-hcvae evaluate 211210-DRM-total.csv --by composition --generator hcvae --generator cart

      pyro-hcvae evaluate ours.xlsx --schema ours.toml --by laboratory --json
    """
    import pandas as pd

    from pyro_hcvae.cli.fit import run_config
    from pyro_hcvae.cli.progress import training_progress
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.evaluation.baselines import choose
    from pyro_hcvae.evaluation.cross_validation import cross_validate, summarise
    from pyro_hcvae.evaluation.generators import Designer, Fits

    names = generator or [OURS]
    if densities and (repaired or names != [OURS]):
        raise InputError("--densities: only hcvae has a density; leave out --generator and --repaired")
    if out is not None:
        options.check_out(out, table, force=force)
    settings = run_config(config, {"members": members, "steps": steps, "jobs": jobs, "compile": compilation})
    if by != "leaking-rows":
        settings = settings.model_copy(update={"train": settings.train.for_unseen(by)})
    data = RecipeTable.read(
        table,
        RecipeSchema.load(schema),
        options=options.read_options(decimal, thousands, encoding, sheet),
        drop_columns=drop_column or (),
        skip_bad_rows=skip_bad_rows,
    )
    rows = []
    with training_progress(quiet=True) as on_interval:
        ours = partial(Designer, Fits(settings, on_interval=on_interval, device=device))
        for scores in cross_validate(
            data,
            choose(names, {name: partial(ours, **how, name=name) for name, how in WAYS.items()}),
            by=by,
            folds_count=folds,
            seeds=range(first_seed, first_seed + seeds),
            part=part,
            draws_per_row=0 if densities else draws,
            repaired=repaired,
        ):
            rows.append({"by": by, "part": part, **scores})
            if not json:
                shown = ", ".join(f"{name} {scores[name]:.3f}" for name in HEADLINES if name in scores)
                typer.echo(f"seed {scores['seed']}, fold {scores['fold']}, {scores['generator']}: {shown}", err=True)
            if out is not None:
                options.write_csv(pd.DataFrame(rows), out)
    summary = summarise(pd.DataFrame(rows))
    if json:
        by_generator = {name: group.droplevel(0).to_dict("index") for name, group in summary.groupby(level=0)}
        options.print_json(
            {"by": by, "part": part, "folds": folds, "seeds": seeds, "summary": by_generator, "scores": rows}
        )
        return
    label = " (LEAKING: rows of one recipe on both sides)" if by == "leaking-rows" else ""
    scored = "" if part == "all" else f", part {part}"
    typer.echo(f"{table}: split by {by}{label}{scored}, {folds} folds x {seeds} seeds, mean +- sd")
    for name, group in summary.groupby(level=0, sort=False):
        typer.echo(f"{name}")
        for score, row in group.droplevel(0).iterrows():
            typer.echo(f"  {score!s:58} {row['mean']:9.3f} +- {row['sd']:.3f}")
