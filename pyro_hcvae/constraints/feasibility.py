"""Whether any recipe satisfies a set of constraints, and if none does, which of them cannot hold together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.constraints.language import Item
from pyro_hcvae.constraints.program import Group, Program, TimeLimitError
from pyro_hcvae.constraints.rows import compile_program
from pyro_hcvae.errors import InputError

_SECONDS = 0.8
"""Time to name a conflict, of this process: a busy machine must not change what is named."""


@dataclass(frozen=True)
class Conflict:
    """Constraints that cannot hold together.

    Attributes:
        items: The constraints. Without any one of them the others, and the whole schema, can hold, if ``minimal``.
        limits: What of the schema takes part, in words; it may be empty. None: the time was over before that was known.
        minimal: Whether each of the constraints was shown to be needed; False if the time was over before.
    """

    items: tuple[Item, ...]
    limits: tuple[str, ...] | None
    minimal: bool = True

    def __str__(self) -> str:
        texts = [f"'{item}'" for item in self.items]
        limits = f" (schema: {'; '.join(self.limits)})" if self.limits else ""
        if not texts:
            return f"the schema itself has no recipe{limits}: correct the schema"
        if not self.minimal:
            return (
                f"no recipe satisfies all constraints; the reason is among these: {', '.join(texts)} (there was no time to "
                "narrow it down). Drop or loosen some of them"
            )
        if len(texts) == 1:
            return f"no recipe satisfies {texts[0]}{limits}: drop or loosen it" + (
                ", or change the schema" if limits else ""
            )
        if len(texts) == 2 and self.limits == ():
            return f"{texts[0]} contradicts {texts[1]}: drop or loosen one of them"
        return f"no recipe satisfies these together: {', '.join(texts)}{limits}. Drop or loosen one of them" + (
            ", or change the schema" if limits else ""
        )


def feasible(constraints: Constraints) -> Conflict | None:
    """Decide whether a recipe exists that satisfies all constraints, the structure of the schema and its hard rules.

    `Novelty` and `Shared`, which speak of other recipes, are not looked at, nor are hard rules that apply to some recipes only
    (``where``): None does not promise that a recipe which can be made is left by those.

    Returns:
        None if there is one; else a conflict, found by leaving out one constraint after the other (deletion filter): first the
        items, then the limits of the schema.

    Raises:
        InputError: If the solver finds no answer in 0.8 s of computing. That is not known to happen.
    """
    program = compile_program(constraints)
    until = time.process_time() + _SECONDS
    items, limits = list(range(len(constraints.items))), program.limits
    try:
        if solution(program, items, limits, until=until):
            return None
    except TimeLimitError:
        raise InputError(
            f"it could not be decided in time whether these constraints can hold together: {constraints}. Use fewer of them"
        ) from None
    search = _Search(program, items, limits, until)
    minimal = search.narrow(items)
    known = minimal and search.narrow(limits)
    return Conflict(tuple(constraints.items[i] for i in search.items), tuple(search.limits) if known else None, minimal)


@dataclass
class _Search:
    """Deletion filter: leaves out whatever is not needed for the contradiction."""

    program: Program
    items: list[int]
    limits: list[str]
    until: float

    def narrow(self, part: Sequence[Group]) -> bool:
        """Leave out as much of a part as possible: all of it, or else of each of its halves.

        Returns:
            Whether all that is left of the part was shown to be needed; False if the time was over before.
        """
        items = [i for i in self.items if i not in part]
        limits = [limit for limit in self.limits if limit not in part]
        try:
            needed = solution(self.program, items, limits, until=self.until)
        except TimeLimitError:
            return False
        if not needed:
            self.items, self.limits = items, limits
        elif len(part) > 1:
            first = self.narrow(part[: len(part) // 2])
            return self.narrow(part[len(part) // 2 :]) and first
        return True


def solution(program: Program, items: list[int], limits: list[str], *, until: float) -> bool:
    """Whether the program has a point under some of its items and limits.

    Raises:
        TimeLimitError: If the time is over.
    """
    left = until - time.process_time()
    if left <= 0:
        raise TimeLimitError
    return program.problem(items, limits).solve(time_limit=left) is not None
