"""Scores of full evaluations, where the files of some are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_hcvae.analysis.plots.scores import PANELS, peers, rate_distortion_curve
from pyro_hcvae.analysis.report.page import Listing, Picture, Section
from pyro_hcvae.errors import InputError

_CURVE = ("beta", "rate", "distortion", "log p recipe")
_SPLIT = ("generator", "seed", "fold")


def evaluation_section(scores: Sequence[Path], curve: Path | None) -> Section | None:
    """Generators side by side and the rate-distortion curve; None without any file.

    Args:
        scores: Files of `pyro-hcvae evaluate --out`, of one split.
        curve: File of ``scripts/rate_distortion.py --out``.

    Raises:
        InputError: If a file cannot be read, or holds something else.
    """
    pictures, listings = [], []
    if scores:
        rows = pd.concat([_read(path, _SPLIT, "pyro-hcvae evaluate --out") for path in scores], ignore_index=True)
        rows = rows.drop_duplicates(list(_SPLIT))  # real recipes stand in every file
        pictures.append(
            Picture.of(
                peers(rows),
                "Scores of the generators, one panel a score; the table below has the numbers.",
                "Each generator was trained anew for each fold; mean and standard deviation over folds and seeds.",
            )
        )
        named = [name for name in PANELS if name in rows]
        grouped = rows.groupby("generator", sort=False)[named]
        both = pd.concat([grouped.mean(), grouped.std().add_suffix(", sd")], axis=1)
        listings.append(Listing.of("Scores: mean and sd over folds and seeds", both.reset_index(), folded=True))
    if curve is not None:
        pictures.append(
            Picture.of(
                rate_distortion_curve(_read(curve, _CURVE, "scripts/rate_distortion.py --out")),
                "Distortion and log likelihood of held-out recipes against the rate, one mark for each final beta.",
                "Trained to other final values of beta: a high rate reproduces better, and predicts new recipes worse.",
            )
        )
    if not pictures:
        return None
    files = ", ".join(str(path) for path in (*scores, *([curve] if curve else [])))
    return Section("evaluation", "Evaluation", [f"From {files}."], pictures, listings)


def _read(path: Path, needed: Sequence[str], written_by: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    if missing := [name for name in needed if name not in frame]:
        raise InputError(f"{path}: no column {missing[0]!r}: give a file that {written_by!r} wrote")
    return frame
