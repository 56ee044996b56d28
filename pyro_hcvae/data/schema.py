"""`RecipeSchema`: what the columns of a laboratory's table mean.

A schema is a TOML file. It lists the *stages* of a recipe in the order in which a laboratory decides them, the
*blocks* of columns inside each stage, the reaction *conditions*, the *performance* column, the columns that identify
a laboratory, the feasibility *rules* of the reaction, and, if it is one whose equilibrium can be computed, the columns that
make it up. Nothing else in the package knows a column by name.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pyro_hcvae.data.reaction import Reaction
from pyro_hcvae.data.rules import Rule
from pyro_hcvae.data.tabled_rules import Sintering
from pyro_hcvae.errors import InputError

Transform = Literal["linear", "log", "log1p"]
Code = int | str


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """One numeric column."""

    name: str = Field(min_length=1)
    unit: str = ""
    """Unit of the values, as printed on axes and in exported files; empty if dimensionless."""
    transform: Transform = "linear"
    """Scale on which the column is modelled. ``log`` needs positive values, ``log1p`` non-negative ones."""
    minimum: float | None = None
    """Physical lower limit, inclusive. A value below it is an error in the input and cannot be generated."""
    maximum: float | None = None
    """Physical upper limit, inclusive."""
    typical: tuple[float, float] | None = None
    """Range outside of which a value is reported as suspect (and kept)."""
    resolution: float | None = Field(default=None, gt=0)
    """Step of the laboratory's grid: proposed values are rounded to its multiples."""
    description: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"column {self.name!r}: minimum {low} is not below maximum {high}")
        if self.typical is not None and not self.typical[0] < self.typical[1]:
            raise ValueError(f"column {self.name!r}: the lower end of 'typical' is not below the upper one")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Physical limits; infinite where none is declared."""
        floor = {"linear": -math.inf, "log": 0.0, "log1p": 0.0}[self.transform]
        low = floor if self.minimum is None else max(self.minimum, floor)
        return low, math.inf if self.maximum is None else self.maximum


class StepColumn(Column):
    """One setting of a processing step."""

    zero_means: str | None = None
    """What 0 stands for while the step is carried out (``"inert gas"`` for 0 % H2). None: 0 means not recorded."""

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        low, high = self.bounds
        if self.resolution is None or not (math.isfinite(low) and math.isfinite(high)):
            return self
        if math.ceil(low / self.resolution - 1e-9) > math.floor(high / self.resolution + 1e-9):
            raise ValueError(f"column {self.name!r}: no multiple of the resolution lies within {low:g} to {high:g}")
        return self


class Amounts(_Frozen):
    """A set of components, each absent (0) or present with a positive amount."""

    kind: Literal["amounts"] = "amounts"
    name: str
    columns: tuple[str, ...] = Field(min_length=1)
    unit: str = "wt%"
    max_present: int | None = Field(default=None, ge=1)
    """Largest number of components in one recipe; None: all of them."""
    max_total: float | None = Field(default=None, gt=0)
    """Sum above which a recipe counts as not makeable."""
    resolution: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_total is not None and self.max_total < (self.resolution or 0.0) * _largest_set(self):
            raise ValueError(
                f"amounts {self.name!r}: max_total leaves no room for {_largest_set(self)} steps of resolution"
            )
        return self

    @property
    def set_sizes(self) -> range:
        """How many components one recipe may have."""
        return range(0, _largest_set(self) + 1)

    def names(self) -> tuple[str, ...]:
        """Columns of the block in table order."""
        return self.columns


class Fractions(_Frozen):
    """Parts of a whole: non-negative shares that sum to ``total`` over the present components."""

    kind: Literal["fractions"] = "fractions"
    name: str
    columns: tuple[str, ...] = Field(min_length=1)
    unit: str = "fraction"
    total: float = Field(default=1.0, gt=0)
    tolerance: float = Field(default=0.02, ge=0)
    """A sum further than this from ``total`` (as a share of it) is reported and rescaled."""
    max_present: int | None = Field(default=None, ge=1)
    may_be_empty: bool = False
    """Whether a recipe without any component exists (a bulk catalyst has no support)."""
    resolution: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.resolution is not None and self.resolution * _largest_set(self) > self.total * (1 + 1e-9):
            raise ValueError(
                f"fractions {self.name!r}: {self.total:g} is less than {_largest_set(self)} steps of resolution"
            )
        return self

    @property
    def set_sizes(self) -> range:
        """How many components one recipe may have."""
        return range(0 if self.may_be_empty else 1, _largest_set(self) + 1)

    def names(self) -> tuple[str, ...]:
        """Columns of the block in table order."""
        return self.columns


class Category(_Frozen):
    """A column that holds one of a fixed list of codes."""

    kind: Literal["category"] = "category"
    name: str
    column: str
    codes: tuple[Code, ...] = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    """What a code stands for, keyed by the code written as text."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        texts = [str(code) for code in self.codes]
        if len(set(texts)) < len(texts):
            raise ValueError(f"category {self.name!r}: codes must differ as text, got {', '.join(texts)}")
        return self

    def names(self) -> tuple[str, ...]:
        """Columns of the block in table order."""
        return (self.column,)


