"""How many recipes one core draws and decodes in a second, and whether memory grows with their number.

The table is one of the simulated laboratory, so that anyone can repeat it. Every round gives each variant its turn:

    floor    only the matrix products of drawing: prior networks, decoders and heads, over inputs that are there already
    draw     packed draws (`draw_recipes`)
    decode   packed draws that are there already -> columns of the table (`RecipeCodec.decode`)
    sample   what a user calls: rows of conditions -> data frames (`RecipeDesigner.sample`)
    as drawn the same, but numbers stay as drawn (``as_drawn=True``) in the place of written as people write them
    compiled draw, compiled sample, compiled as drawn   the same with a compiled pass (`CompiledDraws`; whole chunks only)

Shown are medians over the rounds of the process CPU time, as recipes a second, and how many times as long as the floor it takes.
Memory is what the process holds, over what it held before, while draws are made and thrown away chunk by chunk.

Examples:
    python scripts/benchmark_sampling.py
    python scripts/benchmark_sampling.py --members 5 --draws-per-row 10000 --steps 4000 --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pyro_hcvae import RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.model.config import Compile
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.networks import MemberLinear
from pyro_hcvae.model.scopes import computing_scope
from pyro_hcvae.posterior.compiled_draws import CompiledDraws
from pyro_hcvae.posterior.predictive import CHUNK_ROWS, draw_recipes

_STATM = Path("/proc/self/statm")

Variant = Callable[[], int]
"""Does its work once, and returns how many recipes that was."""


def fitted(members: int, *, recipes: int, steps: int) -> RecipeDesigner:
    """Members with the default settings, trained on a simulated table for some steps: speed does not depend on how many."""
    raw = VirtualLab().experiments(recipes=recipes, seed=0)
    table = RecipeTable.from_frame(raw, RecipeSchema.load("drm"), source=raw.attrs["title"])
    return RecipeDesigner(table.schema, train=TrainConfig(members=members, steps=steps)).fit(table, device="cpu")


def conditions(designer: RecipeDesigner, rows: int) -> pd.DataFrame:
    """The table's rows, over and over."""
    frame = designer.table.frame
    return frame.iloc[np.arange(rows) % len(frame)]


def generating(network: HierarchicalCVAE) -> list[MemberLinear]:
    """Affine maps between conditions and recipe; the encoder and the residual networks belong to the guide."""
    return [
        layer
        for stage in network.stages
        for part in (stage.latent.prior_network, stage.decoder, *stage.blocks)
        for layer in part.modules()
        if isinstance(layer, MemberLinear)
    ]


