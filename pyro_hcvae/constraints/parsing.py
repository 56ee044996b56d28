"""Reads the short text of a constraint, e.g. ``Pt+Rh <= 1`` or ``supports in MgO, SiO2``.

Names may hold spaces, dots, dashes and parentheses, so they are matched against those of the schema, the longest first. A name in
double quotes is taken as it stands.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from pyro_hcvae.constraints.language import (
    LEADING,
    Cost,
    Count,
    Exclude,
    Fix,
    Item,
    NotDone,
    Novelty,
    Only,
    Range,
    Require,
    Shared,
    Sum,
    Value,
)
from pyro_hcvae.constraints.vocabulary import Vocabulary, code_of
from pyro_hcvae.data.schema import RecipeSchema, Step, describe
from pyro_hcvae.errors import InputError

_NUMBER = r"[-+]?(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_BETWEEN = re.compile(rf"({_NUMBER})?\s*\.\.\s*({_NUMBER})?")
_COMPARED = re.compile(rf"(<=|>=|==?|≤|≥)\s*({_NUMBER})")
_COUNTED = re.compile(r"(?:(exactly)|at (least)|at (most))\s+(\d+)")
_TAIL = re.compile(rf"[<>=≤≥]|\.\.|{_NUMBER}(?=\s|\.\.|$)|(?:in|at|exactly)\b")
_WORD = re.compile(r"[^,+<>=≤≥]+?(?=\s*(?:[,+<>=≤≥]|\.\.|$|\s(?:in|at|exactly)\s|\s[-+]?\.?\d))")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_BORDER = " \t\n,+<>=≤≥"
_FORMS = (
    "the forms are: exclude A B; require A; no STEP; BLOCK in A, B; A = 5; A 2..10; A >= 2; A+B <= 1; total BLOCK <= 20; "
    "BLOCK at most 2; cost <= 5; novelty >= 0.5; same COLUMN"
)


def parse(text: str, schema: RecipeSchema, *, source: str = "constraint") -> Item:
    """Read one constraint.

    Args:
        text: As a user writes it.
        schema: Its columns, blocks and codes are the names.
        source: What the error message calls the place: a file and a line, or an option.

    Raises:
        InputError: If it cannot be read; quotes it, and says what is possible.
    """
    try:
        return _Reader(text.strip(), Vocabulary(schema)).item()
    except ValidationError as error:
        raise InputError(f"{source} {text!r}: {describe(error)}") from None
    except InputError as error:
        raise InputError(f"{source} {text!r}: {error}") from None


class _Reader:
    """One pass over a text, from left to right."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary, self.at = text, vocabulary, 0
        self.added = self.phrases = False

    def item(self) -> Item:
        word, _, rest = self.text.partition(" ")
        if word not in LEADING:
            return self.led_by_names()
        self.at = len(word) + 1
        match word:
            case "exclude" | "no":
                names = self.names(self.vocabulary.names)
                if len(names) == 1 and isinstance(self.vocabulary.blocks.get(names[0]), Step):
                    return NotDone(step=names[0])
                return Exclude(names=names)
            case "require":
                return Require(names=self.names(self.vocabulary.names))
            case "same":
                return Shared(names=self.names(self.vocabulary.names))
            case "cost":
                low, high = self.limits(rest.strip())
                if low is not None or high is None:
                    raise InputError("write the most that a recipe may cost, e.g. cost <= 5")
                return Cost(maximum=high)
            case "novelty":
                low, high = self.limits(rest.strip())
                if high is not None or low is None:
                    raise InputError("write the smallest distance to a known recipe, e.g. novelty >= 0.5")
                return Novelty(minimum=low)
            case "total":
                names = self.names(self.vocabulary.names, tail=True)
                low, high = self.limits(self.rest(), names[0])
                return Sum(names=names, minimum=low, maximum=high)
            case _:
                names = self.names(self.vocabulary.names, tail=True)
                low, high = self.limits(self.rest(), names[0])
                return Range(names=names, minimum=low, maximum=high)

    def led_by_names(self) -> Item:
        names = self.names(self.vocabulary.names, tail=True)
        tail, added = self.rest(), self.added
        if re.match(r"in\b", tail):
            if len(names) > 1:
                raise InputError("name one block before 'in'")
            self.at = len(self.text) - len(tail) + 2
            return Only(block=names[0], allowed=self.allowed(names[0]))
        if _COUNTED.match(tail):
            return self.count(names, tail)
        if added:
            low, high = self.limits(tail, names[0])
            return Sum(names=names, minimum=low, maximum=high)
        if re.match(r"==?(?!=)", tail) and len(names) == 1:
            return self.fix(names[0], tail.lstrip("=").strip())
        low, high = self.limits(tail, names[0])
        return Range(names=names, minimum=low, maximum=high)

    def count(self, names: tuple[str, ...], tail: str) -> Count:
        limits: dict[str, int] = {}
        for part in tail.split(" and "):
            found = _COUNTED.fullmatch(part.strip())
            if not found:
                raise InputError(f"cannot read {part.strip()!r}: write at most 2, at least 1, or exactly 2")
            exactly, least, _, number = found.groups()
            for name in ("minimum", "maximum") if exactly else ("minimum",) if least else ("maximum",):
                if name in limits:
                    raise InputError(f"the {name} is given twice")
                limits[name] = int(number)
        return Count(names=names, minimum=limits.get("minimum"), maximum=limits.get("maximum"))

    def fix(self, name: str, text: str) -> Item:
        if isinstance(self.vocabulary.blocks.get(name), Step):
            if text in ("none", "not done"):
                return NotDone(step=name)
            raise InputError(f"{name!r} is a step: fix one of its settings, or write: no {name}")
        category = self.vocabulary.category(name)
        if category is not None:
            value: Any = json.loads(text) if _QUOTED.fullmatch(text) else text
            return Fix(column=category.column, value=code_of(category, value))
        low, high = self.limits(f"= {text}", name)
        if low is None or low != high:  # pragma: no cover - "= NUMBER" gives both
            raise InputError(_FORMS)
        return Fix(column=name, value=low)

    def limits(self, text: str, name: str = "") -> tuple[float | None, float | None]:
        """Minimum and maximum of ``2..10``, ``<= 10``, ``>= 2`` or ``= 5``; the unit of the column may follow."""
        unit = self.vocabulary.schema.units().get(name, "")
        bare = text.removesuffix(unit).strip() if unit else text.strip()
        if found := _BETWEEN.fullmatch(bare):
            low, high = (None if part is None else _finite(part) for part in found.groups())
            if low is not None or high is not None:
                return low, high
        if found := _COMPARED.fullmatch(bare):
            sign, value = found[1], _finite(found[2])
            return (None if sign in ("<=", "≤") else value), (None if sign in (">=", "≥") else value)
        if not bare:
            raise InputError(f"it says nothing of what it names; {_FORMS}")
        if re.match(r"[<>](?![=])", bare):
            raise InputError(f"cannot read {bare!r}: limits are inclusive, write <= or >=")
        raise InputError(
            f"cannot read {bare!r}: write 2..10, <= 10, >= 2 or = 5, numbers with a decimal point"
            + (f", in {unit} or without a unit" if unit else "")
        )

    def allowed(self, name: str) -> tuple[Value, ...]:
        category = self.vocabulary.category(name)
        if category is None:
            return self.names(self.vocabulary.names)
        texts = [t for code in category.codes for t in (str(code), category.labels.get(str(code), str(code)))]
        return tuple(code_of(category, text) for text in self.names(texts))

    def names(self, known: Sequence[str], *, tail: bool = False) -> tuple[str, ...]:
        """Names up to the end, or up to what follows them; separated by blanks, commas or plus signs."""
        self.phrases = tail or self.text.startswith("same ")
        found: list[str] = []
        signs: set[str] = set()
        while True:
            found.append(self.name(known))
            rest = self.rest()
            if not rest:
                break
            if rest[0] in ",+":
                signs.add(rest[0])
                self.at = len(self.text) - len(rest) + 1
                continue
            if tail and _TAIL.match(rest) and self.longest(known, rest) is None:
                break
            signs.add(" ")
        if "+" in signs and len(signs) > 1:
            raise InputError("join names by plus signs or by commas, not by both")
        self.added = "+" in signs
        return tuple(found)

    def name(self, known: Sequence[str]) -> str:
        rest = self.rest()
        self.at = len(self.text) - len(rest)
        if found := _QUOTED.match(rest):
            self.at += found.end()
            try:
                name = str(json.loads(found[0]))
            except ValueError:
                raise InputError(f"cannot read {found[0]}: a backslash in quotes takes another one") from None
            if name not in known:
                raise InputError(self.unknown(name, known))
            return name
        longest = self.longest(known, rest)
        if longest is None:
            if not rest:
                raise InputError(f"a name is missing at its end; {_FORMS}")
            # In a plain list a blank parts names; elsewhere the name may go on behind it.
            word = (_WORD if self.phrases else re.compile(r"[^\s,+]+")).match(rest)
            raise InputError(self.unknown(word[0].strip() if word else rest, known))
        self.at += len(longest)
        return longest

    def longest(self, known: Sequence[str], text: str) -> str | None:
        """The longest known name that a text begins with, up to a border of words."""
        fits = (n for n in known if text.startswith(n) and _ends_word(text[len(n) :]))
        return max(fits, key=len, default=None)

    def unknown(self, name: str, known: Sequence[str]) -> str:
        first = name.split(" ", maxsplit=1)[0]
        if self.text.startswith(name) and (close := get_close_matches(first, LEADING, n=1, cutoff=0.75)):
            return f"unknown word {first!r}; did you mean {close[0]!r}? {_FORMS}"
        if name in ("exclude", "require", "no", "same", "total", "each"):
            return f"{name!r} must come first, and names after it; {_FORMS}"
        return f"unknown name {name!r}; {self.vocabulary.suggest(name, tuple(known))}"

    def rest(self) -> str:
        return self.text[self.at :].lstrip()


def _ends_word(text: str) -> bool:
    """Whether a name may end before a text."""
    return not text or text[0] in _BORDER or text.startswith("..")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise InputError(f"{text} is beyond the largest number there is: leave the limit out, or write a smaller one")
    return value
