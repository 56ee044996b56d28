"""Hypothesis strategies: schemas, and frames of valid recipes of a schema.

The frames are canonical, as `RecipeTable.frame` holds them: shares sum to their total, a step that was not carried out
holds ``absent`` everywhere, a 0 stands only where the schema gives it a meaning.
"""

import numpy as np
import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st

from pyro_hcvae.data.rule_base import Where
from pyro_hcvae.data.rules import Caps, Count, Ordering, Range, Sum
from pyro_hcvae.data.schema import (
    Amounts,
    Block,
    Category,
    Column,
    Feed,
    Fractions,
    Performance,
    RecipeSchema,
    Stage,
    Step,
    StepColumn,
)
from pyro_hcvae.data.tabled_rules import Observed

QUICK = settings(max_examples=40)
"""For tests of the data package."""
_LETTERS = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
NAMES = st.one_of(
    st.sampled_from(["Ni", "Al2O3", "T / K", "Ni (mol%)", 'a"b', "c\\d", "x = 1", "# no", "[y]", "温度", "é"]),
    st.text(_LETTERS, min_size=1, max_size=6),
)
"""Column names, among them such as need quoting in TOML."""
STAGES = (("only",), ("composition", "activation"), ("metal", "support", "pretreat"))
_LOW = st.sampled_from([0.01, 0.5, 20.0])
_SPAN = st.sampled_from([1.0, 80.0, 1000.0])


class _Names:
    """Hands out names of which none is given twice."""

    def __init__(self, draw):
        self.draw, self.used = draw, {name for names in STAGES for name in names}

    def __call__(self):
        name = self.draw(NAMES.filter(lambda n: n not in self.used))
        self.used.add(name)
        return name

    def several(self, low, high):
        return tuple(self() for _ in range(self.draw(st.integers(low, high))))


@st.composite
def columns(draw, kind=Column, *, names=None, **fixed):
    """A numeric column with or without limits."""
    name = names() if names else draw(NAMES)
    transform = draw(st.sampled_from(["linear", "log", "log1p"]))
    minimum = draw(st.none() | _LOW)
    maximum = draw(st.none() | _SPAN.map(lambda s: (minimum or 0.0) + s))
    return kind(
        name=name, transform=transform, minimum=minimum, maximum=maximum,
        unit=draw(st.sampled_from(["", "K", "mL/(g h)", "°C"])),
        typical=draw(st.none() | st.just((1.0, 2.0))),
        resolution=draw(st.none() | st.just(0.05)),
        description=draw(st.sampled_from(["", "two\nlines", 'a "quoted" word'])),
        **fixed,
    )  # fmt: skip


@st.composite
def blocks(draw, names, kinds=(Amounts, Fractions, Category, Step)):
    """One block of any kind."""
    kind, name = draw(st.sampled_from(kinds)), names()
    if kind is Amounts:
        own = names.several(1, 4)
        return Amounts(
            name=name, columns=own, unit=draw(st.sampled_from(["wt%", "mol%"])),
            max_present=draw(st.none() | st.integers(1, len(own))), max_total=draw(st.none() | st.just(1e6)),
        )  # fmt: skip
    if kind is Fractions:
        own = names.several(1, 4)
        return Fractions(
            name=name, columns=own, total=draw(st.sampled_from([1.0, 100.0])), may_be_empty=draw(st.booleans()),
            max_present=draw(st.none() | st.integers(1, len(own))),
        )  # fmt: skip
    if kind is Category:
        codes = draw(
            st.lists(st.integers(-2, 30), min_size=1, max_size=4, unique=True)
            | st.lists(st.sampled_from(["air", "N2", "None", "H2 in Ar", "ß"]), min_size=1, max_size=4, unique=True)
        )
        return Category(name=name, column=names(), codes=tuple(codes), labels={str(codes[0]): "first"})
    settings = [draw(columns(StepColumn, names=names))]
    for _ in range(draw(st.integers(0, 2))):
        meaning = draw(st.none() | st.just("inert gas"))
        settings.append(draw(columns(StepColumn, names=names, zero_means=meaning)))
    return Step(name=name, columns=tuple(settings), optional=draw(st.booleans()))


@st.composite
def schemas(draw, kinds=(Amounts, Fractions, Category, Step)):
    """A schema of one to three stages over any kinds of blocks, with or without a feed."""
    names = _Names(draw)
    stages = tuple(
        Stage(name=name, blocks=tuple(draw(blocks(names, kinds)) for _ in range(draw(st.integers(1, 2)))))
        for name in draw(st.sampled_from(STAGES))
    )
    feed = None
    if draw(st.booleans()):
        reactants = names.several(2, 3)
        feed = Feed(
            reactants=reactants, diluents=names.several(0, 2), total=draw(st.sampled_from([1.0, 100.0])),
            ratios=tuple(names() for _ in reactants[1:]), diluent=names(),
        )  # fmt: skip
    conditions = tuple(draw(columns(names=names)) for _ in range(draw(st.integers(0, 2))))
    known = tuple(c.name for c in conditions) + (feed.names() if feed else ())
    coded = {block.column for stage in stages for block in stage.blocks if isinstance(block, Category)}
    recipe = [name for stage in stages for block in stage.blocks for name in block.names()]
    numbers = [name for name in (*recipe, *known) if name not in coded]
    return RecipeSchema(
        name=draw(NAMES), title=draw(st.sampled_from(["", "A title"])), stages=stages, conditions=conditions, feed=feed,
        performance=draw(columns(Performance, names=names, higher_is_better=draw(st.booleans()))),
        laboratory=draw(st.just(()) | st.just(known[:1])), identifiers=names.several(0, 2),
        rules=draw(rules(numbers)) if numbers else (),
    )  # fmt: skip


