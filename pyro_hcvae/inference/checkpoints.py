"""`RunFolder`: what a run leaves on disk. Text and safetensors only, every file written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import tomli_w
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.columns import CHUNK_ROWS, Columns, row_chunks
from pyro_hcvae.data.report import ImportReport
from pyro_hcvae.data.schema import Category, RecipeSchema, describe
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.config import RunConfig
from pyro_hcvae.inference.engine import TrainState

_ROW = "file row"
_BEGUN = ".begun"
_FORMAT = "pyro-hcvae 3"
"""Changes with the meaning of the tensors: those of another format have the same shapes, and would be read as nonsense."""
_REFIT = f"{_FORMAT}, trained anew on all rows"
"""Of weights beside which others lie. Not an entry of its own: safetensors writes several in any order, and bits would differ."""


class RunFolder:
    """Files of one run.

    ``config.toml`` settings; ``schema.toml``, ``codec.json`` meaning and scales of the columns; ``experiments.csv`` the rows that
    the run was fitted on; ``environment.json`` versions, data hash and command; ``history.csv`` one line a member and
    interval; ``checkpoint.safetensors`` the training state; ``stopped.safetensors`` the members as they stopped early, if they
    were trained anew on all rows; ``weights.safetensors`` the trained members (its presence says that the run is finished).

    Args:
        path: The folder. It need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.toml").is_file()

    @property
    def finished(self) -> bool:
        """Whether trained weights are here."""
        return (self.path / "weights.safetensors").is_file()

    def require(self, *, finished: bool) -> None:
        """Check that the folder holds a run.

        Raises:
            InputError: If it does not, or if the run is unfinished and must be finished.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such run folder. Make one with: pyro-hcvae fit TABLE --out {self.path}")
        if not self.started:
            raise InputError(f"{self.path} is not a run folder: it has no config.toml")
        if finished and not self.finished:
            raise InputError(f"{self.path}: training is not finished. Go on with: pyro-hcvae fit --resume {self.path}")

    def begin(self, table: RecipeTable, codec: RecipeCodec, config: RunConfig) -> None:
        """Write everything that is fixed before training.

        Raises:
            InputError: If the folder holds a run already, or cannot be written.
        """
        if self.started:
            raise InputError(
                f"{self.path} holds a run already. Choose another --out, or go on with: pyro-hcvae fit --resume {self.path}"
            )
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / _BEGUN).exists():
            raise InputError(f"{self.path} is a folder with other files in it: choose a new --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot make this folder: {error.strerror}") from None
        self._text(_BEGUN, "")  # a process that is killed before the end of this method may begin again
        self._text("schema.toml", table.schema.to_toml())
        self._text("codec.json", codec.to_json())
        digest = hashlib.sha256()
        with replacing(self.path / "experiments.csv") as file:
            for part in experiments_csv(table):
                file.write(part)
                digest.update(part)
        self._text("import_report.txt", table.report.to_text() + "\n")
        self._text("environment.json", json.dumps(_environment(table, digest.hexdigest()), indent=1) + "\n")
        # Last: from here on the folder counts as a run.
        self._text("config.toml", tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
        (self.path / _BEGUN).unlink()

    def read(self) -> tuple[RecipeTable, RecipeCodec, RunConfig]:
        """Read what `begin` wrote.

        Raises:
            InputError: If a file is missing or damaged.
        """
        schema = RecipeSchema.from_toml(self._read("schema.toml"), source=str(self.path / "schema.toml"))
        with self._whole("codec.json"):
            codec = RecipeCodec.from_json(schema, self._read("codec.json"))
        try:
            config = RunConfig.model_validate(tomllib.loads(self._read("config.toml")))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{self.path / 'config.toml'}: not a TOML file: {error}") from None
        except ValidationError as error:
            raise InputError(f"{self.path / 'config.toml'}: {describe(error)}") from None
        with self._whole("experiments.csv"):
            table = self._experiments(schema)
        return table, codec, config

    def save_state(self, state: TrainState) -> None:
        """Write a checkpoint and the history up to it."""
        # History first: a checkpoint never refers to lines that are not there; surplus lines are cut on reading.
        self.save_history(pd.DataFrame(state.history))
        tensors = {name: getattr(state, name).detach().cpu().contiguous() for name in TrainState.TENSORS}
        self._tensors("checkpoint.safetensors", tensors, {"interval": str(state.interval)})

    def save_history(self, history: pd.DataFrame) -> None:
        """Write the training history, one line a member and interval."""
        self._text("history.csv", history.to_csv(index=False, lineterminator="\n"))

    def load_history(self) -> pd.DataFrame:
        """Training history as it was recorded."""
        with self._whole("history.csv"):
            frame = pd.read_csv(StringIO(self._read("history.csv")), dtype=str).astype(float)
            return frame.astype(dict.fromkeys(("step", "member", "best", "waited"), np.int64))

    def load_state(self) -> TrainState | None:
        """Last checkpoint; None if training had not come to its first."""
        if not (self.path / "checkpoint.safetensors").is_file():
            return None
        tensors, metadata = self._load_tensors("checkpoint.safetensors")
        if set(tensors) != set(TrainState.TENSORS):
            raise InputError(
                f"{self.path / 'checkpoint.safetensors'} was written by another version, which trained otherwise: fit again, "
                f"from experiments.csv beside it if need be"
            )
        history = self.load_history()
        interval, members = int(metadata["interval"]), len(tensors["best_loss"])
        if not tensors["until"].any():  # training on all rows adds nothing to the history
            history = history.head(interval * members)
        records = history.to_dict("records")
        return TrainState(interval=interval, **tensors, history=records)  # type: ignore[arg-type]

    def save_weights(self, weights: Mapping[str, Tensor], stopped: Mapping[str, Tensor] | None = None) -> None:
        """Write the trained members; the run is finished with that.

        Args:
            weights: Of the members.
            stopped: Of the members as they stopped early; None: they are the same.
        """
        kind = {} if stopped is None else {"format": _REFIT}
        for file, named in (("stopped.safetensors", stopped), ("weights.safetensors", weights)):
            if named is not None:
                self._tensors(file, {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}, kind)
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)
        for name in (_BEGUN, ".*.csv.*", ".*.safetensors.*", ".*.toml.*", ".*.json.*", ".*.txt.*"):
            for stale in self.path.glob(name):  # left by a process that was killed while it wrote
                stale.unlink()

    def load_weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """What `save_weights` wrote, on the CPU wherever the members were trained.

        Raises:
            InputError: If a file is damaged, or if that of the members as they stopped early is missing where they were trained
                anew: without it none is left that has not seen what it set aside.
        """
        weights, metadata = self._load_tensors("weights.safetensors")
        return weights, self._load_tensors("stopped.safetensors")[0] if metadata["format"] == _REFIT else None

    def _experiments(self, schema: RecipeSchema) -> RecipeTable:
        path = self.path / "experiments.csv"
        if not path.is_file():
            raise InputError(f"{self.path} is not a whole run folder: {path.name} is missing")
        codes = {
            block.column: {str(c): c for c in block.codes} for block in schema.blocks if isinstance(block, Category)
        }
        with path.open("rb") as file:
            columns = Columns(schema.columns, codes, capacity=sum(1 for _ in file))
        with pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], chunksize=CHUNK_ROWS) as chunks:
            for chunk in chunks:
                header = tuple(str(name) for name in chunk.columns if name != _ROW)
                # From text by Python's own parser: every number comes back as the very float that was written.
                cells: dict[str, NDArray[Any]] = {
                    name: chunk[name].astype(float).to_numpy() for name in schema.columns if name not in codes
                }
                cells |= {name: chunk[name].map(known).to_numpy(object) for name, known in codes.items()}
                columns.append(np.asarray(chunk[_ROW], dtype=np.int64), cells)
        report = ImportReport(str(path), rows_read=len(columns), rows_kept=len(columns))
        return RecipeTable(schema, columns.frame(), header, report)

    @contextmanager
    def _whole(self, name: str) -> Iterator[None]:
        """Say which file is damaged, whatever the parser stumbled over."""
        try:
            yield
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, pd.errors.ParserError) as error:
            raise InputError(f"{self.path / name} is damaged: {error}") from None

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a whole run folder: {name} is missing") from None

    def _text(self, name: str, text: str) -> None:
        write_atomically(self.path / name, text.encode())

    def _tensors(self, name: str, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
        write_atomically(self.path / name, save_tensors(dict(tensors), {"format": _FORMAT} | metadata))

    def _load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        try:
            with safe_open(self.path / name, framework="pt", device="cpu") as file:
                metadata = dict(file.metadata() or {})
                if metadata.get("format") not in (_FORMAT, _REFIT):
                    raise InputError(
                        f"{self.path / name} was written by another version, whose model was laid out differently: fit again, "
                        f"from experiments.csv beside it if need be"
                    )
                return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a whole run folder: {name} is missing") from None
        except SafetensorError as error:
            raise InputError(f"{self.path / name} is damaged: {error}") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes its place in one step at the end: a crash leaves the old content, never a part.

    Raises:
        InputError: If the place cannot be written.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot write this file: {error.strerror}") from None
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step. Errors as for `replacing`."""
    with replacing(path) as file:
        file.write(data)


def experiments_csv(table: RecipeTable) -> Iterator[bytes]:
    """Canonical rows in the file's own column order, in pieces; columns that are not modelled are left empty."""
    names = [*table.header, *(c for c in table.schema.columns if c not in table.header)]
    for rows in row_chunks(len(table)):
        frame = table.frame.iloc[rows].reindex(columns=names)
        yield frame.to_csv(index_label=_ROW, header=rows.start == 0, lineterminator="\n").encode()


def _environment(table: RecipeTable, data_sha256: str) -> dict[str, Any]:
    packages = ("pyro-hcvae", "pyro-ppl", "torch", "numpy", "pandas", "scikit-learn")
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "table": table.report.source,
        "rows": len(table),
        "data_sha256": data_sha256,
    }
