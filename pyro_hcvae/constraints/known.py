"""What constraints pin for certain, found by propagation and not by solving: enough to condition a generator on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyro_hcvae.constraints.language import Count, Exclude, Fix, Item, NotDone, Only, Require
from pyro_hcvae.constraints.vocabulary import Vocabulary, code_of
from pyro_hcvae.data.schema import Category, Code, Fractions, Step


@dataclass(frozen=True)
class Known:
    """What is certain of one column.

    Attributes:
        present: Whether its component is present, or its cell holds a number of a step that is carried out; None: open. A code
            is always present.
        value: Its cell, if only one is possible: an amount, a share, a setting, a code; what stands for "absent" where it is.
    """

    present: bool | None = None
    value: float | Code | None = None


def known_part(items: Sequence[Item], vocabulary: Vocabulary) -> dict[str, Known]:
    """Propagate what items say of single columns.

    Args:
        items: Constraints. Where two contradict each other, the first that speaks of a column is taken (`feasible` names them).
        vocabulary: Names of the schema.

    Returns:
        One entry a recipe column.
    """
    part = {name: Known() for name in vocabulary.home}
    for block in vocabulary.schema.blocks:
        if isinstance(block, Category):
            part[block.column] = Known(True, block.codes[0] if len(block.codes) == 1 else None)
        elif isinstance(block, Step):
            _carried_out(part, block, certain=not block.optional)
    for item in items:
        match item:
            case Exclude():
                _absent(part, vocabulary.components(item.names))
            case Require():
                for name in item.names:
                    step = vocabulary.blocks.get(name)
                    if isinstance(step, Step):
                        _carried_out(part, step, certain=True)
                    else:
                        _all_of(part, vocabulary.components([name]), 1)
            case Only():
                if (category := vocabulary.category(item.block)) is not None:
                    if len(item.allowed) == 1:
                        part[category.column] = Known(True, code_of(category, item.allowed[0]))
                else:
                    _absent(part, [c for c in vocabulary.components([item.block]) if c not in item.allowed])
            case NotDone():
                skipped = vocabulary.step(item.step)
                part |= dict.fromkeys(skipped.names(), Known(False, skipped.absent))
            case Fix():
                _fixed(part, item, vocabulary)
            case _:
                pass
    _count(part, items, vocabulary)
    return part


def _carried_out(part: dict[str, Known], step: Step, *, certain: bool) -> None:
    for column in step.columns:
        if certain and column.zero_means is None and part[column.name].present is None:
            part[column.name] = Known(True)


def _absent(part: dict[str, Known], columns: Sequence[str]) -> None:
    for name in columns:
        if part[name].present is None:
            part[name] = Known(False, 0.0)


def _all_of(part: dict[str, Known], columns: Sequence[str], minimum: int) -> None:
    """At least ``minimum`` of some components are present: all that can be, if no more can."""
    possible = [name for name in columns if part[name].present is not False]
    if len(possible) <= minimum:
        for name in possible:
            if part[name].present is None:
                part[name] = Known(True)


def _fixed(part: dict[str, Known], item: Fix, vocabulary: Vocabulary) -> None:
    block = vocabulary.home[item.column]
    if isinstance(block, Category):
        part[item.column] = Known(True, code_of(block, item.value))
        return
    value = float(item.value)
    if not isinstance(block, Step):
        part[item.column] = Known(value > 0, value)
        return
    column = vocabulary.settings[item.column]
    if block.optional and value == block.absent:
        if item.column == block.columns[0].name:
            for name in block.names():
                part[name] = Known(False, block.absent)
        else:  # not done, or done with this very number
            part[item.column] = Known(part[item.column].present, value)
        return
    _carried_out(part, block, certain=True)
    part[item.column] = Known(not (column.zero_means is not None and value == 0), value)


def _count(part: dict[str, Known], items: Sequence[Item], vocabulary: Vocabulary) -> None:
    """Use up how many components there may be, until nothing more follows."""
    limits = [(block.columns, block.set_sizes[0], block.set_sizes[-1]) for block in vocabulary.component_blocks] + [
        (vocabulary.components(item.names), item.minimum or 0, len(part) if item.maximum is None else item.maximum)
        for item in items
        if isinstance(item, Count)
    ]
    before = None
    while before != part:
        before = dict(part)
        for columns, minimum, maximum in limits:
            if sum(part[name].present is True for name in columns) >= maximum:
                _absent(part, columns)
            if minimum:
                _all_of(part, columns, minimum)
    for block in vocabulary.component_blocks:
        if isinstance(block, Fractions):
            left = [name for name in block.columns if part[name].present is not False]
            if len(left) == 1 and part[left[0]].present and part[left[0]].value is None:
                part[left[0]] = Known(True, block.total)
