"""Proposed recipes with their reasons and where their uncertainty comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_hcvae.analysis.performance_parts import performance_uncertainty
from pyro_hcvae.analysis.plots import proposals as proposal_plots
from pyro_hcvae.analysis.report.page import Card, Picture, Section, in_text
from pyro_hcvae.analysis.uncertainty import uncertainty
from pyro_hcvae.chemistry.recipe_words import composition, treatment
from pyro_hcvae.data.reading import open_table
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.table import PROPOSAL_PREFIX, RecipeTable
from pyro_hcvae.designer import RecipeDesigner
from pyro_hcvae.errors import InputError

_MOST = 12
"""Proposals that get a card; the file has all of them."""
_INTERVALS = ("rank", "column", "value", "unit", "probability", "low", "high")
"""Columns of the file of intervals."""
_ELSEWHERE = {"rank", "rules broken", "presence probabilities", "90 % credible intervals"}
"""Columns that the card shows in another form."""


@dataclass(frozen=True)
class ProposedRecipes:
    """What `pyro-hcvae propose` wrote.

    Attributes:
        source: The file.
        frame: Recipe and condition columns, best first.
        reasons: Columns of the reasons without their prefix, the same rows.
        intervals: Rows of the file of intervals beside it; empty if there is none.
    """

    source: str
    frame: pd.DataFrame
    reasons: pd.DataFrame
    intervals: pd.DataFrame

    @classmethod
    def read(cls, path: Path, intervals: Path, schema: RecipeSchema) -> ProposedRecipes:
        """Read the files of a list of proposals.

        Raises:
            InputError: If the file is no table of recipes of this schema, or was not written by `propose`.
        """
        table = RecipeTable.read(path, schema, purpose="partial")
        said = _cells(path).loc[table.frame.index].filter(regex=f"^{PROPOSAL_PREFIX}")
        reasons = said.rename(columns=lambda c: c.removeprefix(PROPOSAL_PREFIX))
        if missing := {"rank", "rules broken"} - set(reasons.columns):
            raise InputError(
                f"{path}: no column {PROPOSAL_PREFIX + min(missing)!r}: a report shows files that 'pyro-hcvae propose' wrote"
            )
        rank = pd.to_numeric(reasons["rank"], errors="coerce")
        if not rank.notna().all():
            row = rank.index[rank.isna()][0]
            raise InputError(
                f"{path}: row {row}, column '{PROPOSAL_PREFIX}rank': {reasons['rank'][row]!r} is not a number"
            )
        columns = [*schema.recipe_columns, *schema.condition_columns]
        open_cells = table.frame[columns].isna()
        if open_cells.to_numpy().any():
            row = open_cells.index[open_cells.any(axis=1)][0]
            column = open_cells.columns[open_cells.loc[row]][0]
            raise InputError(
                f"{path}: row {row}, column {column!r} is empty: a proposal is a whole recipe with its conditions"
            )
        return cls(str(path), table.frame, reasons.assign(rank=rank.astype(int)), _intervals(intervals))

    def predicted(self, schema: RecipeSchema) -> pd.DataFrame:
        """Conditions with ``mean``, ``low`` and ``high`` of the predicted performance."""
        unit = f" [{schema.performance.unit}]" if schema.performance.unit else ""
        name = schema.performance.name
        names = {
            f"predicted {name}{unit}": "mean",
            f"predicted {name} low 5 %{unit}": "low",
            f"predicted {name} high 95 %{unit}": "high",
        }
        if not set(names) <= set(self.reasons.columns):
            return self.frame[list(schema.condition_columns)].assign(
                mean=float("nan"), low=float("nan"), high=float("nan")
            )
        said = {new: pd.to_numeric(self.reasons[name], errors="coerce") for name, new in names.items()}
        return self.frame[list(schema.condition_columns)].assign(**said)


def _cells(path: Path) -> pd.DataFrame:
    """A table's cells as they are, by the row as a spreadsheet shows it."""
    cells: pd.DataFrame = pd.concat(open_table(path).chunks)
    return cells


