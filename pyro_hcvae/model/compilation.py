"""Ahead-of-time compilation of what the Pyro programs do with tensors: a training step, a batch of draws.

It is traced once, Pyro and autograd included, into a graph of plain tensor operations; torch's inductor turns the graph into one
library of fused C++ loops, which is kept in the user's cache folder. The Pyro programs stay the only place where the model is
written.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from pyro_hcvae.model.scopes import computing_scope

CACHE_VARIABLE = "PYRO_HCVAE_CACHE"
"""Environment variable that names another cache folder."""

TensorFunction = Callable[..., Tensor]
"""A function of tensors alone."""


_log = logging.getLogger(__name__)


class CompilationError(RuntimeError):
    """Something could not be compiled, or what was compiled is wrong; the message says why."""


def cache_folder() -> Path:
    """Where compiled functions are kept. It can be deleted at any time."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_path("pyro-hcvae")) / "compiled"


def compile_function(
    function: TensorFunction, example: Sequence[Tensor], check: Callable[[TensorFunction], bool], *, what: str
) -> TensorFunction:
    """Compile a function for contiguous inputs of the example's shapes, or load it from the cache.

    Args:
        function: Traceable function of tensors, without side effects but on its arguments and torch's random generator; compiled,
            it draws the same random numbers.
        example: Inputs to trace with, contiguous, on the CPU.
        check: Whether a compiled function gives what the function gives, within float32 rounding.
        what: Its name in messages, e.g. ``"step"``.

    Returns:
        A function that passes the check. It raises `ValueError` for inputs of another form, which what is compiled
        would read as if they were those of the example.

    Raises:
        CompilationError: If there is no C++ compiler, if torch cannot compile the function, or if the result is wrong.
    """
    example = [x.detach() for x in example]
    if not all(x.is_contiguous() for x in example):
        raise CompilationError("an input is not contiguous")
    forms = [(x.shape, x.dtype) for x in example]
    with computing_scope():  # validation of distributions reads values, and the library is to run on one thread
        try:
            # Here and not above: they take a second to import, and belong to torch's inner parts.
            from torch._inductor.cpp_builder import get_cpp_compiler
            from torch.fx.experimental.proxy_tensor import make_fx

            get_cpp_compiler()  # a machine without one is told so at once
            graph = make_fx(function)(*example)
            _prepare(cache_folder())
            package = cache_folder() / f"{_fingerprint(graph, example)}.pt2"
            compiled = _load(package, forms)
            if compiled is None:
                _log.info("compiling the %s, which takes about a minute", what)
                _build(graph, example, package)
                compiled = _load(package, forms)
            if compiled is None:
                raise RuntimeError("what was built cannot be loaded")
            try:
                right = check(compiled)
            except Exception:
                package.unlink(missing_ok=True)
                raise
        # Whatever the compiler stumbles over (its absence, a full disk, a bug of its own), the eager function does the same.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise CompilationError(f"{type(error).__name__}: {reason[0][:200]}") from error
    if not right:
        package.unlink(missing_ok=True)
        raise CompilationError(f"the compiled {what} does not give what the eager one gives")
    return compiled


def _load(package: Path, forms: Sequence[tuple[torch.Size, torch.dtype]]) -> TensorFunction | None:
    """A package of the cache; None if it is not there, or damaged: then it is removed."""
    if not package.is_file():
        return None
    try:
        compiled: TensorFunction = torch._inductor.aoti_load_package(str(package))
    except Exception:  # whatever its loader stumbles over
        package.unlink(missing_ok=True)
        return None

    def checked(*inputs: Tensor) -> Tensor:
        for x, (shape, dtype) in zip(inputs, forms, strict=True):
            if (x.shape, x.dtype, x.device.type) != (shape, dtype, "cpu") or not x.is_contiguous():
                raise ValueError(
                    f"an input of {x.dtype} and shape {tuple(x.shape)} on {x.device}, where a contiguous one of {dtype} and "
                    f"{tuple(shape)} on the CPU is needed"
                )
        return compiled(*inputs)

    return checked


def _build(graph: torch.fx.GraphModule, example: Sequence[Tensor], package: Path) -> None:
    from torch._inductor import config

    _clear(package.parent)
    with (
        tempfile.TemporaryDirectory(dir=package.parent, prefix=_BUILDING) as folder,
        # The compiler's own intermediate files belong there too, not in the system's temporary folder for good.
        _environment("TORCHINDUCTOR_CACHE_DIR", folder),
        # Random numbers come from torch's generator, as they do uncompiled.
        config.patch(fallback_random=True),
        _silent("torch._inductor.ir"),  # it warns of what is merely slower
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, tuple(example), strict=False)
        built = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "package.pt2"))
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


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _fingerprint(graph: torch.fx.GraphModule, example: Sequence[Tensor]) -> str:
    """What a compiled function depends on: its operations, constants and shapes, torch, and the processor."""
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
