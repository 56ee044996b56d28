"""`Engine`: independent pieces of work on the cores of this machine or of a cluster, behind one joblib call."""

from __future__ import annotations

import hashlib
import logging
import pickle
import socket
import sys
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from pyro_hcvae.errors import InputError

Kind = Literal["local", "dask", "ray"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MODULES = {"dask": "distributed", "ray": "ray"}
"""What an engine needs, by name; the extra that brings it is called like the engine."""
_PATIENCE = 4
"""Workers that may die one after the other without a single piece of work being done in between."""
_ANSWER_SECONDS, _WORKER_SECONDS, _IDLE_SECONDS = 20, 60, 30
T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Engine:
    """Where pieces of work are done.

    Attributes:
        kind: ``local``: processes of this machine; ``dask``: a Dask cluster; ``ray``: a Ray cluster.
        address: Of the cluster's scheduler (Dask) or head (Ray); None: a cluster of this machine's own, for as long as the work.
        jobs: Pieces of work at once; None: one locally, as many as there are cores on a cluster.
    """

    kind: Kind = "local"
    address: str | None = None
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"unknown engine {self.kind!r}: choose from {', '.join(KINDS)}")
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"jobs must be at least 1, got {self.jobs}")
        if self.kind == "local":
            if self.address is not None:
                raise InputError(
                    f"an address ({self.address}) is that of a cluster: choose --engine dask or ray with it"
                )
        elif find_spec(MODULES[self.kind]) is None:
            raise InputError(f'engine {self.kind} is not installed: pip install "pyro-hcvae[{self.kind}]"')

    def run(self, work: Callable[[T, Item], Result], shared: Shared[T], items: Iterable[Item]) -> Iterator[Result]:
        """Do all pieces of work, and hand over each result as it comes.

        A piece must give the same result wherever and however often it is done: when a worker dies, what it had under way is
        done again. Dask sees to that itself, but for shared data that were lost with the worker; the pools of joblib and Ray
        break as a whole, and are made anew here.

        Args:
            work: Called with the shared object and an item; importable on the workers.
            shared: What every piece needs.
            items: Taken one by one as workers come free, possibly by other threads.

        Yields:
            Results in the order in which they come; a caller that keeps them loses nothing.

        Raises:
            InputError: If no cluster answers, or if workers die again and again.
        """
        waiting, under_way = enumerate(items), dict[int, Item]()

        def tasks() -> Iterator[Any]:
            for number, item in list(under_way.items()):
                yield delayed(_do)(work, shared.packed, shared.key, number, item)
            for number, item in waiting:
                under_way[number] = item
                yield delayed(_do)(work, shared.packed, shared.key, number, item)

        with self._pool() as make:
            deaths, died = 0, _deaths(self.kind)
            while True:
                results = make()(tasks())
                try:
                    while True:
                        number, result = next(results)
                        del under_way[number]
                        deaths = 0
                        yield result
                except StopIteration:
                    if not under_way:
                        return
                    # A thread of a pool that was dying has taken an item: it is done by the next one.
                except died as error:
                    deaths += 1
                    if deaths == _PATIENCE:
                        raise InputError(
                            f"workers were killed {deaths} times without finishing anything, most likely because memory ran out: "
                            f"choose fewer jobs, or workers with more memory ({type(error).__name__})"
                        ) from None
                finally:
                    # Before the pool ends: joblib's threads would still hand it work, and each would wait for the other.
                    results.close()

    @contextmanager
    def _pool(self) -> Iterator[Callable[[], Parallel]]:
        """A way to make joblib's pool, and to make it anew with what is left after a death."""
        match self.kind:
            case "local":
                jobs = self.jobs or 1
                # Orphans of a parent that was killed end after the idle time.
                idle = {"idle_worker_timeout": _IDLE_SECONDS} if jobs > 1 else {}
                try:
                    yield lambda: _parallel(jobs, {"backend": "loky", "n_jobs": jobs}, **idle)
                finally:
                    if jobs > 1:  # whatever still runs, nobody waits for
                        get_reusable_executor().shutdown(wait=True, kill_workers=True)
            case "dask":
                with _dask_client(self.address, self.jobs) as client:
                    backend = _dask_backend()

                    def pool() -> Parallel:
                        cores = _dask_cores(client)
                        return _parallel(self.jobs or cores, {"backend": backend(client=client), "n_jobs": -1})

                    yield pool
            case "ray":
                with _ray_connection(self.address, self.jobs):
                    backend = _ray_backend()

                    def actors() -> Parallel:
                        jobs = min(self.jobs or sys.maxsize, _ray_cores())  # an actor without a core would never answer
                        return _parallel(jobs, {"backend": backend(), "n_jobs": jobs})

                    yield actors


