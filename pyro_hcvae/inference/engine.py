"""`Trainer`: the loop that trains all members at once."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyro
import torch
from torch import Tensor, nn

from pyro_hcvae.data.batch import RecipeBatch
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference import schedules
from pyro_hcvae.inference.compilation import CudaGraph, choose_step, worth_compiling
from pyro_hcvae.inference.config import TrainConfig
from pyro_hcvae.inference.objective import ScaledELBO
from pyro_hcvae.inference.step import Gradients, StepFunction, bound_terms
from pyro_hcvae.inference.streams import RecipeStream, TrainingData
from pyro_hcvae.model.adam import adam_step
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.model.scopes import computing_scope

_log = logging.getLogger(__name__)
Record = dict[str, float | int]


@dataclass
class TrainState:
    """Everything that training carries from one interval to the next.

    Attributes:
        interval: Intervals done.
        values: Parameters, shape ``(M, P)``.
        first: First moment of AdamW, shape ``(M, P)``.
        second: Second moment of AdamW, shape ``(M, P)``.
        best_values: Parameters at each member's best validation, shape ``(M, P)``.
        final_values: Of training on all rows, parameters at each member's end, shape ``(M, P)``.
        until: Steps after which each member ends that learns from all rows, shape ``(M,)``; 0 while that is being found out.
        best_step: Steps after which that was, shape ``(M,)``.
        best_loss: Best validation loss, shape ``(M,)``, in nats per recipe, each weighed as it counts.
        waited: Intervals since the best one, shape ``(M,)``.
        rates: Running mean of each layer's KL, shape ``(L, M)``, in nats.
        history: One record a member and interval.
    """

    interval: int
    values: Tensor
    first: Tensor
    second: Tensor
    best_values: Tensor
    final_values: Tensor
    until: Tensor
    best_step: Tensor
    best_loss: Tensor
    waited: Tensor
    rates: Tensor
    history: list[Record] = field(default_factory=list)

    TENSORS = (
        "values", "first", "second", "best_values", "final_values", "until", "best_step", "best_loss", "waited", "rates",
    )  # fmt: skip

    @classmethod
    def start(cls, values: Tensor, layers: int) -> TrainState:
        """The state before the first step, around given parameters ``(M, P)``, which training will change in place."""
        return cls(
            interval=0,
            values=values,
            first=torch.zeros_like(values),
            second=torch.zeros_like(values),
            best_values=values.clone(),
            final_values=values.clone(),
            until=torch.zeros(len(values), dtype=torch.int64),
            best_step=torch.zeros(len(values), dtype=torch.int64),
            best_loss=torch.full((len(values),), math.inf),
            waited=torch.zeros(len(values), dtype=torch.int64),
            rates=torch.ones(layers, len(values), device=values.device),
        )

    def of_members(self, start: int, stop: int) -> TrainState:
        """The part of some members, as views and without the history."""
        parts = {name: getattr(self, name)[start:stop] for name in self.TENSORS if name != "rates"}
        return TrainState(self.interval, **parts, rates=self.rates[:, start:stop])

    def copy(self) -> TrainState:
        """The same in tensors of its own."""
        parts = {name: getattr(self, name).clone() for name in self.TENSORS}
        return TrainState(self.interval, **parts, history=[dict(record) for record in self.history])


class Trainer:
    """Trains the members of a `HierarchicalCVAE` by stochastic variational inference.

    Rows that a member sets aside stop it; then it is trained anew on all rows, for as many steps, unless the settings say no.

    All randomness of an interval follows from a member's seed and the interval's number, so that a resumed run needs no state
    of any generator and goes on bit for bit.

    Args:
        model: The members; its parameters are updated in place.
        data: Encoded training rows.
        config: Settings.
        state: State to go on from; None: start.

    Attributes:
        state: What training has come to.
        engine: How a step is carried out and why, for a reader; empty before the first step.
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
        self._sizes = torch.tensor(list(model.latent_dims.values()), dtype=torch.float32, device=self.device)
        self._fixed_gamma = None if fixed is None else torch.tensor(fixed, device=self.device).T.contiguous()
        self._final_beta = torch.tensor(config.each("final_beta"), device=self.device)
        self.latents = tuple(model.latent_dims)
        self.dims = list(model.latent_dims.values())
        self.engine = ""
        self._gradients = Gradients(model, data.layout)
        self._step_function: StepFunction | None = None
        self._streams = self._streams_of(all_rows=False)
        self._all_rows = False
        self._validation = self._validation_set()
        self.state = TrainState.start(self._gradients.flat.values, len(self.dims))
        self._initial = self.state.values.clone()
        self._gradient = torch.zeros_like(self.state.values)
        self._moving = self._parts()
        if state is not None:
            self.restore(state)

    def restore(self, state: TrainState) -> None:
        """Go on from a state; its tensors are copied."""
        for name in TrainState.TENSORS:
            getattr(self.state, name).copy_(getattr(state, name))
        self.state.interval, self.state.history = state.interval, list(state.history)
        self._moving = self._parts()
        self._show_all_rows(self.refitting)

    @property
    def intervals(self) -> int:
        """Intervals of the longest training; of a refit, that of the member that is trained longest."""
        longest = int(self.state.until.max()) if self.refitting else self.config.steps
        return math.ceil(longest / self.config.interval)

    @property
    def refitting(self) -> bool:
        """Whether members learn from all rows, and it is settled for how long."""
        return bool(self.state.until.any())

    @property
    def stopped(self) -> Tensor:
        """Members that have run out of patience or, of all rows, have learned as long as is settled; shape ``(M,)``, bool."""
        if self.refitting:
            return self.state.interval * self.config.interval >= self.state.until
        return self.state.waited >= self.config.patience

    @property
    def finished(self) -> bool:
        """Whether the present pass has nothing left to train (see `passes`)."""
        return self.state.interval >= self.intervals or bool(self.stopped.all())

    def train(self, on_interval: Callable[[TrainState], None] = lambda state: None) -> TrainState:
        """Train to the end, and again on all rows if the settings say so; then put each member's parameters into the model.

        Args:
            on_interval: Called after each interval, e.g. to write a checkpoint or to show progress.
        """
        for _ in self.passes():
            while not self.finished:
                self.run_interval()
                on_interval(self.state)
        return self.finish()

    def passes(self) -> Iterator[None]:
        """Prepare what is to be trained until `finished`, one pass after the other.

        First until validation stops the members; then, if the settings say so and they have not diverged, anew on all rows, each
        for as many steps as served it best.
        """
        yield
        if self.config.refit and not self.refitting and bool(torch.isfinite(self.state.best_loss).all()):
            self._begin_refit()
            yield

    def run_interval(self) -> None:
        """Carry out the next interval: its steps, then the validation or, on all rows, a note of the members that end with it."""
        self.run_steps(self.state.interval)
        self.state.interval += 1
        step = min(self.state.interval * self.config.interval, self.config.steps)
        if self.refitting:
            ended = (self.state.until == step).to(self.device)
            self.state.final_values[ended] = self.state.values[ended]
            return
        with computing_scope():
            self._validate(step)

    def finish(self) -> TrainState:
        """Put each member's parameters into the model: those of its end on all rows, or those of its best validation.

        A member that diverged on all rows, but not before, stays as it stopped.
        """
        state, values = self.state, self.state.best_values
        if self.refitting:
            sound = torch.isfinite(state.final_values).all(dim=1)
            if not sound.all():
                lost = ", ".join(map(str, (~sound).nonzero().flatten().tolist()))
                _log.warning("trained anew on all rows, these members diverged and stay as they stopped: %s", lost)
            values = torch.where(sound[:, None], state.final_values, values)
        state.values.copy_(values)
        return state

    def model_at(self, values: Tensor) -> HierarchicalCVAE:
        """A copy of the model on the CPU with other parameters, shape ``(M, P)``, e.g. those of the best validation."""
        model = copy.deepcopy(self.model)
        parts = self._gradients.flat.split(values)
        for parameter, part in zip(model.parameters(), parts, strict=True):
            parameter.data = part.detach().to("cpu", copy=True)
        return model.to("cpu")

    def _begin_refit(self) -> None:
        """Start anew from the same initial values, on all rows."""
        state = self.state
        state.until.copy_(state.best_step)
        state.values.copy_(self._initial)
        for start in (state.first, state.second):
            start.zero_()
        state.rates.fill_(1.0)
        state.interval = 0
        self._moving = self._parts()
        self._show_all_rows(True)
        _log.info("training anew on all rows, each member for as many steps as served it best")

    def _show_all_rows(self, wanted: bool) -> None:
        if wanted != self._all_rows:
            self._streams, self._all_rows = self._streams_of(all_rows=wanted), wanted

    def _streams_of(self, *, all_rows: bool) -> list[RecipeStream]:
        return [RecipeStream(self.data, self.config, seed, all_rows=all_rows) for seed in self.config.seeds]

    def run_steps(self, interval: int) -> None:
        """Carry out the steps of one interval, without the validation that ends it."""
        config = self.config
        start = interval * config.interval
        steps = range(start, min(start + config.interval, config.steps))
        chunks = [stream.chunk(interval, len(steps), sum(self.dims)) for stream in self._streams]
        rows, *draws = (torch.stack(part, dim=1).to(self.device) for part in zip(*chunks, strict=True))
        progress = self._progress(steps)
        if self._step_function is None:
            with computing_scope():
                first = (self.packed[rows[0]], *(draw[0] for draw in draws), self._weights(progress[0]))
                self._step_function = self._choose(first)
            _log.info("training with %s", self.engine)
        with computing_scope(config.members * config.batch_size):
            for i, step in enumerate(steps):
                weights = self._weights(progress[i])
                self._step(step, self.packed[rows[i]], *(draw[i] for draw in draws), weights)

    def _step(self, step: int, *batch: Tensor) -> None:
        state = self.state
        assert self._step_function is not None
        rates = self._step_function(state.values, self._gradient, *batch)
        state.rates.mul_(0.9).add_(rates, alpha=0.1)
        self._update(step)

    def _choose(self, batch: tuple[Tensor, ...]) -> StepFunction:
        """Decide how steps are carried out, from the settings and the planned work alone: a resumed run decides alike."""
        # Initial values, and not the present ones: a resumed run may hold a member that has diverged.
        config, example = self.config, (self._initial, self._gradient, *batch)
        with pyro.validation_enabled(True):  # once: from here on every value has the form of this one
            self._gradients.pure(*example)
        if self.device.type == "cuda" and config.compile != "never":
            self.engine = "CUDA graph"
            return CudaGraph(self._gradients, (self.state.values, *example[1:]))
        plan = worth_compiling(config.steps, config.members, config.batch_size)
        step, self.engine = choose_step(self._gradients, example, config.compile, plan)
        return step

    def _progress(self, steps: range) -> Tensor:
        """How far the annealing of each step and member has come, up to 1; shape ``(steps, M)``."""
        warmups = [round(share * self.config.steps) for share in self.config.each("beta_warmup")]
        progress = [[schedules.beta(step, warmup) for warmup in warmups] for step in steps]
        return torch.tensor(progress, device=self.device)

    def _beta(self, progress: Tensor) -> Tensor:
        """Annealing factor, shape ``(M,)``."""
        return (self._final_beta * progress).clamp(min=schedules.BETA_FLOOR)

    def _gamma(self, progress: Tensor) -> Tensor:
        """Layer factors, shape ``(L, M)``."""
        gamma = self._fixed_gamma
        if gamma is None:
            gamma = schedules.balanced_gamma(self.state.rates, self._sizes)
        return schedules.released(gamma, progress) if self.config.gamma_release else gamma

    def _weights(self, progress: Tensor) -> Tensor:
        """``beta * gamma_l``, shape ``(L, M)``."""
        return self._beta(progress) * self._gamma(progress)

    def _parts(self) -> list[tuple[Tensor, ...]]:
        """What AdamW's step takes: values, gradient, moments, steps taken; of all members as one, or of each at its own rate."""
        state, config = self.state, self.config
        whole = (state.values, self._gradient, state.first, state.second)
        alike = len(set(config.each("learning_rate"))) == 1
        done = float(min(state.interval * config.interval, config.steps))
        return [
            (*part, torch.tensor(done, device=self.device)) for part in ([whole] if alike else zip(*whole, strict=True))
        ]

    def _update(self, step: int) -> None:
        """Clip the gradient in place, member by member, and take AdamW's step."""
        config = self.config
        norm = torch.linalg.vector_norm(self._gradient, dim=1, keepdim=True)
        self._gradient.mul_(config.clip_norm / norm.clamp(min=config.clip_norm))
        for part, peak in zip(self._moving, config.each("learning_rate"), strict=False):
            rate = schedules.learning_rate(step, config.steps, peak, warmup_steps=min(100, config.steps))
            adam_step(*([x] for x in part), rate=rate, weight_decay=config.weight_decay, decoupled=True)

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
        terms = bound_terms(ScaledELBO(), self.model, batch, noise)
        # What training comes to in the end: with a final beta of 1 the bound itself.
        excess = (1 - self._final_beta)[:, None] * torch.stack(list(terms.rate.values())).sum(dim=0)
        loss = -((terms.elbo + excess) * weights).sum(dim=1).cpu()
        going = ~self.stopped
        better = going & (loss < state.best_loss)
        state.best_loss = torch.where(better, loss, state.best_loss)
        state.best_step[better] = step
        chosen = better.to(self.device)
        state.best_values[chosen] = state.values[chosen]
        counting = torch.tensor([step >= share * config.steps for share in config.each("beta_warmup")])
        state.waited = torch.where(better, 0, state.waited + (going & counting))
        progress = self._progress(range(step, step + 1))[0]
        beta, gamma = self._beta(progress), self._gamma(progress)
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
