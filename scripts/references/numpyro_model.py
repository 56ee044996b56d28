"""The default model for ``drm`` in NumPyro: stock SVI, scanned over steps, mapped over members, compiled as one function.

Weights follow a fixed schedule and gradients are not clipped, which spares NumPyro the rates of each layer and their norm.
Importing this module imports JAX, which reads ``JAX_PLATFORMS`` and ``XLA_FLAGS`` then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import torch
from jax import Array, lax, random
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.handlers import scale, substitute
from numpyro.infer import SVI, TraceMeanField_ELBO
from numpyro.optim import Adam

from pyro_hcvae import HierarchicalCVAE
from references.handwritten import BETA_STEPS, CALCINATION, DROPOUT, HIDE, JITTER, PREPARATION
from references.handwritten_numbers import COMPONENTS, FLOOR, HIDDEN, KERNEL
from references.problem import LATENT_DIMS, Draws, Problem, max_error, our_linears, our_tables
from references.rows import Rows

SCANNED = 25
LATENTS = ("metal", "support", "pretreatment")
Parameters = dict[str, Array]


class Minibatch(NamedTuple):
    """As `references.rows.Minibatch`, and the blocks of each recipe feature, shape ``(W,)``."""

    conditions: Array
    recipe: Array
    exists: Array
    visible: Array
    owner: Array


class SubsetBernoulli(dist.Distribution):
    """Subsets of at most as many components as there are sizes, less one."""

    arg_constraints = {"size_logits": constraints.real_vector, "logits": constraints.real_vector}  # noqa: RUF012
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, size_logits: Array, logits: Array, *, validate_args: bool | None = None) -> None:
        self.size_logits, self.logits = size_logits, logits
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Array) -> Array:
        """Log probability of subsets given as 0/1."""
        features, sizes = self.logits.shape[-1], self.size_logits.shape[-1]
        weights, before = jnp.exp(self.logits), jnp.triu(jnp.ones((features, features)), 1)
        terms, e = weights, [jnp.ones(self.batch_shape), weights.sum(-1)]
        for _ in range(sizes - 2):
            terms = weights * (terms @ before)
            e.append(terms.sum(-1))
        log_size = jax.nn.log_softmax(self.size_logits) - jnp.log(jnp.stack(e, axis=-1))
        size = jax.nn.one_hot(value.sum(-1).astype(int), sizes)
        return (value * self.logits).sum(-1) + (size * log_size).sum(-1)


def linear(name: str, x: Array, outputs: int) -> Array:
    """Affine map with registered parameters."""
    shape = (x.shape[-1], outputs)
    weight = numpyro.param(f"{name}.weight", lambda key: random.normal(key, shape) / np.sqrt(shape[0]))
    return x @ weight + numpyro.param(f"{name}.bias", jnp.zeros(outputs))


def table(name: str, rows: int, width: int) -> Array:
    """One registered vector for each of some things."""
    value: Array = numpyro.param(name, lambda key: random.normal(key, (rows, width)))
    return value


def mlp(name: str, x: Array, outputs: int | None = None) -> Array:
    """Two hidden layers with SiLU, and a head if there are outputs."""
    for i in range(2):
        x = jax.nn.silu(linear(f"{name}.{i}", x, HIDDEN))
    return x if outputs is None else linear(f"{name}.head", x, outputs)


def gaussian(raw: Array) -> dist.Distribution:
    """Diagonal Gaussian, log scale kept within 5."""
    loc, log_scale = jnp.split(5 * jnp.tanh(raw / 5), 2, axis=-1)
    return dist.Normal(loc, jnp.exp(log_scale) + 0.01).to_event(1)


def prior_of(latent: str, above: Array, size: int) -> Array:
    """Raw loc and log scale of a prior."""
    return mlp(f"{latent}.prior", above, 2 * size)


def guide(batch: Minibatch, weights: Array) -> None:
    """``q(z | x, c)``; ``weights`` is beta * gamma of each latent."""
    rows, visible = batch.recipe.shape[0], batch.visible
    context = mlp(
        "encoder", jnp.concatenate([batch.conditions, batch.recipe * visible[:, batch.owner], visible], axis=1)
    )
    anything, above = visible.max(1, keepdims=True), batch.conditions
    with numpyro.plate("rows", rows), scale(scale=1 / rows):
        for i, (latent, size) in enumerate(zip(LATENTS, LATENT_DIMS, strict=True)):
            prior = prior_of(latent, above, size)
            shift = mlp(f"{latent}.posterior", jnp.concatenate([above, context, prior], axis=1), 2 * size)
            with scale(scale=weights[i]):
                z = numpyro.sample(f"z_{latent}", gaussian(prior + shift * anything))
            above = jnp.concatenate([above, z], axis=1)


def model(batch: Minibatch, weights: Array) -> None:
    """``p(z, x | c)`` with the recipes observed."""
    rows, visible = batch.recipe.shape[0], batch.visible
    metals, amounts, supports, ratios, preparation, calcined, settings, reduced, reduction = jnp.split(
        batch.recipe, np.cumsum((23, 23, 45, 45, 7, 1, 2, 3)), axis=1
    )
    exist = jnp.split(batch.exists, np.cumsum((23, 45, 2)), axis=1)
    above, hidden = batch.conditions, []
    with numpyro.plate("rows", rows), scale(scale=1 / rows):
        for i, (latent, size) in enumerate(zip(LATENTS, LATENT_DIMS, strict=True)):
            with scale(scale=weights[i]):
                z = numpyro.sample(f"z_{latent}", gaussian(prior_of(latent, above, size)))
            above = jnp.concatenate([above, z], axis=1)
            hidden.append(mlp(f"{latent}.decoder", above))

        def subset(name: str, h: Array, value: Array, largest: int, seen: Array) -> None:
            logits = 7.5 * jnp.tanh(linear(f"{name}.presence", h, value.shape[1]) / 7.5)
            fn = SubsetBernoulli(linear(f"{name}.size", h, largest + 1), logits)
            numpyro.sample(f"{name}.presence", fn.mask(seen), obs=value)

        def code(name: str, h: Array, value: Array, seen: Array) -> None:
            fn = dist.Categorical(logits=linear(f"{name}.head", h, value.shape[1]))
            numpyro.sample(f"{name}.code", fn.mask(seen), obs=value.argmax(1))

        def numbers(name: str, h: Array, structure: Array, value: Array, exists: Array, most: int) -> None:
            shared = linear(f"{name}.trunk", jnp.concatenate([h, structure], axis=1), HIDDEN)
            which, gate = (table(f"{name}.{part}", value.shape[1], HIDDEN) for part in ("which", "gate"))
            own = table(f"{name}.gaussians", value.shape[1], 3 * COMPONENTS)
            at = jnp.arange(value.shape[1])[None]
            if most < value.shape[1]:  # densities of the others are never computed
                at = lax.top_k(exists, most)[1]
                exists, value = (jnp.take_along_axis(part, at, axis=1) for part in (exists, value))
            logits, loc, raw_width = jnp.split(own[at], 3, axis=-1)
            width = jax.nn.softplus(raw_width)
            near = jax.nn.softmax(-0.5 * jnp.square((value[..., None] - loc) / (KERNEL + width)))
            said = linear(f"{name}.say", near, HIDDEN) * gate[at] * exists[..., None]
            state = shared[:, None] + which[at] + said.cumsum(1) - said
            logits = logits + linear(f"{name}.numbers", jax.nn.silu(state), COMPONENTS)
            fn = dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, width + FLOOR))
            numpyro.sample(f"{name}.value", fn.mask(exists > 0).to_event(1), obs=value)

        seen = visible.T > 0
        subset("metals", hidden[0], metals, 4, seen[0])
        numbers("metals", hidden[0], metals, amounts, exist[0] * visible[:, :1], 4)
        subset("supports", hidden[1], supports, 3, seen[1])
        numbers("supports", hidden[1], supports, ratios, exist[1] * visible[:, 1:2], 2)
        code("preparation", hidden[2], preparation, seen[2])
        # The blocks of a stage see those before them, as the encoder does.
        shown = jnp.concatenate([hidden[2], batch.recipe[:, PREPARATION] * visible[:, 2:3], visible[:, 2:3]], axis=1)
        joint = jax.nn.silu(linear("calcination.joint", shown, HIDDEN))
        numbers("calcination", joint, calcined, settings, exist[2] * visible[:, 3:4], 2)
        shown = jnp.concatenate([shown, batch.recipe[:, CALCINATION] * visible[:, 3:4], visible[:, 3:4]], axis=1)
        joint = jax.nn.silu(linear("reduction.joint", shown, HIDDEN))
        code("reduction", joint, reduced, seen[4])
        numbers("reduction", joint, reduced, reduction, exist[3] * visible[:, 4:5], 3)


def names() -> list[str]:
    """Affine maps in the order of our model, less its head with one output."""
    numbers = ("trunk", "say", "numbers")
    own = {
        "metal": [f"metals.{part}" for part in ("presence", "size", *numbers)],
        "support": [f"supports.{part}" for part in ("presence", "size", *numbers)],
        "pretreatment": ["preparation.head", *(f"calcination.{part}" for part in numbers)]
        + [f"reduction.{part}" for part in ("head", *numbers)]
        + ["calcination.joint", "reduction.joint"],
    }
    out = ["encoder.0", "encoder.1"]
    for latent in LATENTS:
        out += [f"{latent}.{network}.{part}" for network in ("prior", "posterior") for part in ("0", "1", "head")]
        out += [f"{latent}.decoder.0", f"{latent}.decoder.1", *own[latent]]
    return out


def table_names() -> list[str]:
    """Tables in the order of our model."""
    blocks = ("metals", "supports", "calcination", "reduction")
    return [f"{block}.{part}" for block in blocks for part in ("which", "gate", "gaussians")]


def parameters(network: HierarchicalCVAE) -> Parameters:
    """Weights ``(M, in, out)``, biases ``(M, out)`` and tables ``(M, F, W)`` of our model by the names used here."""
    out: Parameters = {}
    for name, layer in zip(names(), our_linears(network), strict=True):
        out[f"{name}.weight"] = jnp.asarray(layer.weight.detach().numpy())
        out[f"{name}.bias"] = jnp.asarray(layer.bias.detach().squeeze(1).numpy())
    for name, ours in zip(table_names(), our_tables(network), strict=True):
        out[name] = jnp.asarray(ours.detach().flatten(2).numpy())
    return out


class Table:
    """The table on JAX's side, and its minibatches."""

    def __init__(self, problem: Problem) -> None:
        rows = Rows(problem)
        self.rows, self.features = jnp.asarray(rows.table.numpy()), rows.features
        self.places, self.owner = np.cumsum(rows.widths)[:-1], jnp.asarray(rows.owner.numpy())

    def minibatch(self, rows: Array, hidden: Array, blur: Array, keep: Array) -> Minibatch:
        """Gather rows ``(B,)``, hide blocks of them, and disturb their conditions."""
        conditions, known, recipe, _, exists, visible = jnp.split(self.rows[rows], self.places, axis=1)
        known = known * keep
        disturbed = jnp.concatenate([(conditions + blur) * known, known], axis=1)
        return Minibatch(disturbed, recipe, exists, visible * ~hidden, self.owner)

    def draw(self, key: Array, size: int) -> Minibatch:
        """A random minibatch."""
        keys = random.split(key, 6)
        rows = random.randint(keys[0], (size,), 0, len(self.rows))
        hidden = (random.uniform(keys[1], (size, 1)) < HIDE) & random.bernoulli(keys[2], shape=(size, 5))
        features = (size, self.features)
        lost = (random.uniform(keys[3], (size, 1)) < DROPOUT) & random.bernoulli(keys[4], shape=features)
        return self.minibatch(rows, hidden, JITTER * random.normal(keys[5], features), ~lost)


