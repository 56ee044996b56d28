"""How figures look, and how they become files: units on every axis, and nothing told by colour alone."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
"""Okabe and Ito's palette, which people with any colour vision can tell apart; always beside a mark, dash or hatch."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
HATCHES = ("", "////", "....", "xx")
REAL, DRAWN = COLORS[6], COLORS[1]
"""Measured recipes, and what the model says, in every figure."""
_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "0.92",
        "legend.frameon": False,
        "legend.fontsize": 8,
        "svg.hashsalt": "pyro-hcvae",  # the same figure is the same file
        "svg.fonttype": "path",  # looks the same wherever it is opened
    }
)


@contextmanager
def style() -> Iterator[None]:
    """Settings of matplotlib for figures that are made and saved inside; afterwards the caller's are as before."""
    with mpl.rc_context(dict(_SETTINGS)):  # type: ignore[arg-type]
        yield


def svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes each time."""
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "pyro-hcvae"})
    # Ids of clipping paths are hashes of coordinates down to the last bit, in which the layout's solver varies: numbered instead.
    ids: dict[bytes, bytes] = {}
    return re.sub(rb"\bp[0-9a-f]{10}\b", lambda found: ids.setdefault(found[0], b"clip%d" % len(ids)), file.getvalue())


def data_uri(figure: Figure) -> str:
    """A figure as a ``data:`` address, for pages that need no other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure)).decode("ascii")


def axis_label(name: str, unit: str) -> str:
    """``name [unit]``, or the name alone if it has no unit."""
    return f"{name} [{unit}]" if unit else name


def without_axes(axes: Axes, text: str) -> None:
    """Say in words why a panel is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, wrap=True)
