"""Generators to beat, from a random row of the table to published deep models; one name each for the command line."""

from collections.abc import Callable, Mapping

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