def _parallel(jobs: int, backend: dict[str, Any], **options: Any) -> Parallel:
    with parallel_config(**backend):  # no longer than this: what the caller does between results is its own
        return Parallel(batch_size=1, pre_dispatch=jobs, return_as="generator_unordered", **options)


def _deaths(kind: Kind) -> tuple[type[BaseException], ...]:
    """What joblib raises when a worker dies and the backend does not see to it itself."""
    match kind:
        case "local":
            return (BrokenProcessPool,)
        case "dask":
            from distributed import KilledWorker
            from distributed.client import FutureCancelledError

            return (KilledWorker, FutureCancelledError, CancelledError)
        case "ray":
            from ray import exceptions

            return (
                exceptions.RayActorError,
                exceptions.WorkerCrashedError,
                exceptions.OutOfMemoryError,
                exceptions.ObjectLostError,
            )


class Shared(Generic[T]):
    """An object that every piece of work needs: pickled once, sent to a worker once, unpickled there once.

    Args:
        value: The object.

    Attributes:
        packed: The pickled object as an array, because joblib maps, Dask scatters and Ray stores large arrays.
        key: What tells it from others.
    """

    def __init__(self, value: T) -> None:
        pickled = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self.packed: NDArray[np.uint8] = np.frombuffer(pickled, dtype=np.uint8)
        self.key = hashlib.sha256(pickled).hexdigest()


_unpacked: dict[str, Any] = {}
"""In a worker: the shared object of the present work."""
_one_piece = threading.Lock()
"""In a worker: its threads, where a cluster gives it several, do one piece after the other. Pyro's handlers and torch's random
numbers are those of the whole process."""


def _do(
    work: Callable[[Any, Item], Result], packed: NDArray[np.uint8], key: str, number: int, item: Item
) -> tuple[int, Result]:
    with _one_piece:
        if key not in _unpacked:
            _unpacked.clear()
            _unpacked[key] = pickle.loads(packed.tobytes())  # what the process sent that asks for the work
        return number, work(_unpacked[key], item)


@contextmanager
def _dask_client(address: str | None, jobs: int | None) -> Iterator[Any]:
    """A client of the cluster at an address, or of one of this machine's own."""
    from distributed import Client, LocalCluster

    if address is not None:
        try:
            client = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {address}: {error}") from None
        with client:
            yield client
        return
    workers = {"n_workers": jobs or cpu_count(), "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**workers) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def _dask_cores(client: Any) -> int:
    """Cores of the cluster, once there are any: workers that died may be on their way back."""
    try:
        client.wait_for_workers(1, timeout=_WORKER_SECONDS)
    except TimeoutError:
        address = client.scheduler.address
        raise InputError(
            f"the Dask cluster at {address} has no workers: start some with: dask worker --nthreads 1 {address}"
        ) from None
    return max(1, int(sum(client.ncores().values())))


def _dask_backend() -> Any:
    """Dask's backend of joblib; where only one core is left at the moment, joblib would do the work in this process."""
    from joblib._dask import DaskDistributedBackend

    class OnTheCluster(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

    return OnTheCluster


@contextmanager
def _ray_connection(address: str | None, jobs: int | None) -> Iterator[None]:
    """A connection to the cluster at an address, or to one of this machine's own; one that is there already is used."""
    import ray

    if ray.is_initialized():
        yield
        return
    if address is not None:
        _require_answer(address)
    own: dict[str, Any] = {} if address is not None else {"num_cpus": jobs or cpu_count(), "include_dashboard": False}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address}: {error}. One that asks for a token needs RAY_AUTH_MODE=token"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Look whether something listens at ``host:port``, for which Ray itself takes minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return  # "auto", or what Ray alone understands
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {error}") from None


def _ray_cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _ray_backend() -> Any:
    """Ray's backend of joblib, allowed to hand over results one by one, which its pool can and the one of joblib cannot.

    With a single core joblib does the work in this process.
    """
    from ray.util.joblib.ray_backend import RayBackend

    class Streaming(RayBackend):  # type: ignore[misc]
        supports_return_generator = True

    return Streaming
