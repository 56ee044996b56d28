"""Scores of the study's models: the published one of reconstructions, and those of recipes that are generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from sklearn.metrics import r2_score

from pyro_hcvae.evaluation.fold import rule_scores
from pyro_hcvae.evaluation.novelty import novelty
from pyro_hcvae.evaluation.repair import Repair
from pyro_hcvae.study.draws import our_draws, our_means, published_draws, rates
from pyro_hcvae.study.models import OURS, Model
from pyro_hcvae.study.protocol import Repeat, Split, StudyRows

R2, R2_SUPPORTS = "R2 metals", "R2 supports"
RATE = "rate [nats]"
DRAWN = ", recipe drawn"
GENERATED = "generated, "
NOVELTY = ("novel", "novel beyond rounding", "novel, valid and unique", "novel, valid and unique, repaired")


def score_model(
    model: Model, networks: Sequence[Any], split: Split, rows: StudyRows, repeats: Sequence[Repeat], *, seed: int
) -> pd.DataFrame:
    """Score every repeat of a model on its test rows.

    R2 is that of all cells of a block at once, in the unit of the table: of what the decoder says of one draw of the posterior,
    and of one draw of the prior. Generated recipes are drawn once for the conditions of each test row; of what a model does not
    generate they hold what the test row holds. Our decoder says a distribution: rebuilt rows are its mean (`our_means`), and
    `DRAWN` scores a recipe drawn from it; generated ones are always drawn.

    Returns:
        One row a repeat: ``split``, ``model``, ``gate``, ``kl_weights``, ``repeat``, then the scores.
    """
    if ours := model.kinds == (OURS,):
        rebuilt = our_means(networks[0], rows, repeats, seed=seed)
        redrawn, drawn = (our_draws(networks[0], rows, repeats, generate=how, seed=seed) for how in (False, True))
    else:
        rebuilt, drawn = (
            published_draws(networks, rows, repeats, model.gate, generate=how, seed=seed) for how in (False, True)
        )
        redrawn = rebuilt
    nats, records = rates(networks, rows, repeats), []
    for number, repeat in enumerate(repeats):
        real, train = rows.table.frame.iloc[repeat.test], rows.table.select(repeat.train)
        record: dict[str, Any] = {"split": split, "model": model.name, "gate": model.gate, "kl_weights": model.weights}
        record |= {"repeat": number, RATE: nats[number], **r2(rows, real, rebuilt[number])}
        if ours:
            record |= {name + DRAWN: value for name, value in r2(rows, real, redrawn[number]).items()}
        new = novelty(Repair.fit(train.schema, train.frame), train.frame, drawn[number])
        rules = rule_scores(train.schema, drawn[number])
        generated = {
            **r2(rows, real, drawn[number]),
            **{name: value for name, value in rules.items() if not name.startswith("broken")},
            **{name: new[name] for name in NOVELTY},
        }
        records.append(record | {GENERATED + name: value for name, value in generated.items()})
    return pd.DataFrame(records)


def r2(rows: StudyRows, real: pd.DataFrame, drawn: pd.DataFrame) -> Mapping[str, float]:
    """Share of the variance of all cells of a block that draws reproduce; of supports only where a model draws them."""
    out = {}
    for name, block in ((R2, rows.columns.metals), (R2_SUPPORTS, rows.columns.supports)):
        columns = list(block.columns)
        true, guess = real[columns].to_numpy(float).ravel(), drawn[columns].to_numpy(float).ravel()
        if name == R2 or (true != guess).any():
            out[name] = float(r2_score(true, guess))
    return out
