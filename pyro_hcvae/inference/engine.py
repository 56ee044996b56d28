"""`Trainer`: the loop that trains all members at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pyro_hcvae.data import sites
from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference import schedules
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.objective import ElboTerms, GivenNoise, ScaledELBO
from pyro_hcvae.inference.streams import RecipeStream, TrainingData
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.scopes import computing_scope

_ADAM_BETAS, _ADAM_EPSILON = (0.9, 0.999), 1e-8
Record = dict[str, float | int]


class FlatParameters:
    """All parameters of a member module as one tensor ``(M, P)``; the module's own parameters become views of it.

    One buffer makes clipping per member, AdamW, copies and checkpoints a handful of operations each.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = list(module.parameters())
        self.values = torch.cat([p.detach().flatten(1) for p in self._parameters], dim=1)
        offset = 0
        for p in self._parameters:
            place = slice(offset, offset + p[0].numel())
            p.data = self.values[:, place].view(p.shape)
            offset = place.stop

    def gradient(self, loss: Tensor) -> Tensor:
        """Gradient of a scalar, shape ``(M, P)``."""
        return torch.cat([g.flatten(1) for g in torch.autograd.grad(loss, self._parameters)], dim=1)


@dataclass
class TrainState:
    """Everything that training carries from one interval to the next.

    Attributes:
        interval: Intervals done.
        values: Parameters, shape ``(M, P)``.
        first: First moment of AdamW, shape ``(M, P)``.
        second: Second moment of AdamW, shape ``(M, P)``.
        best_values: Parameters at each member's best validation, shape ``(M, P)``.
        best_loss: Best validation loss, shape ``(M,)``, in nats per recipe.
        waited: Intervals since the best one, shape ``(M,)``.
        rates: Running mean of each layer's KL, shape ``(L, M)``, in nats.
        history: One record a member and interval.
    """

    interval: int
    values: Tensor
    first: Tensor
    second: Tensor
    best_values: Tensor
    best_loss: Tensor
    waited: Tensor
    rates: Tensor
    history: list[Record] = field(default_factory=list)

    TENSORS = ("values", "first", "second", "best_values", "best_loss", "waited", "rates")