class Step(_Frozen):
    """A processing step described by numeric settings, which an optional step may lack as a whole.

    The first column decides: where it holds ``absent`` the step was not carried out, and no number of this step is
    modelled for that recipe.
    """

    kind: Literal["step"] = "step"
    name: str
    columns: tuple[StepColumn, ...] = Field(min_length=1)
    optional: bool = False
    absent: float = 0.0
    """Value written into every column of the step when it was not carried out."""

    @model_validator(mode="after")
    def _check_lead(self) -> Self:
        if self.optional and self.columns[0].zero_means is not None:
            raise ValueError(
                f"step {self.name!r}: its first column says whether it was done; it cannot have 'zero_means'"
            )
        return self

    def names(self) -> tuple[str, ...]:
        """Columns of the block in table order."""
        return tuple(column.name for column in self.columns)

    @property
    def zeroable(self) -> tuple[int, ...]:
        """Positions of the columns for which 0 has a meaning of its own."""
        return tuple(i for i, column in enumerate(self.columns) if column.zero_means is not None)

    @property
    def states(self) -> tuple[str, ...]:
        """Ways in which the step can be carried out, in the order of their codes."""
        states = [""]
        for position in self.zeroable:
            column = self.columns[position]
            states = [s + suffix for s in states for suffix in (f" with {column.name}", f", {column.zero_means}")]
        return (("not done",) if self.optional else ()) + tuple("done" + s for s in states)

    def applies(self) -> tuple[tuple[bool, ...], ...]:
        """For each state, whether each column holds a modelled number, shape ``(states, columns)``."""
        patterns = [[True] * len(self.columns)]
        for position in self.zeroable:
            patterns = [
                [value and not (zero and i == position) for i, value in enumerate(pattern)]
                for pattern in patterns
                for zero in (False, True)
            ]
        absent = [[False] * len(self.columns)] if self.optional else []
        return tuple(tuple(p) for p in absent + patterns)


Block = Annotated[Amounts | Fractions | Category | Step, Field(discriminator="kind")]


class Stage(_Frozen):
    """One decision of the laboratory; it gets one latent layer."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    blocks: tuple[Block, ...] = Field(min_length=1)


class Feed(_Frozen):
    """Gas feed: columns that sum to ``total``. Modelled as log ratios of the reactants and the diluted share."""

    reactants: tuple[str, ...] = Field(min_length=2)
    diluents: tuple[str, ...] = ()
    total: float = Field(default=100.0, gt=0)
    tolerance: float = Field(default=1.0, ge=0)
    """A sum further than this from ``total`` is reported."""
    unit: str = "%"
    ratios: tuple[str, ...]
    """Names of the ratios of the second and later reactants to the first, e.g. ``CO2/CH4``."""
    diluent: str = "Diluent"
    """Name of the summed share of the diluents."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ratios) != len(self.reactants) - 1:
            raise ValueError(f"feed: {len(self.reactants)} reactants need {len(self.reactants) - 1} names in 'ratios'")
        return self

    def names(self) -> tuple[str, ...]:
        """Columns of the feed in table order."""
        return self.reactants + self.diluents


class Performance(Column):
    """The measured column that a user asks for."""

    higher_is_better: bool = True


