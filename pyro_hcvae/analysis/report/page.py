"""From sections to one page."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from pyro_hcvae.analysis.plots.style import data_uri

_LARGE = 1e9


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows.

    Attributes:
        address: A ``data:`` address.
        alt: What a reader who cannot see it should know.
        caption: How to read it.
    """

    address: str
    alt: str
    caption: str

    @classmethod
    def of(cls, figure: Figure, alt: str, caption: str) -> Picture:
        """Draw a figure."""
        return cls(data_uri(figure), alt, caption)


@dataclass(frozen=True)
class Listing:
    """A table of figures.

    Attributes:
        title: What it lists.
        header: Names of the columns, with units.
        rows: Cells as text.
        folded: Whether it is shown only when it is asked for.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    folded: bool = False

    @classmethod
    def of(cls, title: str, frame: pd.DataFrame, *, folded: bool = False) -> Listing:
        """List the rows of a frame; numbers with four digits, empty where there is none."""
        rows = [[in_text(cell) for cell in row] for row in frame.itertuples(index=False)]
        return cls(title, [str(c) for c in frame.columns], rows, folded)


@dataclass(frozen=True)
class Card:
    """One proposed recipe.

    Attributes:
        title: Its rank and what it consists of.
        lines: The recipe, stage by stage.
        facts: What is predicted and known, as name and value.
        warnings: What speaks against it.
        picture: Its numbers with their intervals; None if there are none.
    """

    title: str
    lines: list[str]
    facts: list[tuple[str, str]]
    warnings: list[str]
    picture: Picture | None


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        anchor: Its address within the page.
        title: Heading.
        paragraphs: Text that stands first.
        pictures: Figures.
        listings: Tables.
        cards: Proposed recipes.
        texts: Files as they are, with their names.
    """

    anchor: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


def render(title: str, summary: list[tuple[str, str]], sections: list[Section]) -> str:
    """One page, with all its figures in it.

    Args:
        title: Of the page.
        summary: Figures at a glance, as value and what it counts.
        sections: Parts in the order of the page.
    """
    environment = Environment(
        loader=PackageLoader("pyro_hcvae.analysis.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("report.html.j2")
    return template.render(title=title, summary=summary, sections=sections, version=version("pyro-hcvae"))


def in_text(cell: object) -> str:
    """A cell as a reader wants it: four digits, no trailing zeros, nothing where there is nothing."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        if cell != cell:  # noqa: PLR0124
            return ""
        return f"{cell:.0f}" if cell.is_integer() and abs(cell) < _LARGE else f"{cell:.4g}"
    return "" if cell is None else str(cell)
