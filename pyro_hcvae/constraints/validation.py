"""Whether a constraint makes sense under a schema, before any recipe is looked at."""

from __future__ import annotations

from pyro_hcvae.constraints.language import (
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
)
from pyro_hcvae.constraints.vocabulary import Vocabulary, code_of
from pyro_hcvae.data.schema import Amounts, Category, Fractions, Step
from pyro_hcvae.errors import InputError


def check_item(item: Item, vocabulary: Vocabulary) -> None:
    """Check one item.

    Raises:
        InputError: If it names what the schema does not have, or asks what no column can hold.
    """
    match item:
        case Exclude() | Count():
            if isinstance(item, Exclude) and (step := next((n for n in item.names if n in _steps(vocabulary)), None)):
                raise InputError(f"{step!r} is a step: write: no {step}")
            vocabulary.components(item.names)
        case Require():
            for name in item.names:
                if name not in _steps(vocabulary):
                    vocabulary.components([name])
        case Only():
            _check_only(item, vocabulary)
        case Fix():
            _check_fix(item, vocabulary)
        case NotDone():
            if not vocabulary.step(item.step).optional:
                raise InputError(f"every recipe has the step {item.step!r}: it is not optional in the schema")
        case Range():
            for name in item.names:
                if name in vocabulary.blocks:
                    raise InputError(
                        f"{name!r} is a block: write 'total {name}' for the sum of its components, or name the columns"
                    )
                if isinstance(vocabulary.home[vocabulary.column(name)], Category):
                    raise InputError(f"{name!r} holds codes: write {name} = CODE, or {name} in CODE, CODE")
        case Sum():
            units = {c: vocabulary.home[c].unit for c in vocabulary.components(item.names)}  # type: ignore[union-attr]
            if len(set(units.values())) > 1:
                raise InputError(f"these have different units ({', '.join(sorted(set(units.values())))}) and no sum")
        case Shared():
            vocabulary.columns(item.names)
        case Cost() | Novelty():
            pass


def _steps(vocabulary: Vocabulary) -> set[str]:
    return {name for name, block in vocabulary.blocks.items() if isinstance(block, Step)}


def _check_only(item: Only, vocabulary: Vocabulary) -> None:
    if (category := vocabulary.category(item.block)) is not None:
        for code in item.allowed:
            code_of(category, code)
        return
    block = vocabulary.blocks.get(item.block)
    if not isinstance(block, Amounts | Fractions):
        known = tuple(
            b.column if isinstance(b, Category) else b.name for b in vocabulary.schema.blocks if not isinstance(b, Step)
        )
        raise InputError(
            f"{item.block!r} is no block of components and no column of codes; {vocabulary.suggest(item.block, known)}"
        )
    for name in item.allowed:
        if name not in block.columns:
            raise InputError(
                f"{name!r} is no component of {block.name!r}; {vocabulary.suggest(str(name), block.columns)}"
            )


def _check_fix(item: Fix, vocabulary: Vocabulary) -> None:
    block = vocabulary.home[vocabulary.column(item.column)]
    if isinstance(block, Category):
        code_of(block, item.value)
        return
    if isinstance(item.value, str):
        raise InputError(f"{item.column!r} holds numbers, not {item.value!r}")
    if isinstance(block, Step):
        column = vocabulary.settings[item.column]
        low, high = column.bounds
        special = (item.value == 0 and column.zero_means is not None) or (block.optional and item.value == block.absent)
        number = low <= item.value <= high and not (column.transform == "log" and item.value == 0)
        if not (number or special):
            raise InputError(f"{item.column!r} lies within {low:g} to {high:g} {column.unit}".rstrip())
    elif item.value < 0:
        raise InputError(f"{item.column!r} cannot be negative")
    elif isinstance(block, Fractions) and item.value > block.total:
        raise InputError(f"{item.column!r} is a share of {block.total:g}")
