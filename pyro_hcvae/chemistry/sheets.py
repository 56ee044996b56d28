"""Weighing sheets as Markdown, as a printable page, and as a table."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pyro_hcvae.chemistry.precursors import molar_mass
from pyro_hcvae.chemistry.prices import PriceTable
from pyro_hcvae.chemistry.weighing import OF_SATURATION, Charge, Impregnation, Settings, Sheet

BOX = "☐"


@dataclass(frozen=True)
class _Grid:
    """A table of texts; ``numbers`` are the positions of columns that line up on the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]


@dataclass(frozen=True)
class _Part:
    """One page or section: title, and then paragraphs, lists and tables in order."""

    title: str
    blocks: tuple[str | list[str] | _Grid, ...]


def to_markdown(sheets: Sequence[Sheet], settings: Settings, prices: PriceTable) -> str:
    """The sheets as Markdown, readable on a terminal."""
    parts = _parts(sheets, settings, prices)
    lines = []
    for level, part in zip(("#", *["##"] * len(parts)), parts, strict=False):
        lines += [f"{level} {part.title}", ""]
        for block in part.blocks:
            lines += [*_markdown(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def to_html(sheets: Sequence[Sheet], settings: Settings, prices: PriceTable) -> str:
    """The sheets as one page that needs no other file; printed, each recipe starts on a new sheet of paper."""
    first, *others = _parts(sheets, settings, prices)
    body = [f"<header><h1>{html.escape(first.title)}</h1>", *map(_html, first.blocks), "</header>"]
    for part in others:
        body += [f"<section><h2>{html.escape(part.title)}</h2>", *map(_html, part.blocks), "</section>"]
    title = html.escape(first.title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_CSS}</style></head>\n'
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def to_frame(sheets: Sequence[Sheet], settings: Settings, prices: PriceTable) -> pd.DataFrame:
    """The sheets as a table: one row a recipe and chemical, units in the names of the columns."""
    rows: list[dict[str, Any]] = []
    for number, sheet in enumerate(sheets, start=1):
        head = {"recipe": number, "row": sheet.row, "composition": sheet.recipe, "basis": settings.basis}
        batch = {
            "catalyst_mass_g": sheet.catalyst_mass_g,
            "metal_cost_usd_per_kg_catalyst": sheet.cost_usd_per_kg,
            "programme": "; ".join(sheet.programme),
            "notes": " ".join(sheet.notes),
        }
        for support in sheet.supports:
            what = {"kind": "support", "component": support.component, "share": support.share, "mass_g": support.mass_g}
            rows.append(head | what | batch)
        rows += [head | _charge_row(charge, sheet, prices) | batch for charge in sheet.charges]
        if not (sheet.supports or sheet.charges):
            rows.append(head | {"kind": "nothing to weigh"} | batch)
    return pd.DataFrame(rows, columns=list(_COLUMNS)).round(6).astype({"impregnations": "Int64"})


_COLUMNS = (
    "recipe", "row", "composition", "basis", "kind", "component", "share", "amount_wt_pct", "chemical", "formula", "cas",
    "assay_pct", "assay_of", "metal_mass_g", "mass_g", "stock_g_per_ml", "stock_mol_per_l", "portion_ml", "impregnations",
    "metal_cost_usd", "price_usd_per_kg", "price_date", "catalyst_mass_g", "metal_cost_usd_per_kg_catalyst", "programme", "notes",
)  # fmt: skip


def _charge_row(charge: Charge, sheet: Sheet, prices: PriceTable) -> dict[str, Any]:
    precursor, price, wet = charge.precursor, prices.of(charge.component), sheet.impregnation
    return {
        "kind": "precursor",
        "component": charge.component,
        "amount_wt_pct": charge.amount,
        "chemical": precursor.name,
        "formula": precursor.formula,
        "cas": precursor.cas or None,
        "assay_pct": precursor.assay_percent,
        "assay_of": precursor.assay_of,
        "metal_mass_g": charge.metal_mass_g,
        "mass_g": charge.mass_g,
        "stock_g_per_ml": None if wet is None else charge.mass_g / wet.stock_ml,
        "stock_mol_per_l": None if wet is None else 1000 * charge.metal_mol / wet.stock_ml,
        "portion_ml": None if wet is None else wet.volume_ml,
        "impregnations": None if wet is None else wet.steps,
        "metal_cost_usd": charge.cost_usd,
        "price_usd_per_kg": None if price is None else price.usd_per_kg,
        "price_date": None if price is None else price.date,
    }


def _parts(sheets: Sequence[Sheet], settings: Settings, prices: PriceTable) -> list[_Part]:
    return [
        _Part(f"Weighing sheet: {len(sheets)} recipe{'s' * (len(sheets) != 1)}", tuple(_preface(settings))),
        *(_part(number, sheet, settings, prices) for number, sheet in enumerate(sheets, start=1)),
    ]


def _preface(settings: Settings) -> Iterable[str | list[str]]:
    yield f"{settings.support_mass_g:g} g of support for each recipe."
    if settings.basis == "catalyst":
        yield (
            "Basis: wt% of the catalyst (--basis catalyst, the default). Metals as elements and support make up 100 %: "
            "m(metal) = m(support) w / (100 - sum of all w). A table does not say which it means; if percent of the support, "
            "use --basis support: every metal mass is then smaller by the factor (100 - sum of all w) / 100."
        )
    else:
        yield (
            "Basis: wt% of the support (--basis support). m(metal) = m(support) w / 100. A table does not say which it means; if "
            "percent of the finished catalyst, use --basis catalyst: every metal mass is then larger by the factor "
            "100 / (100 - sum of all w)."
        )
    yield [
        "Supports are weighed dry, as they are bought or were made.",
        "Read the assay of each precursor from its bottle. If it differs: --assay Ni=98.5",
        "Metal cost is the value of the elements at the date given, not the price of the precursors.",
    ]


def _part(number: int, sheet: Sheet, settings: Settings, prices: PriceTable) -> _Part:
    blocks: list[str | list[str] | _Grid] = [f"{sheet.recipe} (row {sheet.row} of the file)"]
    if sheet.supports:
        made = "" if sheet.catalyst_mass_g is None else f"; makes {sheet.catalyst_mass_g:.4f} g with metals as elements"
        blocks.append(f"{settings.support_mass_g:g} g of support, wt% of the {settings.basis}{made}.")
    if sheet.supports:
        rows = [(BOX, s.component, f"{100 * s.share:.4g}", f"{s.mass_g:.4f}", "") for s in sheet.supports]
        header = ("", "Support", "Share / %", "Mass / g", "Weighed / g")
        blocks.append(_Grid(header, tuple(rows), frozenset({2, 3})))
    if sheet.charges:
        blocks.append(_Grid(_CHARGES, tuple(map(_charge_cells, sheet.charges)), frozenset({3, 5, 6})))
    if sheet.impregnation is not None:
        blocks += _solution(sheet.charges, sheet.impregnation)
    if sheet.charges:
        blocks.append(_cost(sheet, prices))
    if sheet.programme:
        blocks.append([f"{BOX} {line}" for line in sheet.programme])
    if sheet.notes:
        blocks += ["Notes:", list(sheet.notes)]
    return _Part(f"Recipe {number}", tuple(blocks))


_CHARGES = ("", "Precursor", "CAS", "Metal / g", "Assay", "M / g/mol", "Mass / g", "Weighed / g")


def _charge_cells(charge: Charge) -> tuple[str, ...]:
    p = charge.precursor
    known = p.assay_of == "compound"
    name = f"{p.name}, {p.formula}" if known else p.name
    molar = f"{molar_mass(p.formula):.2f}" if known else ""
    return (
        BOX, f"{charge.component}: {name}", p.cas, f"{charge.metal_mass_g:.4f}", p.assay_text, molar, f"{charge.mass_g:.4f}", "",
    )  # fmt: skip


def _solution(charges: Sequence[Charge], wet: Impregnation) -> Iterable[str | _Grid]:
    how = (
        f"impregnate with all of it at once ({wet.volume_ml:.2f} mL)"
        if wet.steps == 1
        else f"impregnate {wet.steps} times with {wet.volume_ml:.2f} mL each, drying in between"
    )
    left_out = f"; left out, as it is not known: {', '.join(wet.unknown)}" if wet.unknown else ""
    yield (
        f"Incipient wetness: dissolve all precursors, make up to {wet.stock_ml:.2f} mL with water, {how}. "
        "How often is an estimate from the solubilities in water at room temperature, used up to "
        f"{100 * OF_SATURATION:.0f} %{left_out}."
    )
    rows = []
    for charge in charges:
        p = charge.precursor
        solubility = "not known"
        if p.solubility_g_per_100ml is not None:
            solubility = f"{p.solubility_g_per_100ml:g} of {p.solubility_of}"
            solubility += f" ({p.solubility_source})" if p.solubility_source else ""
        molarity = 1000 * charge.metal_mol / wet.stock_ml
        rows.append((charge.component, f"{charge.mass_g / wet.stock_ml:.4f}", f"{molarity:.4f}", solubility))
    header = ("Stock solution", "Precursor / g/mL", "Metal / mol/L", "Solubility / g in 100 mL of water")
    yield _Grid(header, tuple(rows), frozenset({1, 2}))


def _cost(sheet: Sheet, prices: PriceTable) -> str:
    if sheet.cost_usd is None:
        return "Metal cost: not known."
    per_kg = "" if sheet.cost_usd_per_kg is None else f", {_usd(sheet.cost_usd_per_kg)} USD per kg of catalyst"
    dates = prices.dates(charge.component for charge in sheet.charges)
    return f"Metal cost: {_usd(sheet.cost_usd)} USD{per_kg} (prices of {dates})."


def _usd(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _markdown(block: str | list[str] | _Grid) -> list[str]:
    match block:
        case str():
            return [block]
        case list():
            return [f"- {line}" for line in block]
    cells = [tuple(cell.replace("|", "\\|") for cell in row) for row in (block.header, *block.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        adjust: list[Callable[[str, int], str]] = [
            str.rjust if i in block.numbers else str.ljust for i in range(len(row))
        ]
        return "| " + " | ".join(f(cell, w) for f, cell, w in zip(adjust, row, widths, strict=True)) + " |"

    rule = ["-" * (w - 1) + (":" if i in block.numbers else "-") for i, w in enumerate(widths)]
    return [line(cells[0]), "| " + " | ".join(rule) + " |", *map(line, cells[1:])]


def _html(block: str | list[str] | _Grid) -> str:
    match block:
        case str():
            return f"<p>{html.escape(block)}</p>"
        case list():
            return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in block) + "</ul>"

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="n"' if i in block.numbers else "" for i in range(len(cells))]
        return (
            "<tr>" + "".join(f"<{tag}{k}>{html.escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"
        )

    rows = "\n".join(row(cells, "td") for cells in block.rows)
    return f"<table><thead>{row(block.header, 'th')}</thead>\n<tbody>{rows}</tbody></table>"


_CSS = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; border-top: 2px solid #111; padding-top: .8rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; }
th, td { border: 1px solid #888; padding: .35rem .5rem; text-align: left; vertical-align: top; }
th { background: #eee; } .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:last-child { min-width: 5.5rem; } ul { padding-left: 1.2rem; } header { font-size: .93em; }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 9.5pt; line-height: 1.3; }
  section + section { break-before: page; } table, li { break-inside: avoid; }
  th { background: none; } @page { margin: 15mm; }
}
"""
