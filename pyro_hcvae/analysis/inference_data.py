"""Draws of a run for ArviZ: named dimensions and coordinates, in memory and as netCDF. The one file that knows ArviZ.

Groups, and the dimensions of what is in them:

==========================  ==================================================================================
``posterior``               latents ``(draw, member, recipe, <latent>_unit)``, of the guide
``prior``                   the same, of the learned prior for the recipe's conditions
``posterior_predictive``    recipes ``(draw, member, recipe, ...)`` that the model draws around the given ones
``prior_predictive``        recipes that it draws for their conditions alone
``log_likelihood``          ``sites (draw, member, recipe, site)``: nats given the latents of the draw, never weighted
``sample_stats``            ``log_weight (draw, member, recipe)``: importance weights, ``log p(x, z | c) - log q(z | x, c)``
``observed_data``           the given recipes ``(recipe, ...)``
``constant_data``           conditions and wanted performance ``(recipe, condition)``
==========================  ==================================================================================

Recipes are in the table's units: one variable a block, over ``<block>_component`` or ``<block>_setting``; codes and states are
positions, whose meaning stands in the attribute ``flag_meanings``. Where conditions alone were asked for, there are only
``prior``, ``prior_predictive`` and ``constant_data``.

There is no dimension ``chain``: members are no chains of one posterior, and draws of one member are independent, so that R-hat
and effective sample sizes mean nothing. ArviZ's functions that want chains refuse; those of single arrays work as they are.

ArviZ 0.2x (Python 3.11) holds groups in an ``InferenceData``, ArviZ 1.x in xarray's ``DataTree``: both are made here from the
same datasets, and offer ``data["posterior"]["z_metal"]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pyro_hcvae.analysis.rows import decoded, encoded
from pyro_hcvae.data import sites
from pyro_hcvae.data.codec import RecipeCodec, step_states
from pyro_hcvae.data.schema import Amounts, Category, Fractions, RecipeSchema, Step
from pyro_hcvae.errors import InputError
from pyro_hcvae.model.hierarchical import HierarchicalCVAE
from pyro_hcvae.posterior.importance import hide_sites
from pyro_hcvae.posterior.nested import nested_draws
from pyro_hcvae.posterior.predictive import mixed_seed

if TYPE_CHECKING:
    import xarray

_ENGINE = "h5netcdf"
_AXES = ("draw", "member", "recipe")


def inference_data(
    network: HierarchicalCVAE, codec: RecipeCodec, rows: pd.DataFrame, *, draws: int = 100, seed: int = 0
) -> Any:
    """Posterior and prior draws for some rows, as ArviZ holds them.

    Args:
        network: Trained members.
        codec: Table <-> tensors.
        rows: Recipe, condition and performance columns, one row a recipe, labels that differ; recipe cells are all given, or
            all NaN.
        draws: Draws for each member and recipe, ``S``.
        seed: Fixes the draws.

    Returns:
        `arviz.InferenceData`, or `xarray.DataTree` with ArviZ 1.x.

    Raises:
        InputError: If a recipe is given in part, if labels repeat, or if there is no draw.
    """
    return as_arviz(datasets(network, codec, rows, draws=draws, seed=seed))


def datasets(
    network: HierarchicalCVAE, codec: RecipeCodec, rows: pd.DataFrame, *, draws: int = 100, seed: int = 0
) -> dict[str, xarray.Dataset]:
    """The groups as plain xarray datasets; arguments and errors as for `inference_data`."""
    if draws < 1:
        raise InputError(f"draws must be at least 1, got {draws}")
    if not rows.index.is_unique:
        raise InputError("the labels of the recipes must differ: number the rows")
    batch, given = encoded(codec, rows)
    make = _Maker(codec.schema, rows, network.members, draws)
    # Hidden from the guide, a recipe leaves the conditions: the guide then is the prior.
    around = nested_draws(network, batch, draws, seed=seed)
    alone = nested_draws(network, hide_sites(batch, batch.values), draws, seed=mixed_seed(seed, 1)) if given else around
    groups: dict[str, xarray.Dataset] = {}
    if given:
        groups["posterior"] = make.latents(around.latents)
        groups["posterior_predictive"] = make.recipes(_first(around.free), decoded(codec, _first(around.free), batch))
        groups["log_likelihood"] = make.log_likelihood(around.log_likelihood)
        groups["sample_stats"] = make.weights(around.log_weight)
        groups["observed_data"] = make.observed()
    groups["prior"] = make.latents(alone.latents)
    groups["prior_predictive"] = make.recipes(_first(alone.free), decoded(codec, _first(alone.free), batch))
    groups["constant_data"] = make.conditions()
    return groups


def as_arviz(groups: Mapping[str, xarray.Dataset]) -> Any:
    """Groups as the installed ArviZ holds them."""
    arviz = _arviz()
    if arviz.__version__.startswith("0."):  # 1.x warns where it is asked for the class
        return arviz.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict(dict(groups))


def write_netcdf(data: Any, path: str | Path) -> None:
    """Write what `inference_data` made to one netCDF file, with HDF5 inside."""
    data.to_netcdf(str(path), engine=_ENGINE)


def read_netcdf(path: str | Path) -> Any:
    """Read a netCDF file back, whole, as the installed ArviZ holds it.

    Raises:
        InputError: If there is no such file, or none that can be read.
    """
    arviz = _arviz()
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        data = arviz.from_netcdf(str(path), engine=_ENGINE)
        loaded = data.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: this is no netCDF file of draws: {error}") from None
    return data if loaded is None else loaded


def _arviz() -> Any:
    with warnings.catch_warnings():
        # 0.23 announces 1.x once a day as it is imported; both are known here.
        warnings.filterwarnings("ignore", category=FutureWarning, message=r"\s*ArviZ is undergoing")
        import arviz
    return arviz


class _Maker:
    """Datasets of some recipes, with the coordinates that they share."""

    def __init__(self, schema: RecipeSchema, rows: pd.DataFrame, members: int, draws: int) -> None:
        self.schema, self.rows = schema, rows
        self.coords: dict[str, Any] = {
            "draw": np.arange(draws), "member": np.arange(members), "recipe": rows.index.to_numpy(),
        }  # fmt: skip

    def latents(self, values: Mapping[str, torch.Tensor]) -> xarray.Dataset:
        units = {f"{name}_unit": np.arange(x.shape[-1]) for name, x in values.items()}
        variables = {name: ((*_AXES, f"{name}_unit"), x.numpy()) for name, x in values.items()}
        return self._dataset(variables, units, _AXES)

    def recipes(self, values: Mapping[str, torch.Tensor], numbers: Mapping[str, NDArray[np.float64]]) -> xarray.Dataset:
        variables: dict[str, Any] = {}
        for block in self.schema.blocks:
            if isinstance(block, Category | Step):
                site = next(iter(sites.of_block(block)))
                variables |= self._positions(block, values[site].numpy().astype(np.int8), _AXES)
            if not isinstance(block, Category):
                together = np.stack([numbers[name] for name in block.names()], axis=-1)
                variables |= self._numbers(block, together.astype(np.float32), _AXES)
        return self._dataset(variables, self._columns(), _AXES)

    def observed(self) -> xarray.Dataset:
        variables: dict[str, Any] = {}
        for block in self.schema.blocks:
            if isinstance(block, Category):
                positions = [block.codes.index(code) for code in self.rows[block.column]]
                variables |= self._positions(block, np.array(positions, dtype=np.int8), ("recipe",))
                continue
            values = self.rows[list(block.names())].to_numpy(np.float64)
            if isinstance(block, Step):
                states = step_states(self.rows, block).astype(np.int8)
                variables |= self._positions(block, states, ("recipe",))
                values = np.where(np.array(block.applies())[states], values, np.nan)
            variables |= self._numbers(block, values, ("recipe",))
        return self._dataset(variables, self._columns(), ("recipe",))

    def log_likelihood(self, values: Mapping[str, torch.Tensor]) -> xarray.Dataset:
        stages = [stage.name for stage in self.schema.stages for _ in sites.of_stage(stage)]
        together = torch.stack([values[name] for name in sites.observed(self.schema)], dim=-1).numpy()
        variables = {"sites": ((*_AXES, "site"), together, {"units": "nat"})}
        coords = {"site": list(sites.observed(self.schema)), "stage": ("site", stages)}
        return self._dataset(variables, coords, _AXES)

    def weights(self, values: torch.Tensor) -> xarray.Dataset:
        return self._dataset({"log_weight": (_AXES, values.numpy(), {"units": "nat"})}, {}, _AXES)

    def conditions(self) -> xarray.Dataset:
        names = [*self.schema.condition_columns, self.schema.performance.name]
        units = [self.schema.units().get(name, "") for name in names]
        values = self.rows[names].to_numpy(np.float64)
        return self._dataset(
            {"conditions": (("recipe", "condition"), values)},
            {"condition": names, "unit": ("condition", units)},
            ("recipe",),
        )

    def _columns(self) -> dict[str, Any]:
        return {_axis(block): list(block.names()) for block in self.schema.blocks if not isinstance(block, Category)}

    def _numbers(self, block: Any, values: NDArray[Any], axes: tuple[str, ...]) -> dict[str, Any]:
        units = self.schema.units()
        each = [units[name] for name in block.names()]
        attributes = (
            {"units": each[0]} if len(set(each)) == 1 else {"units": "of each setting", "units_of_settings": each}
        )
        return {block.name: ((*axes, _axis(block)), values, attributes)}

    def _positions(self, block: Category | Step, values: NDArray[Any], axes: tuple[str, ...]) -> dict[str, Any]:
        meanings = [str(code) for code in block.codes] if isinstance(block, Category) else list(block.states)
        name = block.name if isinstance(block, Category) else f"{block.name}_state"
        return {name: (axes, values, {"flag_values": list(range(len(meanings))), "flag_meanings": meanings})}

    def _dataset(
        self, variables: Mapping[str, Any], coords: Mapping[str, Any], axes: tuple[str, ...]
    ) -> xarray.Dataset:
        import xarray

        shared = {name: self.coords[name] for name in axes}
        about = {"inference_library": "pyro-hcvae", "inference_library_version": version("pyro-hcvae")}
        return xarray.Dataset(variables, {**shared, **coords}, about)


def _axis(block: Amounts | Fractions | Step) -> str:
    """Name of a block's last dimension."""
    return f"{block.name}_{'setting' if isinstance(block, Step) else 'component'}"


def _first(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of repeated recipes ``(S, R, M, B, ...)`` the first."""
    return {name: x[:, 0] for name, x in values.items()}
