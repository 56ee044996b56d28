"""How a training step is carried out: as it is, compiled, or captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.step import BoundGradients, StepFunction
from pyro_hcvae.model.compilation import CompilationError, compile_function
from pyro_hcvae.model.config import Compile

_BUILD_SECONDS = 50.0
_SAVED_SECONDS = 0.009, 0.0002
"""What a compiled step saves: a part per step, and a part per member and 64 rows. Both measured (docs/benchmarks.md)."""


def worth_compiling(steps: int, members: int, batch_size: int) -> tuple[bool, str]:
    """Whether a training of so many steps is long enough to pay for compiling its step, and the reason in words.

    Decided from the plan alone, not from the clock or from what the cache holds: a run repeated gives the same bits.
    """
    step, row = _SAVED_SECONDS
    saved = steps * (step + row * members * batch_size / 64)
    enough = saved >= _BUILD_SECONDS
    words = f"{steps} steps of {members} members would save about {saved:.0f} s, compiling takes about {_BUILD_SECONDS:.0f} s"
    return enough, words


def choose_step(
    gradients: BoundGradients, example: Sequence[Tensor], wish: Compile, plan: tuple[bool, str]
) -> tuple[StepFunction, str]:
    """Decide whether a step is compiled, and compile it.

    Args:
        gradients: The step.
        example: Inputs to trace with, on the CPU.
        wish: The setting.
        plan: What `worth_compiling` says of the training.

    Returns:
        The step, and how it is carried out and why, for a reader.

    Raises:
        InputError: If it is to be compiled in any case, and cannot be.
    """
    worth, why = plan
    if wish == "never" or (wish == "auto" and not worth):
        return gradients, f"eager step: {'compile is never' if wish == 'never' else why}"
    try:
        compiled = compile_step(gradients.pure, example)
    except CompilationError as error:
        if wish == "always":
            raise InputError(
                f"the step cannot be compiled: {error}. It needs a C++ compiler (g++ or clang++) and torch 2.6 or "
                "later; or set compile to auto"
            ) from None
        return gradients, f"eager step: {error}"
    return compiled, f"compiled step: {'compile is always' if wish == 'always' else why}"


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
    values, _, *batch = (x.detach() for x in example)

    def check(compiled: StepFunction) -> bool:
        gradient, expected = (torch.full_like(values, torch.nan) for _ in range(2))
        rates = compiled(values, gradient, *batch)
        expected_rates = function(values, expected, *batch)
        # At the start of a training the rates are exactly 0, which rounding need not meet: hence nats for a scale.
        same = torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
        return same and torch.allclose(rates, expected_rates, rtol=1e-3, atol=1e-5)

    return compile_function(function, example, check, what="step")


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