class RecipeSchema(_Frozen):
    """Meaning of a table's columns.

    Example:
        >>> schema = RecipeSchema.load("drm")
        >>> [stage.name for stage in schema.stages]
        ['metal', 'support', 'pretreatment']
        >>> schema.performance.name
        'CH4 Conversion'
    """

    name: str
    title: str = ""
    description: str = ""
    stages: tuple[Stage, ...] = Field(min_length=1)
    conditions: tuple[Column, ...] = ()
    feed: Feed | None = None
    performance: Performance
    laboratory: tuple[str, ...] = ()
    """Condition columns whose exact values tell one laboratory's campaign from another's."""
    identifiers: tuple[str, ...] = ()
    """Columns that may stand in the file and are not modelled."""
    rules: tuple[Rule, ...] = ()
    """What makes a recipe unusual or impossible to make in this reaction: limits, sums, counts, orderings of columns."""
    reaction: Reaction | None = None
    """Columns of temperature and feed, for reactions whose equilibrium limits the performance; None: nothing is judged by it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: set[str] = set()
        features = (
            () if self.feed is None else (*self.feed.ratios, *((self.feed.diluent,) if self.feed.diluents else ()))
        )
        for name in (*self.columns, *self.identifiers, *features):
            if name in seen:
                raise ValueError(f"column or feed ratio {name!r} is listed twice")
            seen.add(name)
        names = [x.name for stage in self.stages for x in (stage, *stage.blocks)]
        if len(set(names)) < len(names):
            raise ValueError(f"names of stages and blocks must differ from each other: {names}")
        if unknown := set(self.laboratory) - set(self.condition_columns):
            raise ValueError(f"'laboratory' names columns that are no conditions: {sorted(unknown)}")
        self._check_rules()
        if self.reaction is not None:
            units = {name: unit for name, unit in self.units().items() if name in self.condition_columns}
            self.reaction.check(units, self.feed.names() if self.feed else (), self.performance.unit)
        return self

    def _check_rules(self) -> None:
        codes = {block.column for block in self.blocks if isinstance(block, Category)}
        known = tuple(c for c in (*self.recipe_columns, *self.condition_columns) if c not in codes)
        seen: set[str] = set()
        for rule in self.rules:
            if rule.name in seen:
                raise ValueError(f"rule {rule.name!r} is listed twice")
            seen.add(rule.name)
            for column in rule.names():
                if column not in known:
                    hint = self.did_you_mean(column, known)
                    raise ValueError(f"rule {rule.name!r}: no recipe or condition column {column!r} of numbers; {hint}")
            if isinstance(rule, Sintering):
                for column in rule.temperatures:
                    unit = self.units().get(column, "")
                    if unit not in (rule.unit, "°C" if rule.unit == "degC" else rule.unit):
                        raise ValueError(
                            f"rule {rule.name!r}: {column!r} is in {unit or 'no unit'}, the rule's 'unit' is {rule.unit}"
                        )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in the order of the stages."""
        return tuple(block for stage in self.stages for block in stage.blocks)

    @property
    def recipe_columns(self) -> tuple[str, ...]:
        """Columns that make up a recipe, in table order."""
        return tuple(name for block in self.blocks for name in block.names())

    @property
    def condition_columns(self) -> tuple[str, ...]:
        """Columns that describe the reaction, in table order."""
        return tuple(c.name for c in self.conditions) + (self.feed.names() if self.feed else ())

    @property
    def columns(self) -> tuple[str, ...]:
        """All modelled columns: recipe, conditions, performance."""
        return (*self.recipe_columns, *self.condition_columns, self.performance.name)

    def numeric(self) -> Iterator[Column]:
        """Every declared column that is a plain number with bounds: steps, conditions, performance."""
        for block in self.blocks:
            if isinstance(block, Step):
                yield from block.columns
        yield from self.conditions
        yield self.performance

    def units(self) -> dict[str, str]:
        """Unit of each modelled column that has one."""
        units = {column.name: column.unit for column in self.numeric()}
        for block in self.blocks:
            if isinstance(block, Amounts | Fractions):
                units |= dict.fromkeys(block.columns, block.unit)
        if self.feed:
            units |= dict.fromkeys(self.feed.names(), self.feed.unit)
        return units

    def without(self, *columns: str) -> RecipeSchema:
        """Return a copy that ignores some component columns (they become identifiers).

        A rule loses these columns; one that cannot do without them disappears.

        Raises:
            InputError: If a column is not a component of an amounts or fractions block.
        """
        data = self.model_dump()
        for name in columns:
            for stage in data["stages"]:
                for block in stage["blocks"]:
                    if block["kind"] in ("amounts", "fractions") and name in block["columns"]:
                        if len(block["columns"]) == 1:
                            raise InputError(
                                f"cannot drop column {name!r}: it is the last of {block['name']!r}; take that block out"
                            )
                        block["columns"] = tuple(c for c in block["columns"] if c != name)
                        data["identifiers"] = (*data["identifiers"], name)
                        break
                else:
                    continue
                break
            else:
                raise InputError(f"cannot drop column {name!r}: {self.did_you_mean(name, self.component_columns)}")
        data["rules"] = [left for rule in self.rules if (left := rule.without(columns)) is not None]
        return RecipeSchema.model_validate(data)

    @property
    def component_columns(self) -> tuple[str, ...]:
        """Columns of all amounts and fractions blocks."""
        return tuple(c for b in self.blocks if isinstance(b, Amounts | Fractions) for c in b.columns)

    @staticmethod
    def did_you_mean(name: str, known: tuple[str, ...]) -> str:
        """Half a sentence that points at the nearest known names."""
        lowered = {k.lower(): k for k in known}
        close = get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
        if close:
            return "did you mean " + " or ".join(repr(lowered[c]) for c in close) + "?"
        return "known names are " + ", ".join(known)

    def describe(self) -> str:
        """Readable summary: stages, blocks, conditions and units."""

        def line(column: Column) -> str:
            return f"{column.name} [{column.unit}]" if column.unit else column.name

        lines = [f"{self.name}: {self.title}".rstrip(": ")]
        for position, stage in enumerate(self.stages, start=1):
            lines.append(f"stage {position}: {stage.name}")
            for block in stage.blocks:
                match block:
                    case Amounts() | Fractions():
                        sizes = block.set_sizes
                        what = f"{len(block.columns)} components [{block.unit}], {sizes[0]} to {sizes[-1]} in a recipe"
                    case Category():
                        what = f"column {block.column}, codes {', '.join(map(str, block.codes))}"
                    case Step():
                        what = ", ".join(line(c) for c in block.columns) + f"; {' | '.join(block.states)}"
                lines.append(f"  {block.kind} {block.name}: {what}")
        lines.append("conditions")
        lines += [f"  {line(c)}" + (f": {c.description}" if c.description else "") for c in self.conditions]
        if self.feed is not None:
            lines.append(f"  feed [{self.feed.unit}]: {', '.join(self.feed.names())}; as {', '.join(self.feed.ratios)}")
        lines.append(f"performance\n  {line(self.performance)}")
        if self.rules:
            lines.append("rules")
            lines += [f"  {rule.severity}{' (advice)' if rule.advice else ''}: {rule.name}" for rule in self.rules]
        if self.reaction is not None:
            lines.append(f"equilibrium\n  {self.reaction.describe()}")
        return "\n".join(lines)

    def to_toml(self) -> str:
        """Text of the schema file; `from_toml` gives the same schema back."""
        data = self.model_dump(mode="json", exclude_defaults=True) | {"stages": self._stages_toml()}
        if self.rules:
            data["rules"] = [_with_kind(rule) for rule in self.rules]
        return tomli_w.dumps(data)

    def _stages_toml(self) -> list[dict[str, Any]]:
        return [
            {
                "name": stage.name,
                "blocks": [_with_kind(block) for block in stage.blocks],
            }
            for stage in self.stages
        ]

    @classmethod
    def from_toml(cls, text: str, *, source: str = "schema") -> RecipeSchema:
        """Parse a schema file.

        Args:
            text: Content of the file.
            source: Name of the file for error messages.

        Raises:
            InputError: If the text is not TOML or does not describe a schema; names the place.
        """
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            hint = "(texts take quotes, numbers a decimal point)"
            raise InputError(f"{source}: not a TOML file: {error} {hint}") from None
        except ValidationError as error:
            raise InputError(f"{source}: {describe(error)}") from None

    @classmethod
    def load(cls, name_or_path: str | Path) -> RecipeSchema:
        """Load a built-in schema by name, or a schema file.

        Raises:
            InputError: If there is neither.
        """
        builtin = files("pyro_hcvae.data") / "schemas" / f"{name_or_path}.toml"
        if "/" not in str(name_or_path) and builtin.is_file():
            return cls.from_toml(builtin.read_text(encoding="utf-8"), source=f"built-in schema {name_or_path}")
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(
                f"no schema {str(name_or_path)!r}: it is neither a file nor a built-in schema "
                f"({', '.join(builtin_schemas())}). Draft one with: pyro-hcvae schema init TABLE"
            )
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"{path}: a schema is a text file in UTF-8") from None
        return cls.from_toml(text, source=str(path))


