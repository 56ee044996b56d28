"""Measure a mass screening: draws per second, CPU seconds and peak memory for growing numbers of draws.

Each screening is `pyro-hcvae propose RUN --screen` in a fresh process, which fits the predictor first. Shown are, for each:

    draws/s   draws over the wall time of the screening alone: from the first piece to the finished file
    CPU s     processor time of the whole command and its workers, start and predictor included
    peak MiB  largest memory of the command and its workers together (proportional set size: what they share counts once), looked
              at five times a second

Examples:
    pyro-hcvae fit 211210-DRM-total.csv --drop-column Ag --members 2 --steps 600 --out run
    python scripts/benchmark_screening.py run --draws 1e5 3e5 1e6 --jobs 1 2
    python scripts/benchmark_screening.py run --draws 2e4 --json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

DRAWS = (1e5, 3e5, 1e6)
MIB = 2**20
_LOOK_EVERY_S = 0.2
_COLUMNS = {
    "draws": "draws", "jobs": "jobs", "draws_per_s": "draws/s", "cpu_s": "CPU s", "peak_mib": "peak MiB", "kept": "kept",
    "file_mib": "file MiB",
}  # fmt: skip


def measure(run: Path, target: float, draws: int, jobs: int, more: Sequence[str]) -> dict[str, Any]:
    """Screen once and measure it."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "screened.parquet"
        command = [sys.executable, "-m", "pyro_hcvae", "propose", str(run), "--target", str(target), "--screen"]
        command += ["-n", str(draws), "--jobs", str(jobs), "--out", str(out), "--json", *more]
        before, peak = cpu_seconds(), 0
        with (Path(name) / "said.json").open("w+") as said:
            process = subprocess.Popen(command, stdout=said)
            while process.poll() is None:
                peak = max(peak, memory(process.pid))
                time.sleep(_LOOK_EVERY_S)
            if process.returncode:
                sys.exit(process.returncode)  # it has said why
            said.seek(0)
            found = json.load(said)
        return {
            "draws": found["drawn"],
            "jobs": jobs,
            "draws_per_s": found["drawn"] / found["seconds"],
            "screening_s": found["seconds"],
            "cpu_s": cpu_seconds() - before,
            "peak_mib": peak / MIB,
            "valid": found["valid"],
            "novel": found["novel"],
            "allowed": found["allowed"],
            "kept": found["kept"],
            "file_mib": out.stat().st_size / MIB,
        }


def cpu_seconds() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(pid: int) -> int:
    """Memory of a process and all that it has started, in bytes."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                used = process.memory_full_info()
                total += getattr(used, "pss", used.rss)
            except psutil.Error:  # it has just ended
                continue
    except psutil.Error:
        pass
    return total


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("run", type=Path, help="finished run")
    out.add_argument("--target", type=float, default=80.0, help="wanted performance (default: 80)")
    out.add_argument("--draws", type=float, nargs="+", default=DRAWS, help="numbers of draws (default: 1e5 3e5 1e6)")
    out.add_argument("--jobs", type=int, nargs="+", default=[1], help="pieces of work at once (default: 1)")
    out.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a condition; may be repeated")
    out.add_argument("--json", action="store_true", help="print one JSON object")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Screen with each number of draws and jobs, and print the figures."""
    args = parser().parse_args(argv)
    more = [text for pair in args.set for text in ("--set", pair)]
    rows = []
    if not args.json:
        print(f"load {os.getloadavg()[0]:.1f}")
        print("  ".join(title.rjust(9) for title in _COLUMNS.values()), flush=True)
    for jobs in args.jobs:
        for draws in args.draws:
            rows.append(measure(args.run, args.target, int(draws), jobs, more))
            if not args.json:
                cells = (rows[-1][name] for name in _COLUMNS)
                print("  ".join(f"{cell:.0f}".rjust(9) for cell in cells), flush=True)
    if args.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