@st.composite
def rules(draw, numbers):
    """Up to four rules on some columns of numbers, of different kinds."""
    some = st.lists(st.sampled_from(numbers), min_size=1, max_size=3, unique=True).map(tuple)
    severity = draw(st.sampled_from(["hard", "strong warning", "warning", "note"]))
    unless = draw(st.none() | st.just(0.0))
    where = draw(st.just(()) | st.builds(Where, columns=some, above=_LOW).map(lambda clause: (clause,)))
    every = (
        Range(
            name="range", columns=draw(some), minimum=draw(st.none() | _LOW), maximum=draw(_SPAN) + 20, unless=unless
        ),
        Sum(name="sum", columns=draw(some), maximum=draw(_SPAN), severity=severity, reason='a "reason"'),
        Count(name="count", columns=draw(some), maximum=draw(st.integers(0, 3)), source="source", where=where),
        Caps(name="caps", limits=dict.fromkeys(draw(some), draw(_SPAN)), advice=draw(st.booleans()), where=where),
        Observed(name="observed", columns=draw(some), numbers=draw(some), minimum_rows=3, unless=unless),
        Ordering(name="order", lower=draw(some)[0], upper=draw(some)[0], offset=draw(_LOW), unless=unless),
    )
    return tuple(draw(st.lists(st.sampled_from(every), max_size=4, unique_by=lambda rule: rule.name)))


@st.composite
def frames(draw, schema, *, min_rows=1, max_rows=6):
    """Canonical rows of a schema, every cell known."""
    rows = draw(st.integers(min_rows, max_rows))
    # Numbers come from a seeded generator and structure from hypothesis: shrinking stays quick.
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = {}
    for block in schema.blocks:
        parts |= _block_cells(draw, random, block, rows)
    for column in (*schema.conditions, schema.performance):
        parts[column.name] = _inside(random, column, rows)
    if schema.feed is not None:
        shares = random.uniform(0.1, 1.0, (rows, len(schema.feed.names())))
        shares[:, len(schema.feed.reactants) :] *= random.random(rows)[:, None] < 0.7
        shares *= schema.feed.total / shares.sum(axis=1, keepdims=True)
        parts |= dict(zip(schema.feed.names(), shares.T, strict=True))
    return pd.DataFrame(parts, index=pd.RangeIndex(2, rows + 2))[list(schema.columns)]


def _inside(random, column, rows):
    """Values within the limits of a column, 0 never among them."""
    low = column.bounds[0] if np.isfinite(column.bounds[0]) else -50.0
    high = min(column.bounds[1], low + 900.0)
    values = low + (high - low) * random.uniform(0.01, 0.99, rows)
    return np.where(random.random(rows) < 0.3, values[0], values)  # tables repeat themselves


def _block_cells(draw, random, block: Block, rows):
    if isinstance(block, Amounts | Fractions):
        sizes = [draw(st.sampled_from(block.set_sizes)) for _ in range(rows)]
        present = np.zeros((rows, len(block.columns)), dtype=bool)
        for row, size in enumerate(sizes):
            present[row, random.permutation(len(block.columns))[:size]] = True
        if isinstance(block, Amounts):
            values = np.exp(random.uniform(-5.0, 4.0, present.shape)) * present
        else:
            values = random.uniform(0.02, 1.0, present.shape) * present
            total = values.sum(axis=1, keepdims=True)
            values = block.total * values / np.where(total > 0, total, 1.0)
        return dict(zip(block.columns, values.T, strict=True))
    if isinstance(block, Category):
        return {block.column: np.array([draw(st.sampled_from(block.codes)) for _ in range(rows)], dtype=object)}
    states = np.array([draw(st.integers(0, len(block.states) - 1)) for _ in range(rows)])
    applies = np.array(block.applies())[states]
    cells = {}
    for i, column in enumerate(block.columns):
        cells[column.name] = np.where(applies[:, i], _inside(random, column, rows), 0.0)
        if block.optional:
            cells[column.name][states == 0] = block.absent
    return cells


@st.composite
def schemas_with_frames(draw, *, min_rows=1, max_rows=6, kinds=(Amounts, Fractions, Category, Step)):
    """A schema and canonical rows of it."""
    schema = draw(schemas(kinds))
    return schema, draw(frames(schema, min_rows=min_rows, max_rows=max_rows))
