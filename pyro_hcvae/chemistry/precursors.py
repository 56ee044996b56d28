"""Chemicals that bring a metal onto a support: formula, molar mass, assay, solubility."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import periodictable

from pyro_hcvae.chemistry.component_tables import KEY, TableRow, find, table_rows
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError

AssayOf = Literal["compound", "metal"]
_OPTIONAL = (
    "element", "cas", "assay_percent", "assay_of", "solubility_g_per_100ml", "solubility_of", "solubility_source", "note",
)  # fmt: skip
# periodictable reads Ni(NO3)2.6H2O as Ni(NO3)2.6 and H2O, without a word: 237.92 instead of 290.79 g/mol.
_DOTTED = re.compile(r"[·•∙⋅*]|\.(?!\d)|(?<!\d)\.|\.\s*\d*\s*\(?H2O")


@dataclass(frozen=True)
class Precursor:
    """One chemical, as it stands in the bottle.

    Attributes:
        component: Recipe column, or element, that it is for.
        element: What the amounts in the recipe count.
        name: Name on the label.
        formula: With hydrate water in brackets, ``Ni(NO3)2(H2O)6``; without it where its content is not fixed.
        cas: CAS number, or empty.
        assay_percent: Mass share of the compound, or of the metal, in what is weighed.
        assay_of: Which of the two.
        solubility_g_per_100ml: In water at room temperature, grams in 100 mL of water; None: not known.
        solubility_of: Formula that these grams count.
        solubility_source: Where that number comes from.
        note: What to mind at the balance.
    """

    component: str
    element: str
    name: str
    formula: str
    cas: str
    assay_percent: float
    assay_of: AssayOf
    solubility_g_per_100ml: float | None
    solubility_of: str
    solubility_source: str
    note: str

    @property
    def atomic_mass(self) -> float:
        """Molar mass of the element, g/mol."""
        return float(periodictable.elements.symbol(self.element).mass)

    @property
    def metal_share(self) -> float:
        """Grams of metal in one gram of what is weighed."""
        share = self.assay_percent / 100
        return share if self.assay_of == "metal" else share * element_share(self.formula, self.element)

    @property
    def soluble_metal_g_per_ml(self) -> float | None:
        """Grams of metal that 1 mL of water takes up; None: not known."""
        if self.solubility_g_per_100ml is None:
            return None
        return self.solubility_g_per_100ml / 100 * element_share(self.solubility_of, self.element)

    @property
    def assay_text(self) -> str:
        """The assay for a sheet."""
        return f"{self.assay_percent:g} %" + (f" {self.element}" if self.assay_of == "metal" else "")


def molar_mass(formula: str) -> float:
    """Molar mass in g/mol.

    Raises:
        InputError: If the text is no formula, or writes hydrate water behind a dot.

    Example:
        >>> round(molar_mass("Ni(NO3)2(H2O)6"), 2)
        290.79
    """
    return float(_parsed(formula).mass)


def element_share(formula: str, element: str) -> float:
    """Mass share of an element in a compound, 0 to 1. Raises as `molar_mass`."""
    shares = {atom.symbol: share for atom, share in _parsed(formula).mass_fraction.items()}
    return float(shares.get(element, 0.0))


@cache
def _parsed(formula: str) -> periodictable.formulas.Formula:
    if _DOTTED.search(formula):
        raise InputError(
            f"formula {formula!r}: write hydrate water in brackets, Ni(NO3)2(H2O)6 and not Ni(NO3)2.6H2O; where its content "
            "is not fixed (.xH2O), leave the water out and give the metal content: assay_of metal"
        )
    try:
        parsed: periodictable.formulas.Formula = periodictable.formula(formula)
    except Exception as error:  # pyparsing's errors and others
        raise InputError(f"formula {formula!r} cannot be read ({error}): write it like Ni(NO3)2(H2O)6") from None
    if not parsed.atoms:
        raise InputError(f"formula {formula!r} is empty: write it like Ni(NO3)2(H2O)6")
    return parsed


@dataclass(frozen=True)
class PrecursorTable:
    """Precursors by component.

    Attributes:
        precursors: Keyed by element, or by the name of a recipe column.
    """

    precursors: Mapping[str, Precursor]

    def of(self, column: str) -> Precursor | None:
        """Precursor of the component in a recipe column; None if there is none."""
        return find(self.precursors, column)

    def with_assays(self, assays: Mapping[str, float]) -> PrecursorTable:
        """A table with other assays.

        Args:
            assays: Percent by component, of the compound or of the metal as the row of the table has it.

        Raises:
            InputError: If a component has no precursor, or the number cannot be.
        """
        changed = dict(self.precursors)
        for component, percent in assays.items():
            if component not in changed:
                hint = RecipeSchema.did_you_mean(component, tuple(changed))
                raise InputError(f"--assay {component}={percent:g}: there is no precursor for {component!r}; {hint}")
            changed[component] = replace(changed[component], assay_percent=percent)
            if problem := _assay_problem(changed[component]):
                raise InputError(f"--assay {component}={percent:g}: {problem}")
        return PrecursorTable(changed)


def load_precursors(path: str | Path | None = None) -> PrecursorTable:
    """Read the built-in precursors, and a file of the user's own over them.

    Args:
        path: CSV file with the columns of `Precursor`; ``component``, ``name`` and ``formula`` are needed. Its rows take the
            place of built-in ones of the same component.

    Raises:
        InputError: If the file cannot be used; names file, row, column and value.
    """
    rows = table_rows("precursors.csv", path, (KEY, "name", "formula"), _OPTIONAL)
    return PrecursorTable({row[KEY]: _precursor(row) for row in rows})


def _precursor(row: TableRow) -> Precursor:
    element = row["element"] or _element_named(row)
    if element not in {e.symbol for e in periodictable.elements}:
        raise row.error("element", "not the symbol of an element")
    for column in ("formula", "solubility_of"):
        if row[column] or column == "formula":
            try:
                share = element_share(row.required(column), element)
            except InputError as error:
                raise row.error(column, str(error)) from None
            if not share:
                raise row.error(column, f"this formula has no {element}")
    if row["cas"] and not _is_cas(row["cas"]):
        raise row.error("cas", "not a CAS number (its check digit does not fit): correct it, or leave it out")
    kind = row["assay_of"] or "compound"
    if kind not in ("compound", "metal"):
        raise row.error("assay_of", "must be 'compound' or 'metal'")
    solubility = row.positive("solubility_g_per_100ml") if row["solubility_g_per_100ml"] else None
    precursor = Precursor(
        component=row[KEY],
        element=element,
        name=row.required("name"),
        formula=row["formula"],
        cas=row["cas"],
        assay_percent=row.positive("assay_percent", maximum=100) if row["assay_percent"] else 100.0,
        assay_of="metal" if kind == "metal" else "compound",
        solubility_g_per_100ml=solubility,
        solubility_of=row["solubility_of"] or row["formula"],
        solubility_source=row["solubility_source"],
        note=row["note"],
    )
    if problem := _assay_problem(precursor):
        raise row.error("assay_percent", problem)
    return precursor


def _element_named(row: TableRow) -> str:
    symbols = {e.symbol: e.symbol for e in periodictable.elements}
    found = find(symbols, row[KEY])
    if found is None:
        raise row.error("element", f"name the element that column {row[KEY]!r} counts, e.g. Ni")
    return found


def _assay_problem(precursor: Precursor) -> str:
    if not 0 < precursor.assay_percent <= 100:
        return "an assay is above 0 and at most 100 %"
    most = 100 * element_share(precursor.formula, precursor.element)
    if precursor.assay_of == "metal" and precursor.assay_percent > most * 1.005:
        return f"more {precursor.element} than {precursor.formula} can hold ({most:.1f} %)"
    return ""


def _is_cas(text: str) -> bool:
    if not re.fullmatch(r"[1-9]\d{1,6}-\d\d-\d", text):
        return False
    *digits, check = (int(d) for d in text if d != "-")
    return sum(i * d for i, d in enumerate(reversed(digits), start=1)) % 10 == check
