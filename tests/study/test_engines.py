"""Engines: the same results everywhere, and nothing lost when a worker is killed, on a real Dask cluster and a real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pyro_hcvae.errors import InputError
from pyro_hcvae.study import engines
from pyro_hcvae.study.engines import Engine, Shared

ITEMS = 10


class Job(NamedTuple):
    """What the pieces of work share: large enough to be mapped, scattered or stored instead of sent along."""

    folder: Path
    deadly: tuple[int, ...]
    offsets: np.ndarray
    awaited: int | None = None


def square(job: Job, item: int) -> tuple[int, float]:
    """One piece of work; deadly ones kill their worker the first time, once the result that they await has been received."""
    with (job.folder / f"done_{item}").open("a") as file:
        file.write("x")
    dead = job.folder / f"dead_{item}"
    if item in job.deadly and not dead.exists():
        dead.touch()
        deadline = time.monotonic() + 60
        while job.awaited is not None and not (job.folder / f"received_{job.awaited}").exists():
            assert time.monotonic() < deadline, f"item {job.awaited} has never been received"
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return item, float(item**2 + job.offsets[item])


def process(job: Job, item: int) -> int:
    """Where a piece of work is done."""
    return os.getpid()


def refuse(job: Job, item: int) -> int:
    """A piece of work that finds its input wrong."""
    raise InputError(f"item {item} will not do")


def always_fatal(job: Job, item: int) -> int:
    """A piece of work that no worker survives."""
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def job(folder: Path, *deadly: int, awaited: int | None = None) -> Shared[Job]:
    return Shared(Job(folder, deadly, np.linspace(0, 1, 200_000), awaited))


@pytest.fixture(scope="module")
def dask_address() -> Iterator[str]:
    """Scheduler of a running cluster with two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A running Ray instance with two cores, which this process is connected to."""
    ray = pytest.importorskip("ray")
    with engines._ray_connection(None, 2):
        assert ray.is_initialized()
        yield
    assert not ray.is_initialized()


@pytest.fixture(params=["local", "two processes", "dask", pytest.param("ray", marks=pytest.mark.thorough)])
def engine(request: pytest.FixtureRequest) -> Engine:
    match request.param:
        case "local":
            return Engine()
        case "two processes":
            return Engine(jobs=2)
        case "dask":
            return Engine("dask", request.getfixturevalue("dask_address"))
        case _:
            request.getfixturevalue("local_ray")
            return Engine("ray", jobs=2)


def test_results_come_one_by_one_and_are_the_same_everywhere(engine: Engine, tmp_path: Path) -> None:
    wanted = [square(Job(tmp_path, (), np.linspace(0, 1, 200_000)), item) for item in range(ITEMS)]
    results = engine.run(square, job(tmp_path), iter(range(ITEMS)))
    first = next(results)
    assert sorted([first, *results]) == wanted
    assert list(engine.run(square, job(tmp_path), [])) == []


def test_a_killed_worker_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    if engine == Engine():
        pytest.skip("work of this very process")
    found = []
    for result in engine.run(square, job(tmp_path, 4, awaited=0), iter(range(ITEMS))):
        found.append(result)
        (tmp_path / f"received_{result[0]}").touch()
    assert (tmp_path / "dead_4").exists()  # it did happen
    assert sorted(found) == list(Engine().run(square, job(tmp_path), range(ITEMS)))
    assert len((tmp_path / "done_4").read_text()) == 3  # killed, again, and by the local engine
    # What had been received was not done again.
    assert len((tmp_path / "done_0").read_text()) == 2


def test_work_is_done_where_it_was_asked_for(engine: Engine, tmp_path: Path) -> None:
    where = set(engine.run(process, job(tmp_path), range(4)))
    assert (os.getpid() in where) is (engine == Engine())


def test_shared_data_that_die_with_their_worker_are_sent_again(dask_address: str, tmp_path: Path) -> None:
    found = list(Engine("dask", dask_address).run(square, job(tmp_path, 0, 1), range(ITEMS)))
    assert sorted(found) == list(Engine().run(square, job(tmp_path), range(ITEMS)))


def test_an_item_that_a_dying_pool_took_late_is_done_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib takes items in threads of its own, one of which may be about to when the pool breaks."""
    taken: list[Iterator[Any]] = []

    def pool(tasks: Iterator[Any]) -> Iterator[Any]:
        taken.append(tasks)
        for count, (function, arguments, _) in enumerate(tasks):
            yield function(*arguments)
            if len(taken) == 1 and count == 1:
                raise BrokenProcessPool
            if len(taken) == 2 and count == 0:
                next(taken[0])

    monkeypatch.setattr(Engine, "_pool", lambda self: nullcontext(lambda: pool))
    assert [item for item, _ in Engine().run(square, job(tmp_path), range(6))] == [0, 1, 2, 4, 5, 3]


def test_what_the_work_raises_is_raised(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="item 0 will not do"):
        list(engine.run(refuse, job(tmp_path), [0]))


def test_work_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="killed 4 times without finishing anything.*choose fewer jobs"):
        list(Engine(jobs=2).run(always_fatal, job(tmp_path), range(3)))


def test_items_are_taken_as_workers_come_free(engine: Engine, tmp_path: Path) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(ITEMS):
            taken.append(item)
            yield item

    results = engine.run(square, job(tmp_path), items())
    next(results)
    if engine == Engine():
        assert taken == [0]  # one after the other: the next is chosen in knowledge of all before it
    list(results)
    assert taken == list(range(ITEMS))


def test_wrong_engines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown engine 'spark': choose from local, dask, ray"):
        Engine("spark")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--engine dask or ray"):
        Engine(address="tcp://head:8786")
    with pytest.raises(InputError, match="jobs must be at least 1"):
        Engine(jobs=0)
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    for kind in ("dask", "ray"):
        with pytest.raises(InputError, match=rf'pip install "pyro-hcvae\[{kind}\]"'):
            Engine(kind)  # type: ignore[arg-type]


def test_a_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(engines, "_ANSWER_SECONDS", 0.2)
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        list(Engine("dask", "tcp://127.0.0.1:9").run(square, job(tmp_path), [0]))


def test_a_ray_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match="no Ray cluster answers at 127.0.0.1:9"):
        list(Engine("ray", "127.0.0.1:9").run(square, job(tmp_path), [0]))


_inside: list[int] = []


def alone(job: Job, item: int) -> int:
    """How many threads of this process are at work at once."""
    _inside.append(item)
    time.sleep(0.02)
    count = len(_inside)
    _inside.remove(item)
    return count


def test_threads_of_a_worker_take_turns(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=3, processes=False, dashboard_address=":0"
    ) as cluster:
        found = list(Engine("dask", cluster.scheduler_address).run(alone, job(tmp_path), range(9)))
    assert found == [1] * 9


def test_a_caller_that_stops_between_results_is_let_go(tmp_path: Path) -> None:
    script = tmp_path / "stop.py"
    script.write_text(STOP.format(folder=str(tmp_path)))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=90, cwd=Path.cwd(), check=False
    )
    assert done.returncode == 1
    assert "OSError: disk full" in done.stderr.splitlines()  # joblib may say more when it clears up


STOP = """
import sys
from pathlib import Path

sys.path.insert(0, ".")
from pyro_hcvae.study.engines import Engine
from tests.study.test_engines import job, square

if __name__ == "__main__":
    for _ in Engine(jobs=2).run(square, job(Path({folder!r})), range(10)):
        raise OSError("disk full")
"""