def builtin_schemas() -> list[str]:
    """Names of the schemas that come with the package."""
    folder = files("pyro_hcvae.data") / "schemas"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def describe(error: ValidationError) -> str:
    """Turn pydantic's error into one readable line a problem."""
    problems = error.errors()
    # A stage whose blocks are wrong counts as empty for pydantic: that is no second problem.
    real = [p for p in problems if p["type"] != "too_short"] or problems
    lines = []
    for problem in real:
        *place, last = [str(p) for p in problem["loc"]] or [""]
        match problem["type"]:
            case "extra_forbidden":
                where, what = place, f"unknown key {last!r}"
            case "missing":
                where, what = place, f"{last!r} is missing"
            case "union_tag_invalid":
                where, what = (
                    [*place, last],
                    f"kind = {problem['ctx']['tag']!r}: known kinds are {problem['ctx']['expected_tags']}",
                )
            case _:
                where, what = [*place, last], problem["msg"].removeprefix("Value error, ")
        lines.append(": ".join(x for x in (".".join(w for w in where if w), what) if x))
    return "; ".join(lines)


def _with_kind(part: Block | Rule) -> dict[str, Any]:
    """What differs from the defaults, and the kind, which is one."""
    return {"kind": part.kind} | part.model_dump(mode="json", exclude_defaults=True)


def _largest_set(block: Amounts | Fractions) -> int:
    return min(block.max_present or len(block.columns), len(block.columns))
