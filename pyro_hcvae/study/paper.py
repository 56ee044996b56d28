"""`run_study`: the published study in one call, resumable, and its table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.checkpoints import write_atomically
from pyro_hcvae.study.engines import Engine, Shared
from pyro_hcvae.study.folder import kept_settings, working_alone
from pyro_hcvae.study.models import Model, Training, in_order, plan, published_figures
from pyro_hcvae.study.protocol import SPLITS, Repeat, Split, StudyRows, split
from pyro_hcvae.study.scoring import R2, score_model
from pyro_hcvae.study.training import OnProgress, StudyConfig, train

SETTINGS, TABLE, REPEATS = "settings.json", "study.csv", "repeats.csv"
ROW = ["split", "model", "gate", "kl_weights"]
"""Columns that name a row of the table."""


def begin(out: Path, rows: StudyRows, repeats: int, config: StudyConfig) -> dict[str, Any]:
    """Make the study's folder, or check that it holds this study.

    Raises:
        InputError: If it holds another study, or something else, or cannot be made.
    """
    digest = hashlib.sha256(pd.util.hash_pandas_object(rows.table.frame, index=False).to_numpy().tobytes())
    wanted = {
        "repeats": repeats, "epochs": config.epochs, "steps": config.steps, "seed": config.seed,
        "rows": len(rows.table), "metals": len(rows.columns.metals.columns), "table_sha256": digest.hexdigest(),
    }  # fmt: skip
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: name a folder")
    file = out / SETTINGS
    if file.is_file():
        kept_settings(file, wanted, "a study")
        return wanted
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out} is not empty and holds no study: choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot make this folder: {error.strerror}") from None
    write_atomically(file, (json.dumps(wanted, indent=1) + "\n").encode())
    return wanted


def run_study(
    rows: StudyRows,
    out: Path,
    *,
    repeats: int,
    config: StudyConfig,
    splits: Sequence[Split] = SPLITS,
    engine: Engine | None = None,
    on_progress: OnProgress = lambda key, done, planned, going: None,
    on_model: Callable[[pd.DataFrame], None] = lambda scores: None,
) -> pd.DataFrame:
    """Train and score everything that is not there yet.

    Args:
        rows: The table.
        out: Folder made by `begin`.
        repeats: Splits of each kind, each a member of every training.
        config: Settings of the trainings.
        splits: Which splits are made.
        engine: Where trainings are done, several at once; ``out`` must be seen there under the same path. None: here, one after
            the other. The results are the same.
        on_progress: See `train`; with an engine, called as each training ends.
        on_model: Called with the scores of each model, also of those that were there already.

    Returns:
        Scores of every model and repeat.

    Raises:
        InputError: If another process is at work in the folder.
    """
    with working_alone(out):
        for folder in ("runs", "scores"):
            (out / folder).mkdir(exist_ok=True)
        parted = {by: [split(rows.table, by, config.seed + i) for i in range(repeats)] for by in splits}
        work = _Work(rows, parted, config, out.resolve())
        if engine is not None:
            missing = work.missing(plan(splits))
            # What is sent to the workers is made only where something is missing.
            for key in engine.run(_Work.train, Shared(work), missing) if missing else ():
                on_progress(key, 1, 1, 0)
        return _run(work, splits, on_progress, on_model)


@dataclass(frozen=True)
class _Work:
    """What every training needs; a training leaves its weights in the folder, whoever carries it out."""

    rows: StudyRows
    parted: dict[Split, list[Repeat]]
    config: StudyConfig
    out: Path

    def scores(self, by: Split, model: Model) -> Path:
        """Where the scores of a model go."""
        return self.out / "scores" / f"{by}-{model.name}-{model.gate}-{model.weights.replace('/', '-')}.csv"

    def missing(self, planned: Sequence[tuple[Split, Model]]) -> list[Training]:
        """Trainings that a score waits for, in the order of the plan."""
        waiting = [(by, model) for by, model in planned if not self.scores(by, model).is_file()]
        needed = dict.fromkeys(training for by, model in waiting for training in model.trainings(by))
        return [t for t in needed if not (self.out / "runs" / f"{t.key}.safetensors").is_file()]

    def train(self, training: Training) -> str:
        """Carry out one training; the same wherever it is done."""
        train(training, self.rows, self.parted[training.split], self.config, self.out / "runs")
        return training.key


def _run(
    work: _Work, splits: Sequence[Split], on_progress: OnProgress, on_model: Callable[[pd.DataFrame], None]
) -> pd.DataFrame:
    rows, parted, config, out = work.rows, work.parted, work.config, work.out
    networks: dict[Training, Any] = {}

    def trained(training: Training, of: Sequence[Repeat]) -> Any:
        if training not in networks:
            networks[training] = train(training, rows, of, config, out / "runs", on_progress)
        return networks[training]

    parts = []
    for by, model in plan(splits):
        file = work.scores(by, model)
        if not file.is_file():
            members = [trained(training, parted[by]) for training in model.trainings(by)]
            scores = score_model(model, members, by, rows, parted[by], seed=config.seed)
            write_atomically(file, scores.to_csv(index=False, lineterminator="\n").encode())
        parts.append(_read(file))
        on_model(parts[-1])
        write_atomically(out / REPEATS, pd.concat(parts).to_csv(index=False, lineterminator="\n").encode())
    return pd.concat(parts, ignore_index=True)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the repeats of every score, beside what was published.

    Returns:
        One row a split and model, ours last of its split: `ROW`, a column for the mean of each score and one for its standard
        deviation (``..., sd``); ``published`` and ``published, sd`` of R2 of metals, ``published, supports``, on splits of rows
        alone.
    """
    by_row = scores.drop(columns="repeat").groupby(ROW, sort=False)
    mean, deviation = by_row.mean(), by_row.std().add_suffix(", sd")
    table = mean.join(deviation).reset_index()
    table = table.loc[in_order(table)].reset_index(drop=True)
    figures = published_figures().assign(split="row").set_index([*ROW, "part"])
    for part, name in (("metals", "published"), ("supports", "published, supports")):
        of_part = figures.xs(part, level="part")
        keys = pd.MultiIndex.from_frame(table[ROW])
        table[name] = of_part["mean"].reindex(keys).to_numpy()
        if part == "metals":
            table[f"{name}, sd"] = of_part["sd"].reindex(keys).to_numpy()
    return table


def write_table(scores: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Write and return `summarise`."""
    table = summarise(scores)
    write_atomically(out / TABLE, table.round(5).to_csv(index=False, lineterminator="\n").encode())
    return table


def _read(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, dtype={"kl_weights": str}, keep_default_na=False, na_values=[""])
        if not {*ROW, "repeat", R2} <= set(frame.columns):
            raise ValueError
    except ValueError:
        raise InputError(f"{file} is damaged. Remove it; it is then scored again") from None
    return frame
