"""`CompiledDraws`: the pass of the model that draws recipes, compiled ahead of time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_hcvae.data.batch import Layout
from pyro_hcvae.model.compilation import TensorFunction, compile_function
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.predictive import draw_once, drawing_scope, rows_at_once

_BUILD_SECONDS = 75.0
_SAVED_SECONDS = 14e-6
"""What a draw saves that is compiled (docs/benchmarks.md)."""


def worth_compiling(draws: int) -> bool:
    """Whether so many draws pay for compiling their pass.

    Decided from the plan alone, not from the clock or from what the cache holds: a seed gives the same bits again.
    """
    return draws * _SAVED_SECONDS >= _BUILD_SECONDS


class CompiledDraws:
    """`draw_once` for whole chunks of `draw_recipes`, compiled or loaded from the cache; on the CPU.

    The random numbers are the same ones: draws differ from uncompiled ones by rounding, and where rounding decides. Parameters
    are handed in: what is compiled serves every run of the same schema, settings and number of members.

    Args:
        model: Trained members; the values that their parameters have at the time of a call are used.
        layout: Where each site lies in a packed row.

    Attributes:
        model: The members.

    Raises:
        CompilationError: If there is no C++ compiler, if torch cannot compile the pass, or if the result is wrong.
    """

    def __init__(self, model: HierarchicalCVAE, layout: Layout) -> None:
        self.model = model
        self._pass = _Pass(model, layout)
        self._names, self._parameters = zip(*self._pass.named_parameters(), strict=True)
        rows = rows_at_once(model.members)
        with drawing_scope(0, rows=rows * model.members):  # tracing draws random numbers
            conditions = torch.randn(model.members, rows, layout.condition_features)
            example = [conditions.masked_fill(torch.rand_like(conditions) < 0.2, torch.nan), *self._values()]
            self._compiled = compile_function(self._function, example, lambda f: self._check(f, example), what="draw")

    def __call__(self, conditions: Tensor) -> Tensor:
        """Condition features ``(M, B, C)`` of a whole chunk -> packed draws ``(M, B, W)``."""
        # What is compiled does not look at strides: they have to be those of the example.
        return self._compiled(conditions.contiguous(), *self._values())

    def _values(self) -> list[Tensor]:
        # Those of a trained network are parts of one tensor, those of a loaded one are not.
        return [p.detach().contiguous() for p in self._parameters]

    def _function(self, conditions: Tensor, *values: Tensor) -> Tensor:
        drawn: Tensor = functional_call(self._pass, dict(zip(self._names, values, strict=True)), conditions)
        return drawn

    def _check(self, compiled: TensorFunction, example: list[Tensor]) -> bool:
        drawn = []
        for function in (compiled, self._function):
            with drawing_scope(0, rows=example[0].shape[0] * example[0].shape[1]):
                drawn.append(function(*example))
        same = torch.isclose(drawn[0], drawn[1], rtol=1e-3, atol=1e-4, equal_nan=True).all(dim=-1)
        return bool(same.float().mean() > 0.999)  # all but those for which rounding decides what is drawn


class _Pass(nn.Module):
    """`draw_once` as a module, so that its parameters can be handed in."""

    def __init__(self, model: HierarchicalCVAE, layout: Layout) -> None:
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, conditions: Tensor) -> Tensor:
        return draw_once(self.model, self.layout, conditions)