def variants(
    designer: RecipeDesigner, draws_per_row: int, draws: int, compiled: CompiledDraws | None
) -> dict[str, Variant]:
    """The variants for one designer.

    Args:
        designer: Fitted members.
        draws_per_row: Draws for each row of conditions.
        draws: Recipes of one turn, rounded up to whole rows of conditions.
        compiled: Compiled pass; None: without its variants.
    """
    network, codec = designer.network, designer.codec
    asked = conditions(designer, -(-draws // draws_per_row))
    packed = codec.encode(asked)
    rows = max(1, min(CHUNK_ROWS, len(asked) * draws_per_row) // network.members)
    weights = [layer.weight.detach() for layer in generating(network)]
    inputs = [torch.randn(network.members, rows, weight.shape[1]) for weight in weights]
    passes = -(-len(asked) * draws_per_row // (rows * network.members))

    def floor() -> int:
        with computing_scope(network.members * rows):
            for _ in range(passes):
                for x, weight in zip(inputs, weights, strict=True):
                    torch.bmm(x, weight)
        return passes * rows * network.members

    def draw(compiled: CompiledDraws | None) -> int:
        drawn = draw_recipes(network, codec.layout, packed, draws_per_row, seed=0, compiled=compiled)
        return sum(len(x) for _, x in drawn)

    def decode(drawn: list[torch.Tensor]) -> int:
        return sum(len(codec.decode(x)) for x in drawn)

    def sample(compilation: Compile, *, as_drawn: bool = False) -> int:
        frames = designer.sample(asked, draws_per_row, as_drawn=as_drawn, compilation=compilation)
        return sum(len(frame) for frame in frames)

    drawn = [x for _, x in draw_recipes(network, codec.layout, packed, draws_per_row, seed=0)]
    out = {
        "floor": floor,
        "draw": partial(draw, None),
        "decode": partial(decode, drawn),
        "sample": partial(sample, "never"),
        "as drawn": partial(sample, "never", as_drawn=True),
    }
    if compiled is not None:
        out |= {
            "compiled draw": partial(draw, compiled),
            "compiled sample": partial(sample, "always"),
            "compiled as drawn": partial(sample, "always", as_drawn=True),
        }
    return out


def recipes_per_second(variant: Variant) -> float:
    """Speed of one turn."""
    start = time.process_time()
    count = variant()
    return count / (time.process_time() - start)


def speeds(designers: Sequence[RecipeDesigner], args: argparse.Namespace) -> list[dict[str, object]]:
    """Median speeds of all variants; turns interleave, so that a machine that slows down slows all of them."""
    cases = []
    for designer in designers:
        compiled = None if args.without_compiled else CompiledDraws(designer.network, designer.codec.layout)
        for draws_per_row in args.draws_per_row:
            cases.append(
                (designer.network.members, draws_per_row, variants(designer, draws_per_row, args.draws, compiled))
            )
    measured: dict[tuple[int, int, str], list[float]] = {}
    for turn in range(args.rounds + 1):  # the first one warms up
        for members, draws_per_row, case in cases:
            for name, variant in case.items():
                speed = recipes_per_second(variant)
                if turn > 0:
                    measured.setdefault((members, draws_per_row, name), []).append(speed)
    medians = {key: statistics.median(values) for key, values in measured.items()}
    return [
        {
            "variant": name,
            "members": members,
            "draws_per_row": draws_per_row,
            "recipes_per_second": speed,
            "floor_ratio": medians[members, draws_per_row, "floor"] / speed,
        }
        for (members, draws_per_row, name), speed in medians.items()
    ]


def resident_mb() -> float:
    """Memory that this process holds now, as Linux tells it."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(designer: RecipeDesigner, numbers: Sequence[int]) -> list[dict[str, float]]:
    """Growth of the resident memory while draws of one row come chunk by chunk; empty where nothing tells it."""
    if not _STATM.exists():
        return []
    before, out = resident_mb(), []
    for draws in [*numbers[:1], *numbers]:  # the first of them only warms the allocator up
        growth = [resident_mb() - before for _ in designer.sample(conditions(designer, 1), draws)]
        out.append({"draws": draws, "median_growth_mb": statistics.median(growth), "peak_growth_mb": max(growth)})
    return out[1:]


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--members", type=int, nargs="+", default=[1, 5, 20], help="(default: 1 5 20)")
    out.add_argument("--draws-per-row", type=int, nargs="+", default=[1, 100, 10000], help="(default: 1 100 10000)")
    out.add_argument("--draws", type=int, default=5 * CHUNK_ROWS, help="recipes of one turn (default: 20480)")
    out.add_argument(
        "--memory", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="draws to stream for it"
    )
    out.add_argument("--recipes", type=int, default=200, help="recipes of the simulated laboratory (default: 200)")
    out.add_argument("--steps", type=int, default=1, help="training steps before (default: 1)")
    out.add_argument("--rounds", type=int, default=7, help="rounds after the one that warms up (default: 7)")
    out.add_argument("--without-compiled", action="store_true", help="leave the compiled pass out (no C++ compiler)")
    out.add_argument("--quick", action="store_true", help="the smallest of everything, uncompiled, to see that it runs")
    out.add_argument("--json", action="store_true", help="print one JSON object")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = parser().parse_args(argv)
    if args.quick:
        args.members, args.draws_per_row, args.draws, args.rounds = [1, 2], [1, 10], 40, 1
        args.memory, args.recipes, args.without_compiled = [50, 100], 24, True
    designers = [fitted(members, recipes=args.recipes, steps=args.steps) for members in args.members]
    grown = memory(designers[-1], args.memory)  # before anything else is drawn
    rows = speeds(designers, args)
    if args.json:
        print(json.dumps({"rows": rows, "memory": grown}))
        return
    print("variant            members  draws a row  recipes/s  x floor")
    for row in rows:
        print(
            f"{row['variant']:<17}  {row['members']:7d}  {row['draws_per_row']:11d}"
            f"  {row['recipes_per_second']:9.0f}  {row['floor_ratio']:7.2f}"
        )
    for entry in grown:
        grew = f"grown by {entry['median_growth_mb']:.0f} MB (median), {entry['peak_growth_mb']:.0f} MB (at most)"
        print(f"resident memory over {entry['draws']:,} draws: {grew}")


if __name__ == "__main__":
    main()