def _intervals(path: Path) -> pd.DataFrame:
    """The file of intervals, or nothing where there is none.

    Raises:
        InputError: If it holds something else.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(_INTERVALS))
    frame = _cells(path)
    if missing := [name for name in _INTERVALS if name not in frame]:
        raise InputError(
            f"{path}: no column {missing[0]!r}: give the file that 'pyro-hcvae propose' wrote, or remove it"
        )
    numbers = ["rank", "probability", "low", "high"]
    return frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in numbers})


def proposals_section(designer: RecipeDesigner, proposed: ProposedRecipes | None, *, seed: int) -> Section:
    """Cards of the best proposals, and the parts of their uncertainty."""
    if proposed is None:
        return Section(
            "proposals",
            "Proposals",
            [
                "None were made in this run folder yet: pyro-hcvae propose RUN --target VALUE, then make the report "
                "again."
            ],
        )
    schema, count = designer.schema, min(_MOST, len(proposed.frame))
    best = proposed.frame.iloc[:count]
    cards = [_card(schema, proposed, place) for place in range(count)]
    found = uncertainty(designer, best, seed=seed)
    performance = performance_uncertainty(designer, best, seed=seed)
    parts = _parts(found.numbers, found.structures, performance)
    picture = Picture.of(
        proposal_plots.variance_shares(parts),
        "Stacked bars: aleatoric, latent and epistemic share of the uncertainty of each number, choice and the "
        "performance.",
        f"Where the uncertainty of the {count} proposals comes from, summed over them. Aleatoric: recipes with the "
        "same latents differ, "
        "or measurements scatter. Latent: what a recipe does not tell about its latents. Epistemic: members, or "
        "refits of the "
        "predictor, disagree; this part falls when more is measured. Of numbers it is the variance, of choices the "
        "entropy.",
    )
    shown = f"The first {count} of {len(proposed.frame)} recipes" if count < len(proposed.frame) else f"{count} recipes"
    return Section(
        "proposals",
        "Proposals",
        [
            f"{shown} of {proposed.source}, as ranked. Diamonds: what is proposed; bars: 90 % credible intervals of "
            "recipes like it, "
            "and P, the model's probability of the component or step in such a recipe. Predicted performances come "
            "from a predictor "
            "that shares nothing with the generator.",
        ],
        [picture],
        cards=cards,
    )


def _card(schema: RecipeSchema, proposed: ProposedRecipes, place: int) -> Card:
    recipe: dict[Any, Any] = dict(proposed.frame.iloc[place])
    reasons = dict(proposed.reasons.iloc[place])
    rank = reasons["rank"]
    lines = [text for block in schema.blocks if (text := treatment(block, recipe))]
    units = schema.units()
    at = [
        f"{name} {recipe[name]:g} {units.get(name, '')}".rstrip() for name in schema.condition_columns if recipe[name]
    ]
    broken = reasons["rules broken"]
    said: list[str] = [part for part in str(broken).split(" | ") if part] if pd.notna(broken) else []
    notes = [part.removeprefix("note: ") for part in said if part.startswith("note: ")]
    warnings = [part for part in said if not part.startswith("note: ")]
    facts = [("predicted", text)] if (text := _predicted(proposed.predicted(schema).iloc[place], schema)) else []
    facts += [
        (str(name), in_text(value))
        for name, value in reasons.items()
        if name not in _ELSEWHERE and not str(name).startswith("predicted ") and pd.notna(value)
    ]
    facts += [("note", note) for note in notes]
    mine = proposed.intervals[proposed.intervals["rank"] == rank]
    picture = None
    if len(mine):
        picture = Picture.of(
            proposal_plots.amounts(mine),
            f"Numbers of proposal {rank} with 90 % credible intervals, one panel a unit.",
            "",
        )
    return Card(f"{rank}. {composition(recipe, schema)}", [*lines, "for " + ", ".join(at)], facts, warnings, picture)


def _predicted(row: pd.Series, schema: RecipeSchema) -> str:
    """Mean and interval of the predicted performance in one line; nothing where the file has none."""
    if pd.isna(row.get("mean", float("nan"))):
        return ""
    unit = f" {schema.performance.unit}".rstrip()
    return (
        f"{row['mean']:.0f}{unit} {schema.performance.name}; 90 % interval {row['low']:.0f} to {row['high']:.0f}{unit}"
    )


def _parts(numbers: pd.DataFrame, structures: pd.DataFrame, performance: pd.DataFrame) -> pd.DataFrame:
    """Sums of the parts over recipes, one row a column or block."""
    names = ["aleatoric", "latent", "epistemic"]
    of_performance = performance.groupby("column")[names].sum().add_prefix("").rename(index="predicted {}".format)
    # Amounts of different components have one unit: each counts relative to its own variance.
    relative = numbers[names].div(numbers["variance"], axis=0)
    of_numbers = relative.groupby(numbers["column"]).mean()
    of_numbers = of_numbers.loc[list(dict.fromkeys(numbers["column"]))]
    of_choices = structures.groupby("block", sort=False)[names].sum().rename(index="choice of {}".format)
    return pd.concat([of_performance, of_choices, of_numbers]).rename_axis("label").reset_index()
