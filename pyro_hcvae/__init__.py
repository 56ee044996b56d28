"""Catalyst recipes from a laboratory's own table, by a hierarchical conditional VAE written in Pyro."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_hcvae.data.report import ImportReport
    from pyro_hcvae.data.schema import RecipeSchema
    from pyro_hcvae.data.table import RecipeTable
    from pyro_hcvae.data.virtual_lab import VirtualLab
    from pyro_hcvae.designer import RecipeDesigner
    from pyro_hcvae.errors import InputError
    from pyro_hcvae.inference.config import TrainConfig
    from pyro_hcvae.inference.objective import ScaledELBO
    from pyro_hcvae.model.config import ModelConfig
    from pyro_hcvae.model.hierarchical import HierarchicalCVAE

__version__ = "0.1.0"

__all__ = [
    "HierarchicalCVAE",
    "ImportReport",
    "InputError",
    "ModelConfig",
    "RecipeDesigner",
    "RecipeSchema",
    "RecipeTable",
    "ScaledELBO",
    "TrainConfig",
    "VirtualLab",
]

# Imported on first use, so that `pyro-hcvae --help` does not wait for torch.
_HOMES = {
    "HierarchicalCVAE": "model.hierarchical",
    "ImportReport": "data.report",
    "InputError": "errors",
    "ModelConfig": "model.config",
    "RecipeDesigner": "designer",
    "RecipeSchema": "data.schema",
    "RecipeTable": "data.table",
    "ScaledELBO": "inference.objective",
    "TrainConfig": "inference.config",
    "VirtualLab": "data.virtual_lab",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
