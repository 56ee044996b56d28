"""`pyro-hcvae demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.errors import InputError

_STEPS, _MEMBERS, _RECIPES = 1500, 3, 300
_WARMUP = 0.8  # in so short a training, an early full weight on the rates would silence the latents


def command(
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run the whole job on a simulated laboratory, in under three minutes.

    Makes a table of SIMULATED experiments, learns from it, proposes ten recipes, and compares what was predicted for them with
    what the simulated laboratory would measure.

    Examples:
      pyro-hcvae demo --out demo
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists and is not an empty folder: choose another")

    from pyro_hcvae.cli import propose
    from pyro_hcvae.cli.progress import training_progress
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.data.virtual_lab import TITLE, VirtualLab
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.inference.config import TrainConfig

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot make this folder: {error.strerror}") from None
    laboratory = VirtualLab()
    source = out / "virtual_laboratory.csv"
    options.write_csv(laboratory.experiments(recipes=_RECIPES, seed=seed), source)
    table = RecipeTable.read(source, RecipeSchema.load("drm"))
    if not json:
        typer.echo(f"{TITLE}\n{table.report.to_text(examples=1)}\n", err=True)
    train = TrainConfig(members=_MEMBERS, steps=_STEPS, beta_warmup=_WARMUP, seed=seed)
    designer = RecipeDesigner(table.schema, train=train)
    with training_progress(quiet=json) as on_interval:
        designer.fit(table, out=out / "run", on_interval=on_interval)
    proposals = designer.propose({"Reaction T": 700, "CO2/CH4": 1}, 80, 10, seed=seed)
    path = out / "run" / "recipes.csv"
    intervals = propose.write(designer, proposals, path)
    true = laboratory.true_conversion(proposals.frame)
    if json:
        options.print_json(
            {
                "title": TITLE,
                "table": source,
                "run": out / "run",
                "recipes": path,
                "intervals": intervals,
                "simulated_true_conversion": true.tolist(),
                "proposals": options.records(proposals.frame),
            }
        )
        return
    propose.show(designer, proposals)
    typer.echo("Conversion that the simulated laboratory would find, in % (best first as ranked):")
    typer.echo("  " + ", ".join(f"{value:.0f}" for value in true))
    typer.echo(
        f"\n{TITLE}\nTable:   {source}\nRun:     {out / 'run'}\nRecipes: {path}\nReport:  pyro-hcvae report {out / 'run'}"
    )
