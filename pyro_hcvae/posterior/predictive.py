"""Posterior predictive draws: recipes for given conditions, and what the model says about a given recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import Layout, RecipeBatch
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.scopes import computing_scope

CHUNK_ROWS = 4096
"""Rows of one pass through the networks; part of what a seed reproduces."""


@contextmanager
def drawing_scope(seed: int, device: torch.device | None = None, *, rows: int = 0) -> Iterator[None]:
    """Seeded random numbers, no gradients and no validation inside; the caller's generators are as before afterwards.

    Args:
        seed: Of the random numbers inside.
        device: Where they are drawn; None: on the CPU.
        rows: Members times rows of the batches inside; see `computing_scope`.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), computing_scope(rows):
        # Not torch.manual_seed: it seeds every device, and nothing would restore those that are not used here.
        torch.default_generator.manual_seed(seed)
        for used in devices:
            with torch.cuda.device(used):
                torch.cuda.manual_seed(seed)
        yield


def draw_recipes(
    model: HierarchicalCVAE,
    layout: Layout,
    packed: Tensor,
    draws_per_row: int,
    *,
    seed: int,
    compiled: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Unfiltered draws ``x ~ p(x | c)`` for the conditions of each row.

    Draws go round the members, so that every row sees all members when ``draws_per_row`` is a multiple of their number.

    Args:
        model: Trained members.
        layout: Where each site lies in a packed row.
        packed: Encoded rows, shape ``(B, W)``; only their conditions are used.
        draws_per_row: Draws for each row.
        seed: Fixes the draws.
        compiled: `draw_once` in a quicker form, for whole chunks (`CompiledDraws`).

    Yields:
        Row of ``packed`` that each draw belongs to, shape ``(S,)``, and the packed draws, shape ``(S, W)``, in row order.
    """
    members = model.members
    device = next(model.parameters()).device
    conditions = packed[:, : layout.condition_features].to(device)
    total = len(packed) * draws_per_row
    size = rows_at_once(members) * members
    uncompiled = partial(draw_once, model, layout)
    for start in range(0, total, size):
        rows = torch.arange(start, min(start + size, total)) // draws_per_row
        padded = torch.cat([rows, rows[-1:].expand(-len(rows) % members)])
        shown = conditions[padded].view(-1, members, layout.condition_features)
        # A scope and a seed for each chunk: between chunks the caller's random numbers are the caller's own.
        with drawing_scope(mixed_seed(seed, start // size), device, rows=len(padded)):
            draw = compiled if compiled is not None and len(padded) == size else uncompiled
            out = draw(shown.transpose(0, 1)).transpose(0, 1).flatten(0, 1)
        yield rows, out[: len(rows)].cpu()


def draw_numbers(model: HierarchicalCVAE, layout: Layout, packed: Tensor, *, seed: int, tries: int = 8) -> Tensor:
    """Draws whose structures are given: ``z ~ p(z | structure, c)``, then ``x ~ p(x | structure, z, c)``.

    Latents are chosen among some from ``p(z | c)``, each as likely as it makes the structure (sampling importance resampling).
    Rows go round the members.

    Args:
        model: Trained members.
        layout: Where each site lies in a packed row.
        packed: At least one encoded row ``(N, W)``, with whole structures; only these and the conditions are used.
        seed: Fixes the draws.
        tries: Latents among which is chosen.

    Returns:
        Packed draws, shape ``(N, W)``.
    """
    members, count = model.members, len(packed)
    device = next(model.parameters()).device
    padded = torch.cat([packed, packed[-1:].expand(-count % members, -1)]).to(device)
    shown = padded.view(-1, members, padded.shape[1]).transpose(0, 1)
    size = max(1, rows_at_once(members) // tries)
    parts = []
    for number, start in enumerate(range(0, shown.shape[1], size)):
        batch = structure_only(model, layout.unpack(shown[:, start : start + size]))
        several = batch.repeat_rows(tries)
        with drawing_scope(mixed_seed(seed, number), device, rows=members * several.shape[1]):
            trace = poutine.trace(model.model).get_trace(several)
            trace.compute_log_prob(lambda name, site, given=several.values: name in given)
            log_weight = sum(trace.nodes[name]["log_prob"] for name in several.values)
            weight = torch.softmax(log_weight.view(-1, tries), dim=-1)
            chosen = torch.multinomial(weight, 1).view(members, -1, 1, 1)
            values = {name: trace.nodes[name]["value"] for name in layout.slices}
            drawn = layout.pack(values, several.conditions).view(members, -1, tries, packed.shape[1])
            parts.append(drawn.gather(2, chosen.expand(-1, -1, 1, packed.shape[1])).squeeze(2))
    return torch.cat(parts, dim=1).transpose(0, 1).flatten(0, 1)[:count].cpu()


def draw_once(model: HierarchicalCVAE, layout: Layout, conditions: Tensor) -> Tensor:
    """One pass of the model: condition features of packed rows ``(M, B, C)`` -> packed draws ``(M, B, W)``."""
    batch = layout.unpack_conditions(conditions)
    return layout.pack(model.model(batch), batch.conditions)


def rows_at_once(members: int) -> int:
    """Rows that each member draws for in one pass of `draw_recipes`."""
    return max(1, CHUNK_ROWS // members)


def mixed_seed(seed: int, chunk: int) -> int:
    """Seed of one of many chunks of work."""
    return int(np.random.SeedSequence([seed, chunk]).generate_state(1, np.uint64)[0] % 2**63)


def structure_only(model: HierarchicalCVAE, batch: RecipeBatch) -> RecipeBatch:
    """The batch with its structures (presence, codes, states) observed and its numbers open."""
    names = {next(iter(sites.of_block(block))) for block in model.schema.blocks}
    return RecipeBatch(
        batch.conditions,
        batch.conditions_known,
        {name: x for name, x in batch.values.items() if name in names},
        {name: x for name, x in batch.known.items() if name in names},
    )


def explain(model: HierarchicalCVAE, batch: RecipeBatch, draws: int, *, seed: int) -> tuple[dict[str, Tensor], ...]:
    """What the model expects around given recipes: ``z ~ q(z | x, c)``, then ``x' ~ p(x | z, c)``.

    Args:
        model: Trained members.
        batch: Recipes, one member axis of size 1, shape ``(1, B)``; shown to every member.
        draws: Draws for each member.
        seed: Fixes the draws.

    Returns:
        Two sets of draws by site, each of shape ``(S, M, B, ...)``: free ones (for the probability of each structure), and
        ones with the recipe's own structure (for the spread of its numbers).
    """
    shown = batch.expand_members(model.members)
    members, rows = shown.shape
    at_once = min(draws, max(1, CHUNK_ROWS // max(1, members * rows)))
    parts: tuple[list[dict[str, Tensor]], ...] = ([], [])
    with drawing_scope(seed, batch.conditions.device, rows=members * rows * at_once):
        for start in range(0, draws, at_once):
            count = min(at_once, draws - start)
            many = shown.repeat_rows(count)
            trace = poutine.trace(model.guide).get_trace(many)
            for part, given in zip(parts, (many.conditions_only(), structure_only(model, many)), strict=True):
                drawn = poutine.replay(model.model, trace=trace)(given)
                part.append({name: x.unflatten(1, (rows, count)).movedim(2, 0) for name, x in drawn.items()})
    return tuple({name: torch.cat([draw[name] for draw in some]) for name in some[0]} for some in parts)
