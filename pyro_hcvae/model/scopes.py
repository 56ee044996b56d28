"""The scope in which the Pyro programs run fast, which leaves no trace outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch


@contextmanager
def computing_scope() -> Iterator[None]:
    """One thread and no validation of distributions, both restored on leaving.

    Small matrix products lose more to waking a second thread than it gives, and many times more where the other core is busy;
    further cores serve further processes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pyro.validation_enabled(False):
            yield
    finally:
        torch.set_num_threads(threads)
