"""Train the model the way a Pyro user would: stock `pyro.infer.SVI`, a Pyro optimiser, and `ScaledELBO`.

The library's own engine (`RecipeDesigner.fit`) is faster, stops early and can be resumed. This script shows that nothing in the
model needs it, and is a place to start from for other objectives, optimisers or guides:

* `HierarchicalCVAE.model` and `.guide` hold no parameter statement; a wrapper registers the network with `pyro.module`.
* All of it happens inside `pyro.get_param_store().scope()`: the global store is the same before and after.
* `ScaledELBO.weights` is replaced before each step: beta warms up, gamma is balanced from the rates and released to 1.

Examples:
    python scripts/train_svi.py --steps 300
    python scripts/train_svi.py --table ours.csv --schema ours.toml --steps 4000 --out runs/svi
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from numpy.typing import NDArray
from pyro.infer import SVI
from pyro.optim import Adam, ClippedAdam, PyroOptim
from torch import Tensor

from pyro_hcvae import (
    HierarchicalCVAE,
    InputError,
    ModelConfig,
    RecipeDesigner,
    RecipeSchema,
    RecipeTable,
    ScaledELBO,
    TrainConfig,
)
from pyro_hcvae.data.batch import Layout, RecipeBatch
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.data.splits import hold_out
from pyro_hcvae.data.virtual_lab import VirtualLab
from pyro_hcvae.inference import schedules
from pyro_hcvae.inference.objective import ElboTerms
from pyro_hcvae.model.scopes import computing_scope
from pyro_hcvae.posterior.importance import log_marginal

Program = Callable[[RecipeBatch], dict[str, Tensor]]


class RecordingELBO(ScaledELBO):
    """`ScaledELBO` that keeps the terms of its last evaluation: `SVI.step` returns the loss alone."""

    last: ElboTerms

    def terms(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> ElboTerms:
        """As `ScaledELBO.terms`."""
        self.last = super().terms(model, guide, *args, **kwargs)
        return self.last


def with_parameters(network: HierarchicalCVAE) -> tuple[Program, Program]:
    """Model and guide that register the network's parameters, as stock SVI expects them to."""

    def model(batch: RecipeBatch) -> dict[str, Tensor]:
        pyro.module("cvae", network)
        return network.model(batch)

    def guide(batch: RecipeBatch) -> dict[str, Tensor]:
        pyro.module("cvae", network)
        return network.guide(batch)

    return model, guide


