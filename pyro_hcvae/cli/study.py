"""`pyro-hcvae study`: what the package is good for, measured where the truth is known."""

from __future__ import annotations

import json as texts
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_hcvae.cli import options, study_paper
from pyro_hcvae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pyro_hcvae.study.engines import Engine

_RECIPES, _ROWS = 40, 3
"""Size of the table that a loop starts from."""
ROUNDS, SETTINGS = "rounds.csv", "settings.json"

app = typer.Typer(
    help="Measure what the package is good for: beside a published study, and on a simulated laboratory.",
    no_args_is_help=True,
)


@app.callback()
def _study() -> None:
    pass


app.command("paper")(study_paper.command)


@app.command("loop")
def loop(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; an interrupted study goes on there.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            help="Who proposes: hcvae, hcvae-botorch, botorch, nearest or random; may be repeated. Default: all installed.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of proposing and measuring.")] = 10,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Recipes measured in a round.")] = 8,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Repetitions, each with a start table of its own.")] = 5,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="Number of the first repetition.")] = 0,
    members: Annotated[int | None, typer.Option("--members", min=1, help="Of the model of hcvae [3].")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Of each fit of hcvae [200].")] = None,
    engine: options.EngineKind = "local",
    address: options.Address = None,
    jobs: options.Pieces = None,
    json: options.Json = False,
) -> None:
    """Close the loop: propose, measure, learn, propose again, on the SIMULATED laboratory, with several strategies.

    All strategies start from the same small table, may propose the same recipes, and measure equally often. Every loop is
    written to rounds.csv as it ends: the same command goes on with what is missing there. A strategy can be added later.

    Examples:
      pyro-hcvae study loop --out loop

      pyro-hcvae study loop --strategy hcvae --strategy botorch --rounds 10 --batch 8 --seeds 5 --out loop

      pyro-hcvae study loop --strategy random --rounds 2 --seeds 1 --out quick --json
    """
    from pyro_hcvae.study import strategies
    from pyro_hcvae.study.bayesian import BayesianOptimiser
    from pyro_hcvae.study.engines import Engine

    where = Engine(engine, address, jobs)  # type: ignore[arg-type]  # it checks the name itself
    given = {name: value for name, value in (("members", members), ("steps", steps)) if value is not None}
    ours = strategies.Proposer(**given)
    own: dict[str, Callable[[], strategies.Strategy]] = {
        "hcvae": lambda: ours,
        "hcvae-botorch": lambda: BayesianOptimiser(source=ours.draw),
    }
    chosen = strategies.choose(strategy or (), own)
    if not strategy and not strategies.botorch_installed():
        left_out = ", ".join(strategies.NEED_BOTORCH)
        typer.echo(f'Left out: {left_out}; they need BoTorch (pip install "pyro-hcvae[study]")', err=True)
    settings = {
        "simulated": True, "rounds": rounds, "batch": batch, "recipes": _RECIPES, "rows_per_recipe": _ROWS,
        "hcvae": {"members": ours.members, "steps": ours.steps},
    }  # fmt: skip
    settings, table = _begin(out, settings)

    from pyro_hcvae.study.folder import working_alone

    with working_alone(out):
        frame = _run(chosen, range(first_seed, first_seed + seeds), settings, table, out / ROUNDS, where, quiet=json)
    _show(frame, settings, out, json=json)


