"""Measure how import, encoding and training grow with the table: seconds, and memory beside the size of the table.

For each size a table of the virtual laboratory is written in pieces, as CSV and as Parquet. Each file is then read by a fresh
process that imports it, encodes it and takes some training steps. Shown are, for each:

    import, fit, encode  CPU seconds of the process for `RecipeTable.read`, `RecipeCodec.fit` and `RecipeCodec.encode`
    peak                 growth of the process's largest resident memory until the end of the import, above what it was once
                         everything was loaded and a table of a few rows imported
    ratio                that peak over the float32 table: rows x modelled columns x 4 bytes
    encode ratio         the same until the end of encoding, when table and encoded rows are both there
    step                 CPU milliseconds of a training step of one member, batch 64: the median of some intervals of 100 steps

At the end: the exponent of growth (slope of log seconds over log rows, least squares), and microseconds of import a row (slope of
seconds over rows).

Examples:
    python scripts/benchmark_growth.py
    python scripts/benchmark_growth.py --rows 6e3 6e4 --without-steps --json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer
from pyro_hcvae.inference.streams import TrainingData
from pyro_hcvae.model.config import ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.scopes import computing_scope

ROWS = (6_000, 60_000, 600_000, 6_000_000)
KINDS = ("csv", "parquet")
MIB = 2**20
T = TypeVar("T")
_PIECE = 60_000  # rows of the virtual laboratory that are made at a time
_ROWS_PER_RECIPE = 6
_INTERVALS = 5  # of training steps; the first is not counted
_COLUMNS = {
    "kind": "kind", "table_rows": "rows", "import_cpu_s": "import s", "import_peak_mib": "peak MiB", "import_peak_ratio": "ratio",
    "fit_cpu_s": "fit s", "encode_cpu_s": "encode s", "encode_peak_ratio": "encode ratio", "step_ms": "step ms",
}  # fmt: skip


def write_tables(folder: Path, rows: int) -> None:
    """Write a virtual table as ``table.csv`` and ``table.parquet``, piece by piece."""
    writer = None
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as text:
        for seed, start in enumerate(range(0, rows, _PIECE)):
            recipes = min(_PIECE, rows - start) // _ROWS_PER_RECIPE
            piece = VirtualLab().experiments(recipes, _ROWS_PER_RECIPE, seed=seed)
            piece.attrs = {}
            piece.to_csv(text, index=False, header=start == 0)
            arrow = pa.Table.from_pandas(piece, preserve_index=False)
            writer = writer or parquet.ParquetWriter(folder / "table.parquet", arrow.schema)
            writer.write_table(arrow)
    if writer is not None:
        writer.close()


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux counts the parent's memory too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(path: Path, *, steps: bool) -> dict[str, Any]:
    """Import a table and encode it, in this process, which should be a fresh one."""
    schema = RecipeSchema.load("drm")
    RecipeTable.read(path.parent / f"few{path.suffix}", schema)  # loads what is loaded late
    before = peak_bytes()
    table, import_cpu = timed(lambda: RecipeTable.read(path, schema))
    import_peak = peak_bytes() - before
    recipes = table.recipe_ids()
    weights = 1.0 / np.bincount(recipes)[recipes]
    codec, fit_cpu = timed(lambda: RecipeCodec.fit(schema, table.frame, weights))
    packed, encode_cpu = timed(lambda: codec.encode(table.frame))
    encode_peak = peak_bytes() - before
    float32 = len(table) * len(schema.columns) * 4
    return {
        "kind": path.suffix[1:],
        "table_rows": len(table),
        "columns": len(schema.columns),
        "float32_mib": float32 / MIB,
        "file_mib": path.stat().st_size / MIB,
        "import_cpu_s": import_cpu,
        "import_peak_mib": import_peak / MIB,
        "import_peak_ratio": import_peak / float32,
        "fit_cpu_s": fit_cpu,
        "encode_cpu_s": encode_cpu,
        "encode_peak_ratio": encode_peak / float32,
        "step_ms": step_ms(codec, TrainingData(packed, codec.layout, recipes, recipes)) if steps else None,
    }


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Result of some work, and its CPU seconds."""
    start = time.process_time()
    return work(), time.process_time() - start


# --- Step cost -------------------------------------------------------------------------------------------------------
def step_ms(codec: RecipeCodec, data: TrainingData) -> float:
    """CPU milliseconds of a training step on this table."""
    config = TrainConfig(members=1, batch_size=64, interval=100)
    network = HierarchicalCVAE(codec.schema, len(codec.feature_names), ModelConfig(), seeds=config.seeds)
    trainer = Trainer(network, data, config)
    with computing_scope():
        seconds = [timed(lambda i=i: trainer.run_steps(i))[1] for i in range(_INTERVALS)]
    return 1000 * statistics.median(seconds[1:]) / config.interval


# ---------------------------------------------------------------------------------------------------------------------


def growth(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Slopes for each kind of file that was measured at two sizes or more."""
    slopes = {}
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        if len({row["table_rows"] for row in own}) < 2:
            continue
        sizes, seconds, peaks = (
            np.array([row[name] for row in own], dtype=float)
            for name in ("table_rows", "import_cpu_s", "import_peak_mib")
        )
        slopes[kind] = {
            "import_exponent": float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]),
            "import_us_per_row": float(1e6 * np.polyfit(sizes, seconds, 1)[0]),
            "import_peak_bytes_per_row": float(MIB * np.polyfit(sizes, peaks, 1)[0]),
        }
    return slopes


def line(row: dict[str, Any]) -> str:
    """One row of the printed table."""
    cells = [row[name] for name in _COLUMNS]
    texts = ["-" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "  ".join(text.rjust(max(8, len(title))) for text, title in zip(texts, _COLUMNS.values(), strict=True))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--rows", type=float, nargs="+", default=ROWS, help="rows of the tables (default: 6e3 to 6e6)")
    out.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of files (default: both)")
    out.add_argument(
        "--folder", type=Path, help="where the tables are written for the time being; 6e6 rows take 2.2 GB"
    )
    out.add_argument("--without-steps", action="store_true", help="leave the training steps out")
    out.add_argument("--json", action="store_true", help="print one JSON object")
    out.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # what the fresh process is told to do
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables, measure each in a fresh process, and print the figures."""
    options = parser()
    args = options.parse_args(argv)
    if args.measure is not None:
        print(json.dumps(measure(args.measure, steps=not args.without_steps)))
        return
    if min(args.rows) < 600:
        options.error("--rows takes numbers of 600 or more")
    if not args.json:
        print(f"load {os.getloadavg()[0]:.1f}")
        print("  ".join(title.rjust(8) for title in _COLUMNS.values()), flush=True)
    rows = []
    for size in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            write_tables(folder, 60)
            for kind in KINDS:
                (folder / f"table.{kind}").rename(folder / f"few.{kind}")
            write_tables(folder, int(size))
            for kind in args.kinds:
                command = [sys.executable, __file__, "--measure", str(folder / f"table.{kind}")]
                command += ["--without-steps"] * args.without_steps
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows.append(json.loads(done.stdout))
                if not args.json:
                    print(line(rows[-1]), flush=True)
    slope = growth(rows)
    if args.json:
        print(json.dumps({"rows": rows, "slope": slope}))
        return
    for kind, found in slope.items():
        print(
            f"{kind}: import seconds grow as rows^{found['import_exponent']:.2f}, {found['import_us_per_row']:.1f} us a row; "
            f"peak memory {found['import_peak_bytes_per_row']:.0f} bytes a row"
        )


if __name__ == "__main__":
    main()