class Loop:
    """The training loop of all members, `SCANNED` steps a call.

    Args:
        problem: The table.
        members: Members.
        batch_size: Rows of a minibatch.
    """

    def __init__(self, problem: Problem, members: int, batch_size: int) -> None:
        table = Table(problem)
        svi = SVI(model, guide, Adam(2e-3), TraceMeanField_ELBO())

        def start(key: Array, initial: Parameters) -> Any:
            return svi.init(key, table.draw(key, batch_size), jnp.ones(3), init_params=initial)

        def scanned(state: Any, key: Array, first: Array) -> Any:
            def step(state: Any, number: Array) -> tuple[Any, Array]:
                beta = jnp.clip(number / BETA_STEPS, 1e-3, 1.0)
                batch = table.draw(random.fold_in(key, number), batch_size)
                return svi.update(state, batch, jnp.full(3, beta))

            return lax.scan(step, state, first + jnp.arange(SCANNED))[0]

        self.keys = random.split(random.PRNGKey(0), members)
        self.state = jax.vmap(start)(self.keys, parameters(problem.network(members)))
        self.scanned = jax.jit(jax.vmap(scanned, in_axes=(0, 0, None)))
        self.step = 0

    def run(self, steps: int) -> None:
        """Take training steps, a multiple of `SCANNED`."""
        for _ in range(steps // SCANNED):
            self.state = self.scanned(self.state, self.keys, self.step)
            self.step += SCANNED
        jax.block_until_ready(self.state)


def check(problem: Problem, *, batch_size: int = 64, tolerance: float = 1e-5) -> float:
    """Check that loss and gradients are those of our model at the same weights, rows and noise.

    Returns:
        The largest relative error of the loss and the gradients.

    Raises:
        AssertionError: If they differ by more than float32 rounding.
    """
    network = problem.network(stir=0.05)
    draws, weights = next(problem.draws(batch_size)), np.array([0.3, 0.7, 1.9], np.float32)
    loss = problem.objective(network, draws, torch.from_numpy(weights)).loss
    loss.backward()
    alone = Draws(*(jnp.asarray(draw[0].numpy()) for draw in draws))
    noise = jnp.split(alone.noise, np.cumsum(LATENT_DIMS)[:-1], axis=1)
    given = {f"z_{latent}": eps for latent, eps in zip(LATENTS, noise, strict=True)}

    def draw(site: dict[str, Any]) -> Array | None:
        if site["name"] not in given:
            return None
        gaussian = site["fn"].base_dist
        return gaussian.loc + gaussian.scale * given[site["name"]]

    batch = Table(problem).minibatch(alone.rows, alone.hidden, alone.blur, alone.keep)

    def objective(values: Parameters) -> Array:
        key = random.PRNGKey(0)
        return TraceMeanField_ELBO().loss(key, values, model, substitute(guide, substitute_fn=draw), batch, weights)

    values = {name: value[0] for name, value in parameters(network).items()}
    theirs, gradients = jax.jit(jax.value_and_grad(objective))(values)
    pairs = [(torch.tensor(float(theirs)), loss)]
    for name, layer in zip(names(), our_linears(network), strict=True):
        for part, ours in (("weight", layer.weight.grad[0]), ("bias", layer.bias.grad[0, 0])):
            pairs.append((torch.from_numpy(np.array(gradients[f"{name}.{part}"])), ours))
    for name, ours in zip(table_names(), our_tables(network), strict=True):
        pairs.append((torch.from_numpy(np.array(gradients[name])), ours.grad[0].flatten(1)))
    worst = max_error(pairs)
    if not worst <= tolerance:
        raise AssertionError(f"NumPyro computes something else: relative error {worst}")
    return worst