def _begin(out: Path, wanted: dict[str, Any]) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Settings with the optimum, and the rounds that are there already; makes the folder.

    Raises:
        InputError: If the folder holds another study, or something else.
    """
    from pyro_hcvae.inference.checkpoints import write_atomically

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: name a folder")
    file = out / SETTINGS
    if file.is_file():
        return _resume(out, wanted)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out} is not empty and holds no study: choose another folder")

    from pyro_hcvae.study.simulated import CONDITIONS, simulated_optimum

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot make this folder: {error.strerror}") from None
    typer.echo("Estimating the optimum ...", err=True)
    settings = wanted | {"conditions": dict(CONDITIONS), "optimum_estimate": simulated_optimum()}
    write_atomically(file, (texts.dumps(settings, indent=1) + "\n").encode())
    return settings, None


def _resume(out: Path, wanted: dict[str, Any]) -> tuple[dict[str, Any], pd.DataFrame | None]:
    import pandas as pd

    from pyro_hcvae.study.folder import kept_settings
    from pyro_hcvae.study.loop import COLUMNS

    settings = kept_settings(out / SETTINGS, wanted, "a study")
    try:
        if "optimum_estimate" not in settings:
            raise ValueError
        table = pd.read_csv(out / ROUNDS) if (out / ROUNDS).is_file() else None
        if table is not None and not {"strategy", "seed", *COLUMNS} <= set(table.columns):
            raise ValueError
    except ValueError:
        raise InputError(f"--out {out}: {SETTINGS} or {ROUNDS} is damaged: choose another folder") from None
    return settings, table


def _run(
    chosen: dict[str, Any],
    seeds: range,
    settings: dict[str, Any],
    done: pd.DataFrame | None,
    path: Path,
    engine: Engine,
    *,
    quiet: bool,
) -> pd.DataFrame:
    """Loops of the pairs of strategy and seed that are not there yet, written as they end; seed by seed, to compare early."""
    import pandas as pd

    from pyro_hcvae.cli.progress import counting_progress
    from pyro_hcvae.model.scopes import keep_freed_memory
    from pyro_hcvae.study.engines import Shared
    from pyro_hcvae.study.simulated import SimulatedLoops

    keep_freed_memory()
    last = settings["rounds"]
    finished: set[tuple[str, int]] = set()
    rows: list[dict[Any, Any]] = []
    if done is not None:
        finished = set(done.loc[done["round"] == last, ["strategy", "seed"]].itertuples(index=False, name=None))
        rows = [row for row in done.to_dict("records") if (row["strategy"], row["seed"]) in finished]
    todo = [(name, seed) for seed in seeds for name in chosen if (name, seed) not in finished]
    loops = SimulatedLoops(
        chosen, settings["recipes"], settings["rows_per_recipe"], last, settings["batch"], settings["optimum_estimate"]
    )
    with counting_progress("rounds", len(todo) * (last + 1), quiet=quiet) as ended:
        for records in engine.run(SimulatedLoops.run, Shared(loops), todo):
            rows += records
            options.write_csv(pd.DataFrame(rows).round(4), path)
            for record in records:
                ended(
                    f"{record['strategy']}, seed {record['seed']}, round {record['round']:.0f}: best true "
                    f"{record['best true']:.1f}, regret {record['regret']:.1f}"
                )
    return pd.DataFrame(rows).round(4)


def _show(frame: pd.DataFrame, settings: dict[str, Any], out: Path, *, json: bool) -> None:
    from pyro_hcvae.data.virtual_lab import TITLE
    from pyro_hcvae.study.loop import summarise

    summary = summarise(frame)
    if json:
        options.print_json(
            {
                "title": TITLE,
                "rounds": out / ROUNDS,
                "settings": settings,
                "summary": summary.to_dict("index"),
                "records": options.records(frame),
            }
        )
        return
    typer.echo(
        f"{TITLE}\nBest true conversion in % after {settings['rounds']} rounds of {settings['batch']}, mean +- sd"
    )
    typer.echo(f"over seeds; the best that a long search in the truth found is {settings['optimum_estimate']:.1f}")
    for name, row in summary.iterrows():
        typer.echo(
            f"  {name!s:13} {row['best true']:5.1f} +- {row['best true, sd']:4.1f}, regret {row['regret']:5.1f} "
            f"(mean of all rounds {row['regret, mean of all rounds']:5.1f}), valid {100 * row['valid']:3.0f} %, "
            f"{row['cpu_s a round']:5.1f} s of CPU a round"
        )
    typer.echo(f"All rounds: {out / ROUNDS}")
