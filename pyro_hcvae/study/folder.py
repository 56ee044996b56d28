"""A folder that a study fills: one process at a time, and with the settings that it was begun with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pyro_hcvae.errors import InputError

_LOCK = ".lock"
_MOST = 60  # letters of a value that a message shows


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


def kept_settings(
    file: Path, wanted: Mapping[str, Any], what: str, *, remedy: str = "choose another --out"
) -> dict[str, Any]:
    """Settings that the work in a folder was begun with, which are those wanted.

    Args:
        file: JSON file with one object.
        wanted: Values as JSON gives them back.
        what: What the folder holds, for the messages: ``a sweep``.
        remedy: What else can be done than to go on with the same options.

    Raises:
        InputError: If the file is damaged, or holds another value.
    """
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise ValueError
    except ValueError:
        raise InputError(f"{file} is damaged: {remedy}") from None
    for name, value in wanted.items():
        if there.get(name) != value:
            raise InputError(
                f"{file.parent} holds {what} with {name} = {_short(there.get(name))}, not {_short(value)}: go on with the "
                f"same table and options, or {remedy}"
            )
    return there


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
