"""Mass screening to a Parquet file: pieces kept on disk as they come, put together at the end, in memory that does not grow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_hcvae.data.columns import row_hashes
from pyro_hcvae.data.schema import Category, RecipeSchema
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.checkpoints import replacing, write_atomically
from pyro_hcvae.posterior.screening import Screen
from pyro_hcvae.study.engines import Engine, Shared
from pyro_hcvae.study.folder import kept_settings, working_alone

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = "settings.json"
METADATA = b"pyro_hcvae"
"""Key of the settings and counts in the metadata of the file's Arrow schema, as JSON."""
_HASH = "hash"


@dataclass(frozen=True)
class Counts:
    """What became of the draws.

    Attributes:
        drawn: Draws made.
        valid: Of these, structurally valid ones.
        novel: Of these, recipes that are neither in the table nor pending.
        allowed: Of these, ones that satisfy the constraints and break no hard rule.
        kept: Rows of the file: of these, distinct recipes with at least the least probability.
    """

    drawn: int = 0
    valid: int = 0
    novel: int = 0
    allowed: int = 0
    kept: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


def screen_to_parquet(
    screen: Screen,
    out: Path,
    engine: Engine | None = None,
    *,
    fresh: bool = False,
    on_piece: Callable[[Counts, int, int], None] = lambda counts, done, of: None,
) -> Counts:
    """Do a screening and write what it kept; called again after an interruption, it goes on with the missing pieces.

    Finished pieces lie in a folder beside the file (``OUT.parts``). Once all are there they are put together in their order,
    without the duplicates, and the file appears in one step. Its rows are the same whatever the engine and the jobs. Of a recipe
    that is kept, 8 bytes stay in memory, by which duplicates are known; everything else is of the size of a piece.

    Args:
        screen: What to do.
        out: Parquet file, written whole or not at all.
        engine: Where the pieces are done; None: one after the other in this process.
        fresh: Whether pieces of another screening that lie there are thrown away.
        on_piece: Called after each piece, and once at the start, with the counts so far (``kept``: before duplicates of other
            pieces are dropped), the number of pieces done, and that of all.

    Raises:
        InputError: If pyarrow is missing, the folder holds pieces of another screening, or another process is at work there.
    """
    require_pyarrow()
    engine, folder = engine or Engine(), out.with_name(f"{out.name}.parts")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder: {error.strerror}") from None
    with working_alone(folder):
        _begin(folder, screen.settings(), fresh=fresh)
        counts, missing = Counts(), []
        for number in range(screen.pieces):
            if (part := _part(folder, number)).is_file():
                counts += _counts_of(part)
            else:
                missing.append(number)
        done = screen.pieces - len(missing)
        on_piece(counts, done, screen.pieces)
        # What is sent to the workers is made only where something is missing.
        for number, data, its_counts in engine.run(_piece, Shared(screen), missing) if missing else ():
            write_atomically(_part(folder, number), data)
            counts, done = counts + its_counts, done + 1
            on_piece(counts, done, screen.pieces)
        counts = _put_together(folder, screen, counts, out)
    shutil.rmtree(folder)
    return counts


def require_pyarrow() -> None:
    """Check that Parquet files can be written.

    Raises:
        InputError: If they cannot.
    """
    if find_spec("pyarrow") is None:
        raise InputError('a screening writes Parquet, which needs pyarrow: pip install "pyro-hcvae[parquet]"')


def _begin(folder: Path, settings: dict[str, Any], *, fresh: bool) -> None:
    file, wanted = folder / SETTINGS, json.dumps(settings, indent=1) + "\n"
    if fresh and file.is_file() and file.read_text(encoding="utf-8") != wanted:
        for stale in folder.glob("*.parquet"):
            stale.unlink()
        file.unlink()
    if not file.is_file():
        if any(folder.glob("*.parquet")):
            raise InputError(f"{folder} holds files but no screening: choose another --out, or delete the folder")
        write_atomically(file, wanted.encode())
        return
    remedy = "choose another --out, or throw it away with --force"
    kept_settings(file, json.loads(wanted), "an unfinished screening", remedy=remedy)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"


def _piece(screen: Screen, number: int) -> tuple[int, bytes, Counts]:
    """In a worker: one piece as a Parquet file with the hash of each recipe, so that little travels."""
    import pyarrow as pa
    from pyarrow import parquet

    done, schema = screen.piece(number), screen.asked.codec.schema
    counts = Counts(done.drawn, done.valid, done.novel, done.allowed, len(done.frame))
    columns = _arrow_schema(done.frame, schema).with_metadata(_metadata(asdict(counts)))
    table = pa.Table.from_pandas(done.frame, columns, preserve_index=False, safe=True)
    hashes = pa.array(row_hashes(done.frame, list(schema.recipe_columns)), pa.uint64())
    file = BytesIO()
    parquet.write_table(table.replace_schema_metadata(columns.metadata).append_column(_HASH, hashes), file)
    return number, file.getvalue(), counts


def _arrow_schema(frame: pd.DataFrame, schema: RecipeSchema) -> Any:
    """Float columns, and codes as what they are: the same for every piece, also for one without rows."""
    import pyarrow as pa

    codes = {block.column: block.codes for block in schema.blocks if isinstance(block, Category)}

    def kind(name: str) -> Any:
        if name not in codes:
            return pa.float64()
        return pa.int64() if all(isinstance(code, int) for code in codes[name]) else pa.string()

    return pa.schema([(name, kind(name)) for name in frame.columns])


def _metadata(content: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {METADATA: json.dumps(content).encode()}


def _counts_of(part: Path) -> Counts:
    from pyarrow import parquet

    return Counts(**json.loads(parquet.read_schema(part).metadata[METADATA]))


def _put_together(folder: Path, screen: Screen, counts: Counts, out: Path) -> Counts:
    """Write the rows of all pieces in order, one row group a piece, without recipes that stand in an earlier one."""
    from pyarrow import parquet

    columns = parquet.read_schema(_part(folder, 0))
    columns = columns.remove(columns.get_field_index(_HASH))
    seen, kept = np.empty(0, dtype=np.uint64), 0
    with replacing(out) as file, parquet.ParquetWriter(file, columns.remove_metadata()) as writer:
        for number in range(screen.pieces):
            table = parquet.read_table(_part(folder, number))
            new, seen = _unseen(table[_HASH].to_numpy(), seen)
            table = table.filter(new).drop_columns([_HASH]).replace_schema_metadata(None)
            kept += len(table)
            if len(table):
                writer.write_table(table)
        counts = Counts(**{**asdict(counts), "kept": kept})
        writer.add_key_value_metadata(_metadata({**screen.settings(), **asdict(counts)}))
    return counts


def _unseen(hashes: NDArray[np.uint64], seen: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    """Which of distinct hashes are not among the sorted ones, and these with the new ones sorted in."""
    place = np.searchsorted(seen, hashes)
    new = np.ones(len(hashes), dtype=bool)
    inside = place < len(seen)
    new[inside] = seen[place[inside]] != hashes[inside]
    fresh = np.sort(hashes[new])
    return new, np.insert(seen, np.searchsorted(seen, fresh), fresh)
