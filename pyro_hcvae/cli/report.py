"""`pyro-hcvae report`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from pyro_hcvae.cli import options
from pyro_hcvae.cli.progress import counting_progress
from pyro_hcvae.errors import InputError

_NEEDED = ("matplotlib", "jinja2")


def command(
    run: options.Run,
    recipes: Annotated[
        Path | None,
        typer.Option("--recipes", help="File of 'propose'; default: recipes.csv in the run folder, if it is there."),
    ] = None,
    scores: Annotated[
        list[Path] | None, typer.Option("--scores", help="File of 'evaluate --out' to show; may be repeated.")
    ] = None,
    curve: Annotated[Path | None, typer.Option("--curve", help="File of scripts/rate_distortion.py to show.")] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=2, help="Recipes drawn for each recipe that was set aside.")
    ] = 50,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file; default: report.html in the run folder, made anew.")
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write the report of a run: one HTML file that needs no network.

    Data, training, quality, calibration, the proposals with their reasons and uncertainty, and where everything came from. It
    opens in any browser and prints.

    Examples:
      pyro-hcvae report runs/drm

      pyro-hcvae report runs/drm --recipes next.csv --out next.html

      pyro-hcvae report runs/drm --scores scores.csv --curve curve.csv
    """
    for name in _NEEDED:
        if find_spec(name) is None:
            raise InputError(f'the report needs {name}: pip install "pyro-hcvae[plots]"')
    from pyro_hcvae.inference.checkpoints import RunFolder, write_atomically

    folder = RunFolder(run)
    folder.require(finished=True)
    path = run / "report.html" if out is None else out
    given = () if recipes is None else (recipes,)
    options.check_out(path, *given, force=force or out is None, suffix=".html")

    from pyro_hcvae.analysis.report.build import PARTS, build_report
    from pyro_hcvae.analysis.report.proposals import ProposedRecipes
    from pyro_hcvae.cli.propose import intervals_beside

    source = run / "recipes.csv" if recipes is None else recipes
    proposed = None
    if recipes is not None or source.is_file():
        schema = folder.read()[0].schema
        proposed = ProposedRecipes.read(source, intervals_beside(source), schema)
    with counting_progress("report", len(PARTS), quiet=json) as done:
        page = build_report(run, proposed, scores=scores or (), curve=curve, draws=draws, seed=seed, on_part=done)
    write_atomically(path, page.encode())
    if json:
        shown = 0 if proposed is None else len(proposed.frame)
        options.print_json({"report": path, "bytes": path.stat().st_size, "proposals": shown, "seed": seed})
    else:
        typer.echo(f"Report: {path}")
