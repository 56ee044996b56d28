"""`RecipeDesigner`: from a table of experiments to proposed recipes."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import Tensor

from pyro_hcvae.analysis.inference_data import inference_data
from pyro_hcvae.chemistry.prices import PriceTable, cost_per_wt_percent, load_prices
from pyro_hcvae.chemistry.rules import broken_rules, rules_that_count
from pyro_hcvae.constraints.collection import Constraints
from pyro_hcvae.data.codec import RecipeCodec
from pyro_hcvae.data.conditions import Conditions, resolve_conditions
from pyro_hcvae.data.levels import fit_levels
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.data.splits import Grouping, groups_of
from pyro_hcvae.data.table import RecipeTable
from pyro_hcvae.errors import DivergenceError, InputError
from pyro_hcvae.inference.checkpoints import RunFolder
from pyro_hcvae.inference.config import RunConfig, TrainConfig
from pyro_hcvae.inference.engine import Trainer, TrainState
from pyro_hcvae.inference.processes import train_in_processes
from pyro_hcvae.inference.streams import TrainingData
from pyro_hcvae.model.compilation import CompilationError
from pyro_hcvae.model.config import Compile, ModelConfig
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.compiled_draws import CompiledDraws, worth_compiling
from pyro_hcvae.posterior.donors import StructureDonors, which_borrow
from pyro_hcvae.posterior.guidance import guided
from pyro_hcvae.posterior.importance import log_marginal
from pyro_hcvae.posterior.partial import Completion, complete_rows
from pyro_hcvae.posterior.performance import PerformancePredictor
from pyro_hcvae.posterior.predictive import draw_numbers, draw_recipes, mixed_seed, rows_at_once
from pyro_hcvae.posterior.proposals import Proposals, Request, propose_recipes
from pyro_hcvae.posterior.reasons import KnownRecipes
from pyro_hcvae.posterior.screening import Screen
from pyro_hcvae.posterior.search import SearchConfig

_log = logging.getLogger(__name__)
_GUIDED_DRAWS = 40_000
"""Draws among which guidance chooses at once."""
OnInterval = Callable[[Trainer], None]


class RecipeDesigner:
    """Learns recipes from a table, and proposes, completes and scores them.

    Args:
        schema: A `RecipeSchema`, the name of a built-in one, or the path of a schema file.
        model: Size and form of the model.
        train: How it is trained, with the seed.

    Attributes:
        schema: Meaning of the table's columns.
        config: All settings.
        table: The rows that it was fitted on.
        codec: Table <-> tensors.
        network: The Pyro programs: ``network.model`` and ``network.guide``, for all members.
        history: Losses, rates and factors, one row a member and interval.
        engine: How the training steps were carried out and why; empty after a reload.
    """

    table: RecipeTable
    codec: RecipeCodec
    network: HierarchicalCVAE
    history: pd.DataFrame

    def __init__(
        self,
        schema: RecipeSchema | str | Path = "drm",
        *,
        model: ModelConfig | None = None,
        train: TrainConfig | None = None,
    ) -> None:
        self.schema = schema if isinstance(schema, RecipeSchema) else RecipeSchema.load(schema)
        self.config = RunConfig(model=model or ModelConfig(), train=train or TrainConfig())
        self.engine = ""
        self._stopped: HierarchicalCVAE | None = None
        self._unseen: Grouping = "recipe"

    def __getattr__(self, name: str) -> Any:
        if name in ("table", "codec", "network", "history"):
            raise NotFittedError(f"this RecipeDesigner has no {name!r} yet: call fit, or RecipeDesigner.load")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or sent to another process: all but what was compiled for this one."""
        return {name: value for name, value in self.__dict__.items() if name != "_compiled_draws"}

    @property
    def model(self) -> Callable[..., object]:
        """The generative story as a Pyro program of a `RecipeBatch`."""
        return self.network.model

    @property
    def guide(self) -> Callable[..., object]:
        """The posterior as a Pyro program of a `RecipeBatch`."""
        return self.network.guide

    def fit(
        self,
        table: RecipeTable,
        *,
        out: str | Path | None = None,
        on_interval: OnInterval = lambda trainer: None,
        device: str = "auto",
    ) -> Self:
        """Train on a table.

        Args:
            table: Rows to learn from. Each member sets some of its groups aside to find out how long to train, and is then
                trained for as long on all of them (``refit`` in the settings).
            out: Run folder for settings, checkpoints, history and weights; None: keep everything in memory.
            on_interval: Called after each interval of training, e.g. to show progress.
            device: ``auto``, ``cpu`` or ``cuda``.

        Raises:
            InputError: If the table has too few groups, if ``out`` holds a run already, or if there is no such device.
        """
        self.schema, self.table = table.schema, table
        for of_the_table_before in ("predictor", "known", "donors", "_compiled_draws"):
            self.__dict__.pop(of_the_table_before, None)
        self._stopped = None
        self.codec = RecipeCodec.fit(table.schema, table.frame, table.recipe_weights())
        if len(np.unique(groups_of(table, self.config.train.validation_group))) < 2:
            raise InputError(f"{table.report.source}: at least two different recipes are needed to learn anything")
        trainer = self._trainer(None, device)
        folder = None if out is None else RunFolder(out)
        if folder is not None:
            folder.begin(table, self.codec, self.config)
        return self._train(trainer, folder, on_interval)

    @classmethod
    def resume(
        cls, run: str | Path, *, on_interval: OnInterval = lambda trainer: None, device: str = "auto"
    ) -> RecipeDesigner:
        """Go on with an interrupted `fit`, to the same end bit for bit; a finished run is loaded.

        Raises:
            InputError: If the folder holds no run.
        """
        folder = RunFolder(run)
        folder.require(finished=False)
        if folder.finished:
            return cls.load(run)
        designer = cls._from_folder(folder)
        return designer._train(designer._trainer(folder.load_state(), device), folder, on_interval)

    def _trainer(self, state: TrainState | None, device: str) -> Trainer:
        config = self.config.train
        self.network = self._new_network().to(_device(device))
        packed, table = self.codec.encode(self.table.frame), self.table
        if self.config.model.mixture == "levels":
            count = self.config.model.mixture_components
            self.network.start_at(fit_levels(self.codec, packed, table.recipe_weights(), count))
        groups = groups_of(table, config.validation_group)
        data = TrainingData(packed, self.codec.layout, table.recipe_ids(), groups, self._row_weights())
        return Trainer(self.network, data, config, state)

    def _row_weights(self) -> NDArray[np.float64]:
        """How much each row counts in training, shape ``(rows,)``: less where it breaks a rule that is more than advice."""
        broken = broken_rules(self.table.frame, rules_that_count(self.schema)).any(axis=1)
        return np.where(broken, self.config.train.broken_rule_weight, 1.0)

    def _train(self, trainer: Trainer, folder: RunFolder | None, on_interval: OnInterval) -> Self:
        def after_interval(state: TrainState) -> None:
            if folder is not None:
                folder.save_state(state)
            on_interval(trainer)

        shared = self.config.train.jobs > 1 and self.config.train.members > 1 and trainer.device.type == "cpu"
        final = train_in_processes(trainer, after_interval) if shared else trainer.train(after_interval)
        self.engine = trainer.engine
        self._stopped = trainer.model_at(final.best_values) if trainer.refitting else None
        # Whatever trained the members, they are used on the CPU, as after a reload.
        self.network.to("cpu")
        if not (torch.isfinite(final.best_loss).all() and torch.isfinite(final.values).all()):
            raise DivergenceError("training diverged: no finite loss. Lower learning_rate or raise scale_floor")
        self.history = pd.DataFrame(final.history)
        if folder is not None:
            self._save_weights(folder)
        return self

    def _save_weights(self, folder: RunFolder) -> None:
        folder.save_weights(self.network.state_dict(), None if self._stopped is None else self._stopped.state_dict())

    def before_refit(self) -> RecipeDesigner:
        """The same designer with its members as they stopped early: none of them has learned from the rows that it set aside."""
        stopped = copy.copy(self)
        if self._stopped is not None:
            stopped.network, stopped._stopped = self._stopped, None
        return stopped

    def _new_network(self) -> HierarchicalCVAE:
        features = len(self.codec.feature_names)
        return HierarchicalCVAE(self.schema, features, self.config.model, seeds=self.config.train.seeds)

    def save(self, out: str | Path) -> None:
        """Write a fitted designer to a run folder.

        Raises:
            InputError: If the folder holds a run already.
        """
        folder = RunFolder(out)
        folder.begin(self.table, self.codec, self.config)
        folder.save_history(self.history)
        self._save_weights(folder)

    @classmethod
    def load(cls, run: str | Path) -> RecipeDesigner:
        """Read a fitted designer from its run folder; the same seed gives the same draws as before, bit for bit.

        Raises:
            InputError: If the folder holds no finished run, or is damaged.
        """
        folder = RunFolder(run)
        folder.require(finished=True)
        designer = cls._from_folder(folder)
        weights, stopped = folder.load_weights()
        designer.network = designer._network_with(weights, f"{run}: weights.safetensors")
        if stopped is not None:
            designer._stopped = designer._network_with(stopped, f"{run}: stopped.safetensors")
        designer.history = folder.load_history()
        return designer

    def _network_with(self, weights: Mapping[str, Tensor], source: str) -> HierarchicalCVAE:
        network = self._new_network()
        try:
            network.load_state_dict(weights)
        except RuntimeError:
            raise InputError(f"{source} does not fit config.toml and schema.toml of this version") from None
        return network

    @classmethod
    def _from_folder(cls, folder: RunFolder) -> RecipeDesigner:
        table, codec, config = folder.read()
        designer = cls(table.schema, model=config.model, train=config.train)
        designer.table, designer.codec = table, codec
        return designer

    @cached_property
    def predictor(self) -> PerformancePredictor:
        """Predictor of the performance, independent of the generator; fitted on first use (see `reckon_with`)."""
        table, seed = self.table, self.config.train.seed
        apart = groups_of(table, self._unseen)
        return PerformancePredictor.fit(self.schema, table.frame, table.recipe_ids(), apart=apart, seed=seed)

    def reckon_with(self, unseen: Grouping) -> Self:
        """Say what is new about the measurements to come, so that intervals of the predicted performance hold for them.

        What suits such measurements also decides how much each learner of the predictor counts.

        Args:
            unseen: ``recipe`` (the default): another recipe, in a laboratory like those of the table; ``laboratory``: feed and
                contact time of a laboratory that is not in the table, which makes intervals wider by a quarter.

        Raises:
            InputError: If it is another word.
        """
        if unseen not in ("recipe", "composition", "laboratory"):
            raise InputError(f"unseen must be recipe, composition or laboratory, got {unseen!r}")
        if unseen != self._unseen:
            self.__dict__.pop("predictor", None)
        self._unseen = unseen
        return self

    @cached_property
    def donors(self) -> StructureDonors:
        """Recipes of the table that lend their structure to draws; each counts as it does in training. Fitted on first use."""
        weights = self.table.recipe_weights() * self._row_weights()
        return StructureDonors(self.codec, self.table.frame, weights, seed=self.config.train.seed)

    @cached_property
    def known(self) -> KnownRecipes:
        """The recipes of the table, to find neighbours in; indexed on first use."""
        return KnownRecipes(self.table, self.codec, self.config.model.scale_floor)

    def conditions(self, settings: Mapping[str, float], target: float) -> Conditions:
        """Complete the conditions that are asked for with what is typical of the table.

        Raises:
            InputError: If a name is unknown or a value impossible.
        """
        return resolve_conditions(self.schema, self.table.frame, settings, target)

    def constraints(
        self, texts: Iterable[str] = (), file: str | Path | None = None, prices: PriceTable | None = None
    ) -> Constraints:
        """Read constraints for `propose`.

        Args:
            texts: One constraint each, e.g. ``"Ni 2..10"``.
            file: TOML file with a list ``constraints`` of more.
            prices: Of the components; None: the built-in ones.

        Raises:
            InputError: If one cannot be read or names what the schema does not have.
        """
        costs = _finite(load_prices() if prices is None else prices, self.schema)
        asked = Constraints.from_texts(texts, self.schema, prices=costs)
        return asked if file is None else asked.adding(*Constraints.from_toml(file, self.schema, prices=costs).items)

    def sample(
        self,
        conditions: pd.DataFrame,
        draws_per_row: int = 1,
        *,
        borrowed: float = 0.0,
        guidance: int = 1,
        as_drawn: bool = False,
        compilation: Compile = "auto",
        seed: int = 0,
    ) -> Iterator[pd.DataFrame]:
        """Unfiltered posterior predictive recipes for every row of conditions.

        Args:
            conditions: Condition and performance columns (`RecipeTable.frame` of purpose ``conditions``).
            draws_per_row: Draws for each row.
            borrowed: Share of draws that borrow their structure (which components, codes and steps) from a recipe of the table
                that was measured under conditions like theirs; the model draws the numbers (`StructureDonors`).
            guidance: How many times as many are drawn; those are kept that the predictor holds likely to show the wanted
                performance (`guided`), among what is borrowed and the rest alike. 1: what the model says, as it is.
            as_drawn: Whether numbers stay as drawn, and are not brought to the values that the table repeats (`WrittenValues`).
            compilation: Whether the model's pass is compiled: ``auto`` for millions of draws at once, always, or never. Draws are
                the same but where rounding decides (`CompiledDraws`).
            seed: Fixes the draws.

        Yields:
            Chunks in row order: recipe columns (neither filtered nor rounded to the grid) beside the row's conditions, indexed by
            the row of ``conditions``.

        Raises:
            InputError: If ``draws_per_row < 1`` or ``guidance < 1``, if ``borrowed`` is no share, or if ``compilation`` is
                ``always`` and fails.
        """
        if not 0 <= borrowed <= 1:
            raise InputError(f"borrowed must be a share from 0 to 1, got {borrowed}")
        if min(draws_per_row, guidance) < 1:
            raise InputError(f"draws per row and guidance must be at least 1, got {draws_per_row} and {guidance}")
        asked = conditions[[*self.schema.condition_columns, self.schema.performance.name]]
        many = draws_per_row * guidance
        compiled = self._compile_draws(compilation, len(asked) * many)
        draw = partial(self._draw, compiled=compiled, borrowed=borrowed, guidance=guidance, as_drawn=as_drawn)
        if guidance == 1:
            yield from (frame for frame, _ in draw(asked, many, seed=seed))
            return
        at_once = max(1, _GUIDED_DRAWS // many)
        for number, start in enumerate(range(0, len(asked), at_once)):
            part, part_seed = asked.iloc[start : start + at_once], mixed_seed(seed, number)
            frames, borrow = zip(*draw(part, many, seed=part_seed), strict=True)
            several, kinds = pd.concat(frames), np.concatenate(borrow)
            yield guided(several, self.predictor, guidance, rows=len(part), kinds=kinds, seed=part_seed)

    def _draw(
        self,
        asked: pd.DataFrame,
        draws_per_row: int,
        *,
        compiled: CompiledDraws | None,
        borrowed: float,
        guidance: int,
        as_drawn: bool,
        seed: int,
    ) -> Iterator[tuple[pd.DataFrame, NDArray[np.bool_]]]:
        """All draws, and which of them borrow: ``guidance`` adjacent ones together, so that guidance can keep the share."""
        packed, layout = self.codec.encode(asked), self.codec.layout
        draws = draw_recipes(self.network, layout, packed, draws_per_row, seed=seed, compiled=compiled)
        start = 0
        for chunk, (rows, drawn) in enumerate(draws):
            group = np.arange(start, start + len(rows)) // guidance
            start += len(rows)
            borrows = which_borrow(borrowed, int(group[0]), int(group[-1]) + 1, seed=seed)[group - group[0]]
            if borrows.any():
                some = torch.from_numpy(np.flatnonzero(borrows))
                lent = self.donors.lend(packed[rows[some]], np.random.default_rng([seed, chunk, 2]))
                drawn[some] = draw_numbers(self.network, layout, lent, seed=mixed_seed(seed, chunk))
            beside = asked.iloc[rows.numpy()]
            recipes = self.codec.decode(drawn, None if as_drawn else self.known.written.numbers)
            yield pd.concat([recipes.set_index(beside.index), beside], axis=1), borrows

    def _compile_draws(self, compilation: Compile, draws: int) -> CompiledDraws | None:
        """The compiled pass if it is wanted for so many draws, can be had, and there is a whole chunk to use it for."""
        members = self.network.members
        wanted = compilation == "always" or (compilation == "auto" and worth_compiling(draws))
        if not wanted or draws < members * rows_at_once(members):
            return None
        try:
            if next(self.network.parameters()).device.type != "cpu":
                raise CompilationError("the network is not on the CPU")
            if self._compiled_draws.model is not self.network:
                del self._compiled_draws
            return self._compiled_draws
        except CompilationError as error:
            if compilation == "always":
                raise InputError(
                    f"draws cannot be compiled: {error}. It takes the network on the CPU, a C++ compiler (g++ or clang++) and "
                    "torch 2.6 or later; or set compilation (--compile) to auto"
                ) from None
            _log.warning("draws are not compiled: %s", error)
            return None

    @cached_property
    def _compiled_draws(self) -> CompiledDraws:
        return CompiledDraws(self.network, self.codec.layout)

    def propose(
        self,
        conditions: Mapping[str, float],
        target: float,
        n: int = 10,
        *,
        within: float | None = None,
        constraints: Constraints | Iterable[str] = (),
        pending: pd.DataFrame | None = None,
        allow_known: bool = False,
        prices: PriceTable | None = None,
        variety: float = 0.3,
        search: SearchConfig | None = None,
        seed: int = 0,
    ) -> Proposals:
        """Propose new recipes for conditions and a wanted performance.

        Args:
            conditions: Values by condition column, feed ratio or diluted share; the rest is taken as typical.
            target: Wanted performance, in the unit of its column.
            n: Number of distinct recipes.
            within: Largest wanted distance from the target; None: the target or better is wanted.
            constraints: What every proposal must satisfy, e.g. ``["Pt+Rh <= 1", "supports in MgO, SiO2"]``.
            pending: Recipes under way (recipe columns), which are not proposed again.
            allow_known: Whether recipes of the table may be proposed.
            prices: Of the components; None: the built-in dated ones.
            variety: Weight of not being alike, from 0 (the best, however alike) to 1.
            search: How much is searched.
            seed: Fixes the proposals.

        Raises:
            InputError: If an argument makes no sense, the conditions are impossible, the constraints contradict each other or the
                schema (names the conflict), or nothing was found.
        """
        request = self._request(
            conditions, target, n, constraints, prices,
            within=within, pending=pending, allow_known=allow_known, variety=variety, search=search or SearchConfig(), seed=seed,
        )  # fmt: skip
        return propose_recipes(self.network, self.codec, self.known, self.predictor, request)

    def screen(
        self,
        conditions: Mapping[str, float],
        target: float,
        n: int,
        *,
        within: float | None = None,
        constraints: Constraints | Iterable[str] = (),
        pending: pd.DataFrame | None = None,
        allow_known: bool = False,
        prices: PriceTable | None = None,
        least_probability: float = 0.0,
        seed: int = 0,
    ) -> Screen:
        """Prepare a screening: many independent draws, checked and judged as proposals are, but neither searched for nor ranked.

        Args:
            conditions: As for `propose`.
            target: As for `propose`.
            n: Number of draws.
            within: As for `propose`.
            constraints: As for `propose`.
            pending: As for `propose`.
            allow_known: As for `propose`.
            prices: As for `propose`.
            least_probability: Recipes that meet the goal with less than this are dropped.
            seed: Fixes the draws.

        Returns:
            The work, in pieces that need nothing of each other; `pyro_hcvae.study.screening.screen_to_parquet` does it.

        Raises:
            InputError: If an argument makes no sense, the conditions are impossible, or the constraints contradict each other or
                the schema.
        """
        if n < 1:
            raise InputError(f"the number of draws must be at least 1, got {n}")
        request = self._request(
            conditions, target, n, constraints, prices,
            within=within, pending=pending, allow_known=allow_known, seed=seed,
        )  # fmt: skip
        return Screen.of(
            self.network, self.codec, self.known, self.predictor, request, least_probability=least_probability
        )

    def _request(
        self,
        conditions: Mapping[str, float],
        target: float,
        n: int,
        constraints: Constraints | Iterable[str],
        prices: PriceTable | None,
        **more: Any,
    ) -> Request:
        prices = load_prices() if prices is None else prices
        if not isinstance(constraints, Constraints):
            constraints = self.constraints(constraints, prices=prices)
        # An index of its own, without what the designer's has come to hold: a request travels.
        distance = KnownRecipes(self.table, self.codec).distance
        return Request(
            conditions=self.conditions(conditions, target),
            n=n,
            constraints=replace(constraints, prices=_finite(prices, self.schema), distance=distance),
            costs=cost_per_wt_percent(self.schema, prices),
            **more,
        )

    def complete(
        self, partial: RecipeTable, n: int = 5, *, proposals: int = 2000, seed: int = 0, as_drawn: bool = False
    ) -> Iterator[Completion]:
        """Fill the open cells of partial recipes.

        Args:
            partial: Rows with NaN where a recipe is open (`RecipeTable.read` with purpose ``partial``). Open conditions count
                as unknown.
            n: Completions of each row.
            proposals: Weighted draws behind each row.
            seed: Fixes the draws.
            as_drawn: Leave open cells as drawn, instead of at the usual values and on the laboratory's grid.

        Yields:
            One `Completion` a row, in order; every recipe in it is structurally valid.
        """
        yield from complete_rows(
            self.network,
            self.codec,
            partial,
            n,
            proposals=proposals,
            seed=seed,
            written=None if as_drawn else self.known.written,
        )

    def score(self, table: RecipeTable, *, draws: int = 256, seed: int = 0) -> float:
        """Mean log likelihood of a table's recipes, in nats per recipe (every recipe counts once). Higher is better.

        The estimate is an importance-weighted bound, averaged over the members.
        """
        weights = table.recipe_weights()
        batch = self.codec.layout.unpack(self.codec.encode(table.frame)[None]).expand_members(self.network.members)
        nats = log_marginal(self.network, batch, draws=draws, seed=seed).mean(0).double().numpy()
        return float(nats @ weights / weights.sum())

    def to_inference_data(self, rows: pd.DataFrame | None = None, *, draws: int = 100, seed: int = 0) -> Any:
        """Posterior and prior draws around recipes, or for conditions alone, for ArviZ (`inference_data`).

        Args:
            rows: Recipe, condition and performance columns, e.g. some of ``designer.table.frame``. Where the recipe cells are all
                NaN, the conditions alone are asked. None: the recipes of the table, with the first conditions of each.
            draws: Draws for each member and row.
            seed: Fixes the draws.

        Returns:
            `arviz.InferenceData`, or `xarray.DataTree` with ArviZ 1.x.

        Raises:
            InputError: If a recipe is given in part, or if labels of rows repeat.
        """
        if rows is None:
            _, first = np.unique(self.table.recipe_ids(), return_index=True)
            rows = self.table.frame.iloc[np.sort(first)]
        return inference_data(self.network, self.codec, rows, draws=draws, seed=seed)

    def in_table_order(self, frame: pd.DataFrame, extra: Iterable[str] = ()) -> pd.DataFrame:
        """Bring rows into the columns of the user's own file, then ``extra`` columns; what is not modelled is left empty."""
        header = self.table.header or self.schema.columns
        columns = [*header, *(c for c in self.schema.columns if c not in header), *extra]
        return frame.reindex(columns=columns)


def _finite(prices: PriceTable, schema: RecipeSchema) -> dict[str, float]:
    return {name: cost for name, cost in cost_per_wt_percent(schema, prices).items() if math.isfinite(cost)}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"unknown device {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available here: choose --device cpu or auto")
    return torch.device(name)
