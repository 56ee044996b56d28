"""What the metals of a recipe are worth: dated prices of the elements, linear in the amounts.

The value of the metals as elements, not what a supplier asks for their salts: it ranks recipes, and finds the expensive ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_hcvae.chemistry.component_tables import KEY, find, table_rows, weight_columns
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError

_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True)
class Price:
    """Price of one component.

    Attributes:
        usd_per_kg: US dollars per kilogram of the element.
        date: Year, month or day of the price, ISO 8601.
        source: Where it comes from.
    """

    usd_per_kg: float
    date: str
    source: str


@dataclass(frozen=True)
class PriceTable:
    """Prices by component.

    Attributes:
        prices: Keyed by element, or by the name of a recipe column.
    """

    prices: Mapping[str, Price]

    def of(self, column: str) -> Price | None:
        """Price of the component in a recipe column; None if it is not known."""
        return find(self.prices, column)

    def dates(self, columns: Iterable[str]) -> str:
        """Dates of the prices of some columns, earliest first, in one text."""
        return ", ".join(sorted({price.date for c in columns if (price := self.of(c)) is not None}))


def load_prices(path: str | Path | None = None) -> PriceTable:
    """Read the built-in prices, and a file of the user's own over them.

    Args:
        path: CSV file with columns ``component``, ``price_usd_per_kg``, ``date`` and ``source``. Its rows take the place of
            built-in ones of the same component; the others stay.

    Raises:
        InputError: If the file cannot be used; names file, row, column and value.

    Example:
        >>> load_prices().of("Ni").usd_per_kg
        13.9
    """
    prices = {}
    for row in table_rows("prices.csv", path, (KEY, "price_usd_per_kg", "date", "source")):
        if not _DATE.fullmatch(row["date"]):
            raise row.error("date", "write the date of the price as 2026, 2026-03 or 2026-03-31")
        prices[row[KEY]] = Price(row.positive("price_usd_per_kg", zero=True), row["date"], row.required("source"))
    return PriceTable(prices)


def cost_per_wt_percent(schema: RecipeSchema, prices: PriceTable) -> dict[str, float]:
    """What 1 wt% of each component adds to the cost, in USD per kg of catalyst.

    Cost is linear in the amounts with these weights, as long as they are percent of the finished catalyst.

    Returns:
        One entry for each column of amounts in wt%, in schema order; NaN where no price is known.
    """
    found = {column: prices.of(column) for column in weight_columns(schema)}
    return {column: float("nan") if price is None else price.usd_per_kg / 100 for column, price in found.items()}


def metal_cost(frame: pd.DataFrame, schema: RecipeSchema, prices: PriceTable) -> NDArray[np.float64]:
    """Value of the metals in each recipe.

    Args:
        frame: Recipe rows; amounts in wt% of the finished catalyst.
        schema: Says which columns are amounts in wt%.
        prices: Prices of the components.

    Returns:
        USD per kg of catalyst, shape ``(rows,)``; NaN where an amount is not known.

    Raises:
        InputError: If components without a price are present; names them.
    """
    weights = cost_per_wt_percent(schema, prices)
    unpriced = [column for column, weight in weights.items() if np.isnan(weight) and (frame[column] > 0).any()]
    if unpriced:
        raise InputError(
            f"no price for {', '.join(unpriced)}: add rows to a CSV file with columns component, price_usd_per_kg, date, "
            "source, and name it with --prices FILE"
        )
    return total_cost(frame, weights)


def total_cost(frame: pd.DataFrame, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Sum of amounts times the cost of each wt% (`cost_per_wt_percent`), shape ``(rows,)``; NaN where a present one has none."""
    amounts, each = frame[list(weights)].to_numpy(np.float64), np.array(list(weights.values()))
    unknown = ((amounts > 0) & np.isnan(each)).any(axis=1)
    cost: NDArray[np.float64] = np.where(unknown, np.nan, amounts @ np.nan_to_num(each))
    return cost
