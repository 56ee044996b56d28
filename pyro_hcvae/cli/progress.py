"""Progress of long work, with the time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    import pandas as pd

    from pyro_hcvae.inference.engine import Trainer

_LINES = 10
"""Lines of progress where no terminal can redraw a bar."""


@contextmanager
def training_progress(*, quiet: bool) -> Iterator[Callable[[Trainer], None]]:
    """Show training on stderr: a bar on a terminal, a few lines elsewhere, nothing if ``quiet``."""
    from pyro_hcvae.model.scopes import keep_freed_memory

    keep_freed_memory()  # this process is ours, and is about to train
    console = Console(stderr=True)
    if quiet:
        yield lambda trainer: None
        return
    if not console.is_terminal:
        with messages(console):
            yield _report_line
        return
    with _bar("training", console) as progress, messages(console):
        task, anew = progress.add_task("", total=None), [False]

        def show(trainer: Trainer) -> None:
            if trainer.refitting != anew[0]:  # another count begins
                anew[0] = trainer.refitting
                progress.reset(task)
            progress.update(task, total=_all_steps(trainer), completed=_steps(trainer), description=_describe(trainer))

        yield show


@contextmanager
def counting_progress(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Count pieces of work on stderr: a bar on a terminal, a line each elsewhere, nothing if ``quiet``.

    Yields:
        To be called after each piece, with what came out of it in words.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda result: None
        return
    if not console.is_terminal:
        yield lambda result: typer.echo(result, err=True)
        return
    with _bar(what, console) as progress:
        task = progress.add_task("", total=total)
        yield lambda result: progress.update(task, advance=1, description=result)


@contextmanager
def work_progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Show on stderr how much of a long work is done, with the time left: a bar on a terminal, some lines elsewhere.

    Yields:
        To be called at the start and after each piece, with the pieces done (also before this start), their total, and words.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda done, of, words: None
        return
    if not console.is_terminal:
        yield _report_work()
        return
    with _bar(what, console) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, of, words: progress.update(task, total=of, completed=done, description=words)


def _report_work() -> Callable[[int, int, str], None]:
    start: list[tuple[int, float]] = []

    def report(done: int, of: int, words: str) -> None:
        if not start:
            start.append((done, time.monotonic()))
        here, seconds = done - start[0][0], time.monotonic() - start[0][1]
        if done % max(1, of // (2 * _LINES)) and done < of:
            return
        left = f", {_duration(seconds / here * (of - done))} left" if here and done < of else ""
        typer.echo(f"{done} of {of}: {words}{left}", err=True)

    return report


def _duration(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"


@contextmanager
def study_progress(
    *, quiet: bool
) -> Iterator[tuple[Callable[[str, int, int, int], None], Callable[[pd.DataFrame], None]]]:
    """Show a study on stderr: a bar for the training at hand on a terminal, some lines elsewhere, nothing if ``quiet``.

    Yields:
        To be called as training goes on, and with the scores of each model.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda key, done, planned, going: None, lambda scores: None
        return

    def scored(scores: pd.DataFrame) -> None:
        first, mean = scores.iloc[0], scores.mean(numeric_only=True)
        about = f"split by {first['split']}: {first['model']}, gate {first['gate']}, KL {first['kl_weights']}"
        console.print(f"{about}: R2 metals {mean['R2 metals']:.4f}", soft_wrap=True, highlight=False)

    if not console.is_terminal:
        shown: dict[str, int] = {}

        def line(key: str, done: int, planned: int, going: int) -> None:
            part = done * _LINES // planned
            if part > shown.get(key, 0) or not going:
                shown[key] = part
                typer.echo(f"{key}: {done} of {planned}, {going} repeats going on", err=True)

        with messages(console):
            yield line, scored
        return
    with _bar("{task.fields[key]}", console) as progress, messages(console):
        task = progress.add_task("", total=None, key="")
        current = [""]

        def bar(key: str, done: int, planned: int, going: int) -> None:
            if key != current[0]:
                current[0] = key
                progress.reset(task, total=planned, key=key)
            progress.update(task, completed=done, description=f"{going} repeats going on")

        yield bar, scored


def _bar(what: str, console: Console) -> Progress:
    """A bar with the count, words, the time gone and the time left."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def messages(console: Console) -> Iterator[None]:
    """Show what the library says about its work: how it trains, that it is compiling, and why it is not."""
    handler = logging.Handler()
    handler.emit = lambda record: console.print(record.getMessage(), soft_wrap=True, highlight=False, markup=False)  # type: ignore[method-assign]
    logger = logging.getLogger("pyro_hcvae")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _all_steps(trainer: Trainer) -> int:
    return min(trainer.intervals * trainer.config.interval, trainer.config.steps)


def _steps(trainer: Trainer) -> int:
    return min(trainer.state.interval * trainer.config.interval, _all_steps(trainer))


def _describe(trainer: Trainer) -> str:
    best = trainer.state.best_loss.mean().item()
    what = "anew on all rows" if trainer.refitting else f"validation {best:.2f} nats/recipe"
    going = trainer.config.members - int(trainer.stopped.sum())
    return f"{what}, {going} of {trainer.config.members} members going on"


def _report_line(trainer: Trainer) -> None:
    every = max(1, trainer.intervals // _LINES)
    if trainer.state.interval % every == 0 or trainer.finished:
        typer.echo(f"step {_steps(trainer)} of {_all_steps(trainer)}: {_describe(trainer)}", err=True)
