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
"""Time to name a conflict; what could not be checked by then counts as part of it."""


@dataclass(frozen=True)
class Conflict:
    """Constraints that cannot hold together.

    Attributes:
        items: The constraints. Without any one of them the others, and the whole schema, can hold.
        limits: What of the schema takes part, in words; it may be empty.
        minimal: Whether each of them was shown to be needed; False if the time was over before.
    """

    items: tuple[Item, ...]
    limits: tuple[str, ...]
    minimal: bool = True

    def __str__(self) -> str:
        texts = [f"'{item}'" for item in self.items]
        limits = f" (schema: {'; '.join(self.limits)})" if self.limits else ""
        if not texts:
            return f"the schema itself has no recipe{limits}: correct the schema"
        if len(texts) == 1:
            return f"no recipe satisfies {texts[0]}{limits}: drop or loosen it" + (
                ", or change the schema" if limits else ""
            )
        if len(texts) == 2 and not limits:
            return f"{texts[0]} contradicts {texts[1]}: drop or loosen one of them"
        among = "" if self.minimal else "among "
        return f"no recipe satisfies {among}these together: {', '.join(texts)}{limits}. Drop or loosen one of them" + (
            ", or change the schema" if limits else ""
        )


def feasible(constraints: Constraints) -> Conflict | None:
    """Decide whether a recipe exists that satisfies all constraints, the structure of the schema and its hard rules.

    `Novelty` and `Shared`, which speak of other recipes, are not looked at.

    Returns:
        None if there is one; else a conflict, found by leaving out one constraint after the other (deletion filter): first the
        items, then the limits of the schema.

    Raises:
        InputError: If the solver finds no answer in a second. That is not known to happen.
    """
    program = compile_program(constraints)
    until = time.monotonic() + _SECONDS
    items, limits = list(range(len(constraints.items))), program.limits
    try:
        if solution(program, items, limits, until=until):
            return None
    except TimeLimitError:
        raise InputError(
            f"it could not be decided in time whether these constraints can hold together: {constraints}. Use fewer of them"
        ) from None
    search = _Search(program, items, limits, until)
    search.narrow(items)
    search.narrow(limits)
    return Conflict(tuple(constraints.items[i] for i in search.items), tuple(search.limits), search.minimal)


@dataclass
class _Search:
    """Deletion filter: leaves out whatever is not needed for the contradiction."""

    program: Program
    items: list[int]
    limits: list[str]
    until: float
    minimal: bool = True

    def narrow(self, part: Sequence[Group]) -> None:
        """Leave out as much of a part as possible: all of it, or else of each of its halves."""
        items = [i for i in self.items if i not in part]
        limits = [limit for limit in self.limits if limit not in part]
        try:
            needed = solution(self.program, items, limits, until=self.until)
        except TimeLimitError:
            self.minimal = False
            return
        if not needed:
            self.items, self.limits = items, limits
        elif len(part) > 1:
            self.narrow(part[: len(part) // 2])
            self.narrow(part[len(part) // 2 :])


def solution(program: Program, items: list[int], limits: list[str], *, until: float) -> bool:
    """Whether the program has a point under some of its items and limits.

    Raises:
        TimeLimitError: If the time is over.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeLimitError
    return program.problem(items, limits).solve(time_limit=left) is not None
