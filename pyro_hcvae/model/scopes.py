"""The scopes in which the Pyro programs run fast, which leave no trace outside."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyro
import torch

_MANY_ROWS = 4000
"""Members times rows from which oneDNN's kernel makes up for what a call of it costs (docs/benchmarks.md)."""
_PROCESSORS = Path("/proc/cpuinfo")


@contextmanager
def computing_scope(rows: int = 0) -> Iterator[None]:
    """One thread, no validation of distributions, the quicker kernel for matrix products; all restored on leaving.

    Small matrix products lose more to waking a second thread than it gives, and many times more where the other core is busy;
    further cores serve further processes.

    Args:
        rows: Members times rows of the batches inside: from some thousands on `fast_matmul` pays, except on Intel's processors.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        quicker = rows >= _MANY_ROWS and not _made_by_intel()
        with pyro.validation_enabled(False), fast_matmul() if quicker else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Let oneDNN multiply float32 matrices where it does so in full float32.

    Asked for "bf16", oneDNN takes a plain float32 kernel on processors without bfloat16 tiles, which is quicker for large
    batched products than the default. Elsewhere it would really round to bfloat16, which a probe finds out: then nothing changes.
    """
    settings = _matmul_settings()
    if settings is None or not _exact():
        yield
        return
    with _precision(settings, "bf16"):
        yield


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, to its end.

    A step frees tens of megabytes and asks for them again in the next one. In between, glibc returns them to the system, and
    every page that comes back costs a fault (docs/benchmarks.md). The setting cannot be taken back, so that it is for programs
    of one's own: the command line, worker processes and scripts call it, the library does not. Without glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**30)
        mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)  # older versions allow no more


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


@contextmanager
def _precision(settings: Any, value: str) -> Iterator[None]:
    before = settings.fp32_precision
    settings.fp32_precision = value
    try:
        yield
    finally:
        # Reading gives what is inherited; writing that back would hide later changes of what it is inherited from.
        inherited = before == torch.backends.mkldnn.fp32_precision
        settings.fp32_precision = "none" if inherited else before


@cache
def _made_by_intel() -> bool:
    """Whether the default kernels, those of MKL, run on the processors that they were written for: there they are quicker.

    Told by the maker's name and not by a clock, so that a run repeated gives the same bits.
    """
    with suppress(OSError):
        return "GenuineIntel" in _PROCESSORS.read_text(encoding="utf-8")
    return False


def _matmul_settings() -> Any:
    """Where torch keeps the precision of oneDNN's matrix products; None before torch 2.9 or without oneDNN."""
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    return settings if hasattr(settings, "fp32_precision") and torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]


@cache
def _exact() -> bool:
    """Whether the setting keeps float32, by the error of one product: bfloat16 would miss by more than 1e-3."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(8, 64, 64, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    with _precision(_matmul_settings(), "bf16"):
        error = (torch.bmm(a, b) - exact).norm() / exact.norm()
    return bool(error < 1e-5)
