"""Generators to beat, from a random row of the table to published deep models; one name each for the command line."""

from collections.abc import Callable, Iterable, Mapping

from pyro_hcvae.errors import InputError
from pyro_hcvae.evaluation.baselines.adversarial_forest import AdversarialForest
from pyro_hcvae.evaluation.baselines.copula import GaussianCopula
from pyro_hcvae.evaluation.baselines.forest_flow import ForestFlow
from pyro_hcvae.evaluation.baselines.plain_cvae import PlainCVAE
from pyro_hcvae.evaluation.baselines.resampling import JitteredNearest, MarginalBootstrap, NearestCondition
from pyro_hcvae.evaluation.baselines.trees import ForestDonor, SequentialCart
from pyro_hcvae.evaluation.baselines.tvae import TVAE
from pyro_hcvae.evaluation.generators import Generator

BASELINES: Mapping[str, Callable[[], Generator]] = {
    kind.name: kind
    for kind in (
        MarginalBootstrap,
        NearestCondition,
        JitteredNearest,
        ForestDonor,
        SequentialCart,
        AdversarialForest,
        GaussianCopula,
        PlainCVAE,
        TVAE,
        ForestFlow,
    )
}
"""By name; each is made with its default settings. ``forest-flow`` needs the extra ``baselines``."""


def choose(names: Iterable[str], own: Mapping[str, Callable[[], Generator]]) -> dict[str, Callable[[], Generator]]:
    """Generators by name, in the order asked for; ``all`` stands for every one.

    Args:
        names: Names of baselines or of ``own``, or ``all``.
        own: Further generators, which come first in ``all``.

    Raises:
        InputError: If a name is unknown.
    """
    known = {**own, **BASELINES}
    chosen: dict[str, Callable[[], Generator]] = {}
    for name in names:
        if name != "all" and name not in known:
            raise InputError(f"unknown generator {name!r}: choose from all, {', '.join(known)}")
        chosen |= known if name == "all" else {name: known[name]}
    return chosen