class Trainer:
    """Trains the members of a `HierarchicalCVAE` by stochastic variational inference.

    All randomness of an interval follows from a member's seed and the interval's number, so that a resumed run needs no state
    of any generator and goes on bit for bit.

    Args:
        model: The members; its parameters are updated in place.
        data: Encoded training rows.
        config: Settings.
        state: State to go on from; None: start.
    """

    def __init__(
        self, model: HierarchicalCVAE, data: TrainingData, config: TrainConfig, state: TrainState | None = None
    ) -> None:
        if model.members != config.members:
            raise ValueError(f"the model has {model.members} members, the settings {config.members}")
        fixed = config.fixed_gamma()
        if fixed is not None and any(len(row) != len(model.latent_dims) for row in fixed):
            raise InputError(f"gamma: {len(fixed[0])} factors for {len(model.latent_dims)} layers of the schema")
        self.model, self.data, self.config = model, data, config
        self.device = next(model.parameters()).device
        self.packed = data.packed.to(self.device)
        self._fixed_gamma = None if fixed is None else torch.tensor(fixed, device=self.device).T
        self.latents = tuple(model.latent_dims)
        self.dims = list(model.latent_dims.values())
        self.flat = FlatParameters(model)
        self._scratch = torch.empty_like(self.flat.values)
        self._streams = [RecipeStream(data, config, seed) for seed in config.seeds]
        self._validation = self._validation_set()
        if state is None:
            members, zeros = config.members, torch.zeros_like(self.flat.values)
            self.state = TrainState(
                interval=0,
                values=self.flat.values,
                first=zeros,
                second=zeros.clone(),
                best_values=self.flat.values.clone(),
                best_loss=torch.full((members,), math.inf),
                waited=torch.zeros(members, dtype=torch.int64),
                rates=torch.ones(len(self.dims), members, device=self.device),
            )
        else:
            self.flat.values.copy_(state.values)
            self.state = state
            self.state.values = self.flat.values
            for name in ("first", "second", "best_values", "rates"):
                setattr(self.state, name, getattr(state, name).to(self.device))

    @property
    def intervals(self) -> int:
        """Intervals of the longest training."""
        return math.ceil(self.config.steps / self.config.interval)

    @property
    def stopped(self) -> Tensor:
        """Members that have run out of patience, shape ``(M,)``, bool."""
        return self.state.waited >= self.config.patience

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.state.interval >= self.intervals or bool(self.stopped.all())

    def train(self, on_interval: Callable[[TrainState], None] = lambda state: None) -> TrainState:
        """Train to the end, then put each member's best parameters into the model.

        Args:
            on_interval: Called after each interval, e.g. to write a checkpoint or to show progress.
        """
        with computing_scope():
            while not self.finished:
                self._interval()
                on_interval(self.state)
            self.flat.values.copy_(self.state.best_values)
        return self.state

    def _interval(self) -> None:
        config, state = self.config, self.state
        start = state.interval * config.interval
        steps = min(config.interval, config.steps - start)
        chunks = [stream.chunk(state.interval, steps, sum(self.dims)) for stream in self._streams]
        draws = [torch.stack(part, dim=1).to(self.device) for part in zip(*chunks, strict=True)]
        for i in range(steps):
            self._step(start + i, *(draw[i] for draw in draws))
        state.interval += 1
        self._validate(start + steps)

    def _step(self, step: int, rows: Tensor, noise: Tensor, hidden: Tensor, blur: Tensor, keep: Tensor) -> None:
        state = self.state
        batch = self.data.layout.unpack(self.packed[rows])
        batch = batch.hide(self._hidden_sites(hidden)).blur(blur, keep)
        beta = self._beta(step)
        gamma = self._gamma(beta)
        elbo = ScaledELBO(
            {name: (beta * gamma[i])[:, None] for i, name in enumerate(self.latents)}, row_weights=1 / rows.shape[1]
        )
        terms = self._terms(elbo, batch, noise)
        grads = self.flat.gradient(terms.loss)
        with torch.no_grad():
            rates = torch.stack([terms.rate[name].mean(dim=1) for name in self.latents])
            state.rates = 0.9 * state.rates + 0.1 * rates
            self._update(step, grads)

    def _beta(self, step: int) -> Tensor:
        """Annealing factor of each member, shape ``(M,)``."""
        warmups = (round(share * self.config.steps) for share in self.config.each("beta_warmup"))
        return torch.tensor([schedules.beta(step, warmup) for warmup in warmups], device=self.device)

    def _gamma(self, beta: Tensor) -> Tensor:
        """Layer factors of this step, shape ``(L, M)``."""
        gamma = self._fixed_gamma
        if gamma is None:
            gamma = schedules.balanced_gamma(self.state.rates, self.dims)
        return schedules.released(gamma, beta) if self.config.gamma_release else gamma

    def _hidden_sites(self, hidden: Tensor) -> dict[str, Tensor]:
        """Hidden blocks ``(M, B, blocks)`` -> hidden rows of each site."""
        return {
            name: hidden[..., i] for i, block in enumerate(self.model.schema.blocks) for name in sites.of_block(block)
        }

    def _terms(self, elbo: ScaledELBO, batch: RecipeBatch, noise: Tensor) -> ElboTerms:
        given = dict(zip(self.latents, torch.split(noise, self.dims, dim=-1), strict=True))
        return elbo.terms(self.model.model, GivenNoise(given)(self.model.guide), batch)

    def _update(self, step: int, grads: Tensor) -> None:
        """AdamW on the flat buffers, gradients clipped member by member."""
        config, state = self.config, self.state
        warmup = min(100, config.steps)
        peaks = config.each("learning_rate")
        now = [schedules.learning_rate(step, config.steps, peak, warmup_steps=warmup) for peak in peaks]
        rate = torch.tensor(now, device=self.device)[:, None]
        norm = grads.norm(dim=1, keepdim=True)
        grads.mul_(config.clip_norm / norm.clamp(min=config.clip_norm))
        first, second = _ADAM_BETAS
        state.first.lerp_(grads, 1 - first)
        state.second.mul_(second).addcmul_(grads, grads, value=1 - second)
        correction = math.sqrt(1 - second ** (step + 1))
        denominator = torch.sqrt(state.second, out=self._scratch).div_(correction).add_(_ADAM_EPSILON)
        self.flat.values.mul_(1 - rate * config.weight_decay)
        move = torch.div(state.first, denominator, out=self._scratch).mul_(rate / (1 - first ** (step + 1)))
        self.flat.values.sub_(move)

    def _validation_set(self) -> tuple[RecipeBatch, Tensor, Tensor]:
        """Held-out rows of each member ``(M, V)``, their weights, and fixed noise; short members are padded."""
        parts = [stream.validation_rows() for stream in self._streams]
        longest = max(len(rows) for rows, _ in parts)
        rows = torch.stack([nn.functional.pad(torch.from_numpy(r), (0, longest - len(r))) for r, _ in parts])
        weights = torch.stack([nn.functional.pad(torch.from_numpy(w).float(), (0, longest - len(w))) for _, w in parts])
        noise = torch.stack([stream.validation_noise(longest, sum(self.dims)) for stream in self._streams])
        batch = self.data.layout.unpack(self.packed[rows.to(self.device)])
        return batch, weights.to(self.device), noise.to(self.device)

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        config, state = self.config, self.state
        batch, weights, noise = self._validation
        terms = self._terms(ScaledELBO(), batch, noise)
        loss = -(terms.elbo * weights).sum(dim=1).cpu()
        going = ~self.stopped
        better = going & (loss < state.best_loss)
        state.best_loss = torch.where(better, loss, state.best_loss)
        chosen = better.to(self.device)
        state.best_values[chosen] = self.flat.values[chosen]
        counting = torch.tensor([step >= share * config.steps for share in config.each("beta_warmup")])
        state.waited = torch.where(better, 0, state.waited + (going & counting))
        beta = self._beta(step)
        gamma = self._gamma(beta)
        means: Mapping[str, Tensor] = {
            **{f"rate {name}": (terms.rate[name] * weights).sum(1) for name in self.latents},
            **{f"gamma {name}": gamma[i] for i, name in enumerate(self.latents)},
            **{f"log p {name}": (x * weights).sum(1) for name, x in terms.log_likelihood.items()},
        }
        for member in range(config.members):
            state.history.append(
                {
                    "step": step,
                    "member": member,
                    "validation_loss": loss[member].item(),
                    "best": int(better[member].item()),
                    "waited": int(state.waited[member].item()),
                    "beta": beta[member].item(),
                    **{name: value[member].item() for name, value in means.items()},
                }
            )
