"""A folder that a study fills, one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pyro_hcvae.errors import InputError

_LOCK = ".lock"


@contextmanager
def working_alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the operating system lets go of the lock when a process dies.

    Raises:
        InputError: If another process is at work there.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder}: another process is at work there: wait for its end, or choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