def minibatches(
    packed: Tensor, layout: Layout, recipes: NDArray[np.int64], members: int, rows: int, *, seed: int
) -> Iterator[RecipeBatch]:
    """Endless minibatches ``(M, B)``, in which every recipe is as likely as every other, however often it was measured."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.bincount(recipes)[recipes]
    while True:
        yield layout.unpack(packed[rng.choice(len(packed), size=(members, rows), p=weights / weights.sum())])


def train(
    network: HierarchicalCVAE,
    batches: Iterator[RecipeBatch],
    validation: RecipeBatch,
    optimizer: PyroOptim,
    *,
    steps: int,
    batch_size: int,
    warmup: float,
    every: int,
) -> pd.DataFrame:
    """Run SVI inside a parameter store of its own, and print the loss and the rate of each layer.

    Args:
        network: The members; trained in place.
        batches: Minibatches, shape ``(M, B)``.
        validation: Rows that are not trained on, shape ``(M, V)``.
        optimizer: Any Pyro optimiser.
        steps: Minibatches to take.
        batch_size: ``B``; the objective is a mean over rows, and a sum over the members, which share no parameter.
        warmup: Share of the steps over which beta rises to 1.
        every: Steps between two printed lines.

    Returns:
        One row a member and printed line, in nats per recipe.
    """
    names, dims = list(network.latent_dims), list(network.latent_dims.values())
    rates = torch.ones(len(dims), network.members)
    elbo = RecordingELBO(row_weights=1.0 / batch_size)
    records: list[dict[str, float]] = []
    with computing_scope(), pyro.get_param_store().scope():
        svi = SVI(*with_parameters(network), optimizer, elbo)
        for step in range(steps):
            beta = schedules.beta(step, round(warmup * steps))
            gamma = schedules.released(schedules.balanced_gamma(rates, dims), beta)
            elbo.weights = {name: (beta * gamma[i])[:, None] for i, name in enumerate(names)}
            loss = svi.step(next(batches))
            now = torch.stack([elbo.last.rate[name].detach().mean(dim=1) for name in names])
            rates = 0.9 * rates + 0.1 * now
            if (step + 1) % every == 0 or step + 1 == steps:
                with torch.no_grad():
                    held = ScaledELBO().terms(network.model, network.guide, validation)
                bounds = -held.elbo.mean(dim=1)
                shown = "  ".join(f"{name} {rate:.2f}" for name, rate in zip(names, rates.mean(dim=1), strict=True))
                print(
                    f"step {step + 1:5d}  beta {beta:.2f}  loss {loss / network.members:7.2f}  "
                    f"held-out {bounds.mean():7.2f}  rates [nats]  {shown}"
                )
                records += [
                    {"step": step + 1, "member": m, "validation_loss": bounds[m].item(), "best": 0, "waited": 0}
                    | {"beta": beta}
                    | {f"rate {name}": rates[i, m].item() for i, name in enumerate(names)}
                    for m in range(network.members)
                ]
    return pd.DataFrame(records)


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--table", type=Path, help="CSV, Excel or Parquet file; default: a simulated laboratory")
    out.add_argument("--schema", default="drm", help="built-in schema or schema file (default: drm)")
    out.add_argument("--recipes", type=int, default=200, help="recipes of the simulated laboratory (default: 200)")
    out.add_argument("--members", type=int, default=2, help="replicates trained at once (default: 2)")
    out.add_argument("--steps", type=int, default=500, help="minibatches (default: 500)")
    out.add_argument("--batch-size", type=int, default=64, help="rows of a minibatch (default: 64)")
    out.add_argument("--learning-rate", type=float, default=2e-3, help="(default: 0.002)")
    out.add_argument("--optimizer", choices=("clipped", "adam"), default="clipped", help="ClippedAdam or Adam")
    out.add_argument("--hidden", type=int, nargs="+", default=[64, 64], help="widths of all networks (default: 64 64)")
    out.add_argument("--warmup", type=float, default=0.3, help="share of the steps in which beta rises (default: 0.3)")
    out.add_argument("--every", type=int, default=50, help="steps between two printed lines (default: 50)")
    out.add_argument("--seed", type=int, default=0, help="member m is initialised from seed + m (default: 0)")
    out.add_argument("--out", type=Path, help="run folder to write, for the other commands and scripts")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Train on a table, and print what held-out recipes score."""
    options = parser()
    args = options.parse_args(argv)
    if args.out is not None and args.out.exists():
        options.error(f"--out {args.out} exists already: choose another folder")
    try:
        schema = RecipeSchema.load(args.schema)
        if args.table is None:
            raw = VirtualLab().experiments(recipes=args.recipes, seed=args.seed)
            table = RecipeTable.from_frame(raw, schema, source=raw.attrs["title"])
        else:
            table = RecipeTable.read(args.table, schema)
    except InputError as error:
        options.error(str(error))
    print(f"{table.report.source}: {len(table)} rows, {table.report.facts['recipes']} recipes")

    train_rows, held_rows = hold_out(table.recipe_ids(), 0.15, seed=args.seed)
    kept, held = table.select(train_rows), table.select(held_rows)
    recipes, weights = kept.recipe_ids(), kept.recipe_weights()
    codec = RecipeCodec.fit(schema, kept.frame, weights)
    packed = codec.encode(kept.frame)
    model_config = ModelConfig(hidden=tuple(args.hidden))
    seeds = range(args.seed, args.seed + args.members)
    network = HierarchicalCVAE(schema, len(codec.feature_names), model_config, seeds=seeds)
    network.start_at(fit_levels(codec, packed, weights, model_config.mixture_components))
    validation = codec.layout.unpack(codec.encode(held.frame)[None]).expand_members(args.members)

    pyro.set_rng_seed(args.seed)
    optimizer = (
        ClippedAdam({"lr": args.learning_rate, "clip_norm": 5.0})
        if args.optimizer == "clipped"
        else Adam({"lr": args.learning_rate})
    )
    batches = minibatches(packed, codec.layout, recipes, args.members, args.batch_size, seed=args.seed)
    history = train(
        network,
        batches,
        validation,
        optimizer,
        steps=args.steps,
        batch_size=args.batch_size,
        warmup=args.warmup,
        every=args.every,
    )
    nats = log_marginal(network, validation, draws=64, seed=args.seed).mean()
    print(f"held-out recipes, {len(held)} rows: {nats:.2f} nats a row (importance-weighted, 64 draws)")

    if args.out is not None:
        settings = TrainConfig(
            members=args.members, seed=args.seed, steps=args.steps, batch_size=args.batch_size,
            learning_rate=args.learning_rate, beta_warmup=args.warmup,
        )  # fmt: skip
        designer = RecipeDesigner(schema, model=model_config, train=settings)
        designer.table, designer.codec, designer.network, designer.history = kept, codec, network, history
        designer.save(args.out)
        print(f"run folder: {args.out}")


if __name__ == "__main__":
    main()
