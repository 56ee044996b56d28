"""Ahead-of-time compilation of a training step, and its capture as a CUDA graph.

A step is traced once, Pyro and autograd included, into a graph of plain tensor operations; torch's inductor turns the graph
into one library of fused C++ loops, which is kept in the user's cache folder. The Pyro programs stay the only place where the
model is written.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from pyro_hcvae.inference.step import StepFunction
from pyro_hcvae.model.scopes import computing_scope

CACHE_VARIABLE = "PYRO_HCVAE_CACHE"
"""Environment variable that names another cache folder."""


_BUILD_SECONDS = 50.0
_SAVED_SECONDS = 0.009, 0.0002
"""What a compiled step saves: a part per step, and a part per member and 64 rows. Both measured (docs/benchmarks.md)."""


_log = logging.getLogger(__name__)


class CompilationError(RuntimeError):
    """A step could not be compiled, or what was compiled is wrong; the message says why."""


def cache_folder() -> Path:
    """Where compiled steps are kept. It can be deleted at any time."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_path("pyro-hcvae")) / "compiled"


def worth_compiling(steps: int, members: int, batch_size: int) -> tuple[bool, str]:
    """Whether a training of so many steps is long enough to pay for compiling its step, and the reason in words.

    Decided from the plan alone, not from the clock or from what the cache holds: a run repeated gives the same bits.
    """
    step, row = _SAVED_SECONDS
    saved = steps * (step + row * members * batch_size / 64)
    enough = saved >= _BUILD_SECONDS
    words = f"{steps} steps of {members} members would save about {saved:.0f} s, compiling takes about {_BUILD_SECONDS:.0f} s"
    return enough, words


def compile_step(function: StepFunction, example: Sequence[Tensor]) -> StepFunction:
    """Compile a pure step for inputs of the example's shapes, or load it from the cache.

    Args:
        function: Traceable function of tensors, e.g. `Gradients.pure`.
        example: Inputs to trace with, on the CPU.

    Returns:
        A function that gives the same within float32 rounding, checked on the example.

    Raises:
        CompilationError: If there is no C++ compiler, if torch cannot compile the step, or if the result is wrong.
    """
    example = [x.detach() for x in example]
    with computing_scope():  # validation of distributions reads values, and the library is to run on one thread
        try:
            # Here and not above: they take a second to import, and belong to torch's inner parts.
            from torch._inductor.cpp_builder import get_cpp_compiler
            from torch.fx.experimental.proxy_tensor import make_fx

            get_cpp_compiler()  # a machine without one is told so at once
            graph = make_fx(function)(*example)
            _prepare(cache_folder())
            package = cache_folder() / f"{_fingerprint(graph, example)}.pt2"
            compiled = _load(package)
            if compiled is None:
                _build(graph, example, package)
                compiled = _load(package)
            if compiled is None:
                raise RuntimeError("what was built cannot be loaded")
            values, _, *batch = example
            gradient = torch.full_like(values, torch.nan)
            rates = compiled(values, gradient, *batch)
        # Whatever the compiler stumbles over (its absence, a full disk, a bug of its own), the eager step does the same.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise CompilationError(f"{type(error).__name__}: {reason[0][:200]}") from error
        expected = torch.full_like(values, torch.nan)
        expected_rates = function(values, expected, *batch)
    # At the start of a training the rates are exactly 0, which rounding need not meet: hence nats for a scale.
    same = torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    if not (same and torch.allclose(rates, expected_rates, rtol=1e-3, atol=1e-5)):
        package.unlink(missing_ok=True)
        raise CompilationError("the compiled step does not give what the eager one gives")
    return compiled


def _load(package: Path) -> StepFunction | None:
    """A package of the cache; None if it is not there, or damaged: then it is removed."""
    if not package.is_file():
        return None
    try:
        compiled: StepFunction = torch._inductor.aoti_load_package(str(package))
    except Exception:  # whatever its loader stumbles over
        package.unlink(missing_ok=True)
        return None
    return compiled


def _build(graph: torch.fx.GraphModule, example: Sequence[Tensor], package: Path) -> None:
    _log.info("compiling the training step, which takes about %.0f s", _BUILD_SECONDS)
    _clear(package.parent)
    with (
        tempfile.TemporaryDirectory(dir=package.parent, prefix=_BUILDING) as folder,
        # The compiler's own intermediate files belong there too, not in the system's temporary folder for good.
        _environment("TORCHINDUCTOR_CACHE_DIR", folder),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, tuple(example), strict=False)
        built = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "step.pt2"))
        Path(built).replace(package)


_BUILDING = ".building-"


def _prepare(folder: Path) -> None:
    """Make the cache folder, or check it: what lies in it is run as a program."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "posix":
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise PermissionError(f"the cache folder {folder} can be written by others")


def _clear(folder: Path) -> None:
    """Remove what builds left behind that were killed."""
    for path in folder.glob(f"{_BUILDING}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _DAY_SECONDS:
                shutil.rmtree(path)


_DAY_SECONDS = 86_400


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _fingerprint(graph: torch.fx.GraphModule, example: Sequence[Tensor]) -> str:
    """What a compiled step depends on: its operations, constants and shapes, torch, and the processor."""
    digest = hashlib.sha256(graph.code.encode())
    for name, constant in sorted([*graph.named_buffers(), *graph.named_parameters()]):
        digest.update(name.encode())
        digest.update(constant.detach().contiguous().numpy().tobytes())
    shapes = [(tuple(x.shape), x.dtype, x.stride()) for x in example]
    machine = (platform.system(), platform.machine(), torch.backends.cpu.get_cpu_capability(), _processor())
    digest.update(repr((shapes, torch.__version__, machine)).encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """Model and instruction set of the processor: a library built for one may hold instructions that another lacks."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return platform.processor()


class CudaGraph:
    """A step captured as a CUDA graph: one launch instead of thousands.

    Args:
        function: Step without synchronisation, e.g. `Gradients`.
        example: Inputs on the device. The first two, parameters and gradient, are used where they lie; the others are copied in.
    """

    def __init__(self, function: StepFunction, example: Sequence[Tensor]) -> None:
        values, gradient, *batch = example
        self._inputs = [x.clone() for x in batch]
        # Warm-up on a side stream, as capture requires: libraries allocate their workspaces in it.
        stream = torch.cuda.Stream(values.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(values.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                function(values, gradient, *self._inputs)
        torch.cuda.current_stream(values.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._rates = function(values, gradient, *self._inputs)

    def __call__(self, values: Tensor, gradient: Tensor, *batch: Tensor) -> Tensor:
        """Replay with new inputs; parameters and gradient must be those of the capture. The next call overwrites the result."""
        for place, x in zip(self._inputs, batch, strict=True):
            place.copy_(x, non_blocking=True)
        self._graph.replay()
        return self._rates
