"""Measure what one training step costs, against the same model written in other ways.

A row is the process CPU time of one member-step, divided by that of a handwritten eager PyTorch loop with default AdamW at the
same batch size. Every variant runs a short slice in each round, in shuffled order, and ratios are formed within a round, so that
a machine that slows down slows all of them; shown are medians over the rounds and quartiles. First of all it is checked that
the implementations compute the same objective. All of them run with freed memory kept (`scopes.keep_freed_memory`), as the
command line trains; --default-malloc measures without.

    handwritten         plain PyTorch, default AdamW: 1 by definition
    handwritten-fused   the same with AdamW's fused kernel
    pyro                our Pyro programs in stock SVI, as Pyro's tutorials do it
    pyro-unchecked      the same without Pyro's validation
    eager, compiled     our own training: op by op, and with the whole step compiled
    numpyro             NumPyro: jit over scan, vmap over members; needs numpyro
    products            only the matrix products of the step: the floor
    products-fast       the same with the kernel that our training asks for from 4000 rows on, except on Intel's processors
    ...-gaussian        compiled and products of a model with a single Gaussian for each number, for the most members only

Examples:
    python scripts/benchmark_training.py
    python scripts/benchmark_training.py --members 1 20 --batch 64 --without-numpyro --json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol

import torch
from references import floor, handwritten, stock_pyro
from references.problem import Problem

from pyro_hcvae import ModelConfig
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.engine import Trainer
from pyro_hcvae.model import scopes

REFERENCE = "handwritten"
FLOORS = ("products", "products-fast")
GAUSSIAN = ModelConfig(mixture="free", mixture_components=1, chained="no")
"""A single Gaussian for each number, independent of the others given the latents; the other implementations do not know it."""


class Runner(Protocol):
    """Something that can take training steps."""

    def run(self, steps: int) -> None:
        """Take training steps."""


class OurTraining:
    """Our training loop without its validations.

    Intervals are shorter than by default, to keep slices short; minibatches are drawn an interval at a time.
    """

    INTERVAL = 10

    def __init__(self, problem: Problem, members: int, batch_size: int, *, compiled: bool) -> None:
        self.config = TrainConfig(
            members=members,
            batch_size=batch_size,
            interval=self.INTERVAL,
            compile="always" if compiled else "never",
        )
        self.trainer = Trainer(problem.network(members), problem.data, self.config)
        self.interval = 0

    def run(self, steps: int) -> None:
        """Take training steps, a multiple of the interval."""
        with scopes.computing_scope(self.config.members * self.config.batch_size):
            for _ in range(steps // self.INTERVAL):
                self.trainer.run_steps(self.interval % self.trainer.intervals)
                self.interval += 1


@dataclass
class Variant:
    """One way to train.

    Attributes:
        name: Name on the command line and in the output.
        members: Members that are trained at once.
        batch: Rows of a minibatch.
        make: Prepares it; not timed.
        stride: Steps that come at once.
        scope: Context in which it runs.
    """

    name: str
    members: int
    batch: int
    make: Callable[[], Runner]
    stride: int = 1
    scope: Callable[[], AbstractContextManager[None]] = nullcontext
    steps: int = field(init=False)
    ratios: list[float] = field(default_factory=list, init=False)
    _runner: Runner = field(init=False)

    def setup(self, slice_s: float) -> None:
        """Prepare, warm up, and find how many steps fill a slice."""
        self._runner = self.make()
        self.steps = self.stride
        self.seconds()
        self.steps *= max(1, math.ceil(slice_s / (self.seconds() * self.steps * self.members)))

    def run(self, steps: int) -> None:
        """Take training steps."""
        with self.scope():
            self._runner.run(steps)

    def seconds(self) -> float:
        """CPU time of a member-step, from one slice."""
        start = time.process_time()
        self.run(self.steps)
        return (time.process_time() - start) / self.steps / self.members


def variants(
    problem: Problem, members: Sequence[int], batches: Sequence[int], numpyro: ModuleType | None
) -> Iterator[Variant]:
    """All rows. Batch sizes after the first are run for the largest number of members only."""
    for batch in batches:
        yield Variant(REFERENCE, 1, batch, partial(handwritten.Loop, problem, batch))
        yield Variant("handwritten-fused", 1, batch, partial(handwritten.Loop, problem, batch, fused=True))
        yield Variant("pyro", 1, batch, partial(stock_pyro.Loop, problem, batch))
        yield Variant("pyro-unchecked", 1, batch, partial(stock_pyro.Loop, problem, batch, validation=False))
        for m in members if batch == batches[0] else [max(members)]:
            ours = partial(OurTraining, problem, m, batch)
            yield Variant("eager", m, batch, partial(ours, compiled=False), OurTraining.INTERVAL)
            yield Variant("compiled", m, batch, partial(ours, compiled=True), OurTraining.INTERVAL)
            if numpyro is not None:
                yield Variant("numpyro", m, batch, partial(numpyro.Loop, problem, m, batch), numpyro.SCANNED)
            products = partial(floor.Products, problem, m, batch)
            yield Variant("products", m, batch, products)
            yield Variant("products-fast", m, batch, products, scope=scopes.fast_matmul)
        gaussian = replace(problem, model=GAUSSIAN)
        ours = partial(OurTraining, gaussian, max(members), batch)
        yield Variant("compiled-gaussian", max(members), batch, partial(ours, compiled=True), OurTraining.INTERVAL)
        yield Variant("products-gaussian", max(members), batch, partial(floor.Products, gaussian, max(members), batch))


def set_up(chosen: Sequence[Variant], slice_s: float) -> list[Variant]:
    """Prepare all variants; those that cannot run on this machine are named and left out."""
    ready = []
    for variant in chosen:
        try:
            variant.setup(slice_s)
            ready.append(variant)
        except InputError as error:
            print(f"{variant.name} is left out: {error}", file=sys.stderr)
    return ready


def measure(ready: Sequence[Variant], rounds: int) -> None:
    """Collect the ratios of variants that are set up, one a round."""
    order = list(ready)
    for _ in range(rounds):
        random.shuffle(order)
        seconds = {id(variant): variant.seconds() for variant in order}
        reference = {v.batch: seconds[id(v)] for v in ready if v.name == REFERENCE}
        for variant in ready:
            variant.ratios.append(seconds[id(variant)] / reference[variant.batch])


def floor_of(chosen: Sequence[Variant], members: int, batch: int) -> float | None:
    """Ratio of the matrix products alone, in the faster of their modes; None if they were not measured."""
    found = [
        statistics.median(v.ratios) for v in chosen if v.name in FLOORS and (v.members, v.batch) == (members, batch)
    ]
    return min(found, default=None)


def table(chosen: Sequence[Variant]) -> str:
    """Aligned text, one line a variant."""
    lines = [f"{'variant':<18} {'members':>7} {'batch':>5}  {'ratio':>6}  {'quartiles':>13}"]
    for v in chosen:
        low, middle, high = quartiles(v.ratios)
        lines.append(f"{v.name:<18} {v.members:>7} {v.batch:>5}  {middle:>6.3f}  {low:>6.3f} {high:>6.3f}")
    return "\n".join(lines)


def quartiles(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return low, statistics.median(ratios), high


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for PyTorch, restored on leaving: CPU time is compared, and small products gain nothing from a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def import_numpyro() -> ModuleType | None:
    """The NumPyro reference, on one core; None where NumPyro or JAX is not installed."""
    if find_spec("numpyro") is None or find_spec("jax") is None:
        return None
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # both are read when JAX is first imported
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    return import_module("references.numpyro_model")


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--rounds", type=int, default=15, help="rounds in which every variant runs once (default: 15)")
    out.add_argument("--slice", type=float, default=0.3, help="CPU seconds of a variant in a round (default: 0.3)")
    out.add_argument("--members", type=int, nargs="+", default=[1, 5, 20], help="members at once (default: 1 5 20)")
    batch = "rows of a minibatch; those after the first with the most members only (default: 64 256)"
    out.add_argument("--batch", type=int, nargs="+", default=[64, 256], help=batch)
    out.add_argument("--only", nargs="+", metavar="VARIANT", help="only these variants, beside the handwritten one")
    out.add_argument("--without-numpyro", action="store_true", help="leave NumPyro out although it is installed")
    out.add_argument("--recipes", type=int, default=1000, help="recipes of the simulated table (default: 1000)")
    out.add_argument("--default-malloc", action="store_true", help="let freed memory return to the system")
    out.add_argument("--json", action="store_true", help="print one JSON object")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Check that all variants compute the same, measure them, and print the ratios."""
    options = parser()
    args = options.parse_args(argv)
    if min(args.rounds, *args.members, *args.batch) < 1:
        options.error("--rounds, --members and --batch take whole numbers of 1 or more")
    if args.recipes < max(args.batch):
        options.error("--recipes must be at least the largest --batch: a minibatch holds a recipe once")
    numpyro = None if args.without_numpyro else import_numpyro()
    problem = Problem.simulated(args.recipes)
    chosen = list(variants(problem, args.members, args.batch, numpyro))
    if args.only:
        if unknown := set(args.only) - {v.name for v in chosen}:
            options.error(f"--only: no variant is called {', '.join(sorted(unknown))} here")
        chosen = [v for v in chosen if v.name in (REFERENCE, *args.only)]
    names = {v.name for v in chosen}
    random.seed(0)
    torch.manual_seed(0)
    if not args.default_malloc:
        scopes.keep_freed_memory()
    with one_thread():
        handwritten.check(problem)
        if names & {"pyro", "pyro-unchecked"}:
            stock_pyro.check(problem)
        if "numpyro" in names:
            numpyro.check(problem)
        chosen = set_up(chosen, args.slice)
        measure(chosen, args.rounds)
    most, batch = max(args.members), args.batch[0]
    limit = floor_of(chosen, most, batch)
    if args.json:
        rows = [
            {"variant": v.name, "members": v.members, "batch": v.batch, "ratio": middle, "quartiles": [low, high]}
            for v in chosen
            for low, middle, high in [quartiles(v.ratios)]
        ]
        print(json.dumps({"rows": rows, "floor": limit}))
        return
    print(f"CPU time of a member-step, {REFERENCE} = 1; {args.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    print(table(chosen))
    if limit is not None:
        print(f"floor, {most} members, batch {batch}: {limit:.3f}")
        for v in chosen:
            if (v.name, v.members, v.batch) == ("compiled", most, batch):
                print(f"compiled over floor: {statistics.median(v.ratios) / limit:.2f}")


if __name__ == "__main__":
    main()
