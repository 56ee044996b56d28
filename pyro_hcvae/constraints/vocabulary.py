"""`Vocabulary`: what the names in a constraint stand for under a schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pyro_hcvae.constraints.language import Value, value_text
from pyro_hcvae.data.schema import Amounts, Block, Category, Code, Fractions, RecipeSchema, Step, StepColumn
from pyro_hcvae.errors import InputError

Components = Amounts | Fractions


@dataclass(frozen=True)
class Vocabulary:
    """Looks names up. Where a block is named like a column, the column is meant."""

    schema: RecipeSchema

    @cached_property
    def home(self) -> dict[str, Block]:
        """Block of each recipe column."""
        return {name: block for block in self.schema.blocks for name in block.names()}

    @cached_property
    def blocks(self) -> dict[str, Block]:
        """Blocks by name."""
        return {block.name: block for block in self.schema.blocks if block.name not in self.home}

    @cached_property
    def settings(self) -> dict[str, StepColumn]:
        """Settings of all steps by column name."""
        return {
            column.name: column for block in self.schema.blocks if isinstance(block, Step) for column in block.columns
        }

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Everything that a constraint may name."""
        return (*self.home, *self.blocks)

    def components(self, names: Iterable[str]) -> tuple[str, ...]:
        """Component columns that names of components and blocks stand for, each once.

        Raises:
            InputError: If a name stands for something else.
        """
        found: dict[str, None] = {}
        for name in names:
            block = self.blocks.get(name)
            if isinstance(block, Amounts | Fractions):
                found |= dict.fromkeys(block.columns)
            elif isinstance(self.home.get(name), Amounts | Fractions):
                found[name] = None
            else:
                known = (*self.schema.component_columns, *(b.name for b in self.component_blocks))
                raise InputError(f"{name!r} is no component; {self.suggest(name, known)}")
        return tuple(found)

    @property
    def component_blocks(self) -> tuple[Components, ...]:
        """Blocks of components."""
        return tuple(block for block in self.schema.blocks if isinstance(block, Amounts | Fractions))

    def columns(self, names: Iterable[str]) -> tuple[str, ...]:
        """Columns that names of columns and of blocks without components stand for, each once.

        Raises:
            InputError: If a name is unknown, or that of a block of components.
        """
        found: dict[str, None] = {}
        for name in names:
            block = self.blocks.get(name)
            if isinstance(block, Amounts | Fractions):
                raise InputError(f"{name!r} is a block of components: name its columns one by one")
            found |= dict.fromkeys(block.names() if block is not None else (self.column(name),))
        return tuple(found)

    def column(self, name: str) -> str:
        """The name itself, if it is one of a recipe column.

        Raises:
            InputError: If it is not.
        """
        if name not in self.home:
            raise InputError(f"{name!r} is no recipe column; {self.suggest(name, tuple(self.home))}")
        return name

    def step(self, name: str) -> Step:
        """The step of a name.

        Raises:
            InputError: If there is none.
        """
        block = self.blocks.get(name)
        if not isinstance(block, Step):
            steps = tuple(block.name for block in self.schema.blocks if isinstance(block, Step))
            raise InputError(f"{name!r} is no step; {self.suggest(name, steps)}")
        return block

    def category(self, name: str) -> Category | None:
        """The category of a column or block name, if it is one."""
        block = self.home.get(name) or self.blocks.get(name)
        return block if isinstance(block, Category) else None

    def suggest(self, name: str, known: tuple[str, ...]) -> str:
        """Half a sentence that points at what may have been meant."""
        if name in self.schema.condition_columns:
            return "it is a condition, not part of the recipe: set it with --set"
        if not known:
            return "the schema has none"
        hint = self.schema.did_you_mean(name, known)
        return hint if len(hint) < 200 or hint.startswith("did") else "'pyro-hcvae schema show' lists the names"


def code_of(block: Category, value: Value) -> Code:
    """The code that a value, a text or a label stands for.

    Raises:
        InputError: If there is none.
    """
    for code in block.codes:
        if code == value or str(code) == str(value) or block.labels.get(str(code)) == value:
            return code
    codes = ", ".join(map(value_text, block.codes))
    raise InputError(f"{block.column!r} has no code {value!r}: its codes are {codes}")
