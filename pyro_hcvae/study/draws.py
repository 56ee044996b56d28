"""What the models of the study draw: reconstructions from their posterior, and recipes from their prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.inference.objective import ScaledELBO
from pyro_hcvae.model import architectures as published
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.predictive import drawing_scope
from pyro_hcvae.study.protocol import Repeat, StudyRows, member_rows
from pyro_hcvae.study.training import our_codecs

Floats = NDArray[np.float64]


def published_draws(
    networks: Sequence[Any], rows: StudyRows, repeats: Sequence[Repeat], gate: str, *, generate: bool, seed: int
) -> list[pd.DataFrame]:
    """One draw for each test row of each repeat.

    Args:
        networks: Trained apart; together they decode amounts, and presences if there is a gate.
        rows: The table.
        repeats: One a member.
        gate: As for `architectures.gated`; for metals and, if they are decoded, for supports.
        generate: Latents from the prior; else from the posterior of the row itself.
        seed: Fixes the draws.

    Returns:
        Test rows, with what the models decode in the place of what they hold: on its own scale, neither rounded nor clipped.
    """
    decoded: dict[str, Tensor] = {}
    for position, network in enumerate(networks):
        data = member_rows(rows, repeats, network.reads)
        parts = data.parts(data.of([r.test for r in repeats])[0])
        with drawing_scope(seed + position):
            if generate:
                told = {name: x for name, x in parts.items() if name in _conditions(network)}
                decoded |= network.model(told)
            else:
                trace = poutine.trace(network.guide).get_trace(parts)
                decoded |= poutine.replay(network.model, trace=trace)(parts)
    columns = {
        published.AMOUNTS: (rows.columns.metals.columns, published.PRESENCE),
        published.SHARES: (rows.columns.supports.columns, published.SUPPORTED),
        published.TREATMENT: (rows.columns.settings, None),
    }
    frames = []
    for member, repeat in enumerate(repeats):
        frame = rows.table.frame.iloc[repeat.test].copy()
        for part, (names, presence) in columns.items():
            if part in decoded:
                low, width = repeat.limits(rows.parts[part])
                values = decoded[part][member, : len(repeat.test)].double() * torch.from_numpy(
                    width
                ) + torch.from_numpy(low)
                if presence is not None and gate != "none":
                    values = published.gated(values, decoded[presence][member, : len(repeat.test)].double(), gate)
                frame[list(names)] = values.numpy()
        frames.append(frame)
    return frames


def rates(networks: Sequence[Any], rows: StudyRows, repeats: Sequence[Repeat]) -> Floats:
    """Unweighted KL of all latents from their priors on the test rows of each repeat, in nats a row, shape ``(repeats,)``.

    Zero: the posterior is the prior, and nothing of a recipe goes through the latents.
    """
    lengths = [len(r.test) for r in repeats]
    out = torch.zeros(len(repeats))
    for network in networks:
        if isinstance(network, HierarchicalCVAE):
            batch: Any = _our_batch(rows, repeats)
        else:
            data = member_rows(rows, repeats, network.reads)
            batch = data.parts(data.of([r.test for r in repeats])[0])
        with drawing_scope(0):
            for rate in ScaledELBO().terms(network.model, network.guide, batch).rate.values():
                out += torch.stack([x[:count].mean() for x, count in zip(rate, lengths, strict=True)])
    nats: Floats = out.double().numpy()
    return nats


def _our_batch(rows: StudyRows, repeats: Sequence[Repeat]) -> RecipeBatch:
    """Test rows of each repeat on its own scales; short repeats begin again."""
    longest = max(len(r.test) for r in repeats)
    codecs = our_codecs(rows, repeats)
    packed = [
        codec.encode(rows.table.frame.iloc[np.resize(repeat.test, longest)])
        for codec, repeat in zip(codecs, repeats, strict=True)
    ]
    return codecs[0].layout.unpack(torch.stack(packed))


def _conditions(network: Any) -> tuple[str, ...]:
    hierarchy = isinstance(network, published.PublishedHierarchy)
    return (published.REACTION,) if hierarchy else published.CONDITIONS


def our_draws(
    network: HierarchicalCVAE, rows: StudyRows, repeats: Sequence[Repeat], *, generate: bool, seed: int
) -> list[pd.DataFrame]:
    """The same of our model: latents, then a recipe drawn from its likelihoods. See `published_draws`."""
    codecs, batch = our_codecs(rows, repeats), _our_batch(rows, repeats)
    with drawing_scope(seed):
        if generate:
            values = network.model(batch.conditions_only())
        else:
            trace = poutine.trace(network.guide).get_trace(batch)
            values = poutine.replay(network.model, trace=trace)(batch.conditions_only())
        drawn = codecs[0].layout.pack(values, batch.conditions)
    frames = []
    for codec, repeat, x in zip(codecs, repeats, drawn, strict=True):
        frame = rows.table.frame.iloc[repeat.test].copy()
        recipes = codec.decode(x[: len(repeat.test)])
        for name in rows.table.schema.recipe_columns:
            frame[name] = recipes[name].to_numpy()
        frames.append(frame)
    return frames


def our_means(
    network: HierarchicalCVAE, rows: StudyRows, repeats: Sequence[Repeat], *, draws: int = 20, seed: int
) -> list[pd.DataFrame]:
    """What our decoders say of one draw of the latents from the posterior: mean amounts and shares, as the published ones give.

    The mean of a decoder that says whether, and then how much, is taken over recipes drawn for the same latents; what is left
    of their noise lowers the score.
    """
    codecs, batch = our_codecs(rows, repeats), _our_batch(rows, repeats)
    components = list(rows.table.schema.component_columns)
    sums = [np.zeros((len(repeat.test), len(components))) for repeat in repeats]
    with drawing_scope(seed):
        trace = poutine.trace(network.guide).get_trace(batch)
        for _ in range(draws):
            values = poutine.replay(network.model, trace=trace)(batch.conditions_only())
            drawn = codecs[0].layout.pack(values, batch.conditions)
            for codec, total, x in zip(codecs, sums, drawn, strict=True):
                np.add(total, codec.decode(x[: len(total)])[components].to_numpy(np.float64), out=total)
    frames = []
    for total, repeat in zip(sums, repeats, strict=True):
        frame = rows.table.frame.iloc[repeat.test].copy()
        frame[components] = total / draws
        frames.append(frame)
    return frames
