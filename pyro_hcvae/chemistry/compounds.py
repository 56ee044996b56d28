"""What the labels of components stand for: formula, family, melting point.

A label of a laboratory is no formula: a parser makes something wrong of ``Al2O3_Gamma`` or ``SBA-15``. So labels are looked up in
``tables/components.csv`` and never parsed; one that is not there is unknown, and nothing is said of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@dataclass(frozen=True)
class Compound:
    """One component.

    Attributes:
        label: As tables write it.
        formula: Of what it is made of; None where the label does not tell it (an unknown ratio, a misprint).
        family: Kind of material, e.g. ``gamma-alumina``, ``mesoporous silica``, ``perovskite``, ``metal``.
        melting_point_k: Of a metal, in kelvin, at 1 atm.
        source: Of the melting point, or how the label was read.
    """

    label: str
    formula: str | None
    family: str
    melting_point_k: float | None
    source: str


@cache
def compounds() -> Mapping[str, Compound]:
    """All known components by label."""
    text = (files("pyro_hcvae.chemistry") / "tables" / "components.csv").read_text(encoding="utf-8")
    found = (
        Compound(
            label=row["label"],
            formula=row["formula"] or None,
            family=row["family"],
            melting_point_k=float(row["melting_point_k"]) if row["melting_point_k"] else None,
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )
    return MappingProxyType({compound.label: compound for compound in found})


def compound(column: str) -> Compound | None:
    """The component of a column; None if its label is not known.

    Args:
        column: Name of the column: a label, which a unit may follow in brackets, as in ``Ni (wt%)``.

    Example:
        >>> compound("Al2O3_Gamma").formula
        'Al2O3'
        >>> compound("Ni (wt%)").melting_point_k
        1728.0
    """
    known = compounds()
    return known.get(column) or known.get(re.sub(r"\s+[(\[][^()\[\]]*[)\]]$", "", column))
