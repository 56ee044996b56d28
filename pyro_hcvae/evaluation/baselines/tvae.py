"""TVAE: a VAE on mode-specific normalised columns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_hcvae.evaluation.baselines.base import Floats, JointBaseline, code_counts
from pyro_hcvae.evaluation.baselines.neural import perceptron, reparameterised, seeded, train

_MODES, _MIN_WEIGHT = 10, 0.005
"""Largest number of modes of a column, and the weight below which one is dropped; both of the paper's code."""


@dataclass(frozen=True)
class Modes:
    """Mixture of normals of one column; a column of codes has one mode a code, of no width.

    Attributes:
        loc: Mean of each mode, shape ``(K,)``.
        scale: Standard deviation of each mode, shape ``(K,)``; 0 for codes.
    """

    loc: Floats
    scale: Floats

    @classmethod
    def fit(cls, values: Floats, seed: int) -> tuple[Modes, Floats]:
        """Variational mixture of at most ten normals.

        Args:
            values: Values of the column, shape ``(B,)``.
            seed: Seed of the start.

        Returns:
            The modes, and the responsibility of each for each value, shape ``(B, K)``.
        """
        loc, scale = float(values.mean()), float(values.std())
        if scale < 1e-9 or len(values) < _MODES:
            return cls(np.array([loc]), np.array([scale])), np.ones((len(values), 1))
        unit = ((values - loc) / scale)[:, None]
        mixture = BayesianGaussianMixture(
            n_components=_MODES, weight_concentration_prior=0.001, max_iter=100, random_state=seed
        )
        with warnings.catch_warnings():
            # Values on a grid are no mixture of normals; the modes found after 100 steps serve.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(unit)
        kept = mixture.weights_ > _MIN_WEIGHT
        share = mixture.predict_proba(unit)[:, kept] + 1e-9
        modes = cls(loc + scale * mixture.means_[kept, 0], scale * np.sqrt(mixture.covariances_[kept, 0, 0]))
        return modes, share / share.sum(axis=1, keepdims=True)

    @classmethod
    def of_codes(cls, positions: Floats, count: int) -> tuple[Modes, Floats]:
        """One mode a code, for positions ``(B,)``; returns as `fit`."""
        return cls(np.arange(count, dtype=np.float64), np.zeros(count)), np.eye(count)[positions.astype(np.int64)]

    def place(self, values: Floats, share: Floats, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
        """A mode drawn by responsibility, and the position in it in units of four scales, each shape ``(B,)``."""
        past = rng.random((len(values), 1)) > np.cumsum(share, axis=1)
        mode: NDArray[np.int64] = np.minimum(past.sum(axis=1), len(self.loc) - 1)
        width = np.where(self.scale > 0, 4 * self.scale, 1.0)[mode]
        return mode, np.clip((values - self.loc[mode]) / width, -0.99, 0.99)


class _Network(nn.Module):
    def __init__(self, columns: int, modes: int, hidden: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.shape = (columns, modes)
        self.encoder = perceptron([columns * (1 + modes), *hidden, 2 * latent])
        self.decoder = perceptron([latent, *reversed(hidden), columns * (1 + modes)])
        self.log_scale = nn.Parameter(torch.full((columns,), float(np.log(0.1))))

    def encode(self, position: Tensor, mode: Tensor) -> tuple[Tensor, Tensor]:
        chosen = F.one_hot(mode, self.shape[1]).flatten(1).to(position.dtype)
        loc, log_scale = self.encoder(torch.cat([position, chosen], -1)).chunk(2, -1)
        return reparameterised(loc, log_scale.clamp(-10, 10))

    def decode(self, z: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
        """Positions ``(B, columns)`` and log probabilities of modes ``(B, columns, modes)``."""
        out = self.decoder(z)
        columns = self.shape[0]
        logits = out[:, columns:].unflatten(1, self.shape).masked_fill(~exists, -1e9)
        return out[:, :columns].tanh(), logits.log_softmax(-1)


@dataclass
class TVAE(JointBaseline):
    """A VAE with prior ``N(0, I)`` whose columns are a mode and a position within it.

    Conditions and recipe are modelled together and conditioned by nearest draws. Every number is continuous to it: zeros of an
    absent component are one narrow mode. Settings are those of the paper's code, and 300 epochs of minibatches of 500.

    References:
        Xu, Skoularidou, Cuesta-Infante, Veeramachaneni (2019), Modeling Tabular Data using Conditional GAN, arXiv:1907.00503
    """

    name = "tvae"

    latent: int = 128
    hidden: tuple[int, ...] = (128, 128)
    epochs: int = 300
    batch: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    reconstruction_weight: float = 2.0

    def _fit_joint(self, joint: Floats, rng: np.random.Generator) -> None:
        features = joint.shape[1] - len(self.schema.recipe_columns)
        codes = {features + i: count for i, count in code_counts(self.schema).items()}
        fits = [
            Modes.of_codes(values, codes[i]) if i in codes else Modes.fit(values, int(rng.integers(2**31)))
            for i, values in enumerate(joint.T)
        ]
        self._modes = [modes for modes, _ in fits]
        placed = [modes.place(values, share, rng) for (modes, share), values in zip(fits, joint.T, strict=True)]
        mode = torch.as_tensor(np.column_stack([m for m, _ in placed]))
        position = torch.as_tensor(np.column_stack([p for _, p in placed]), dtype=torch.float32)
        sizes = torch.tensor([len(modes.loc) for modes in self._modes])
        self._exists = torch.arange(int(sizes.max())) < sizes[:, None]
        wide = torch.tensor([bool(modes.scale.max() > 0) for modes in self._modes])

        def loss(part: tuple[Tensor, ...]) -> Tensor:
            network = self._network
            with torch.no_grad():  # the paper's code keeps the scales within 0.01 to 1
                network.log_scale.clamp_(float(np.log(0.01)), 0.0)
            z, kl = network.encode(*part)
            mean, log_p = network.decode(z, self._exists)
            within = 0.5 * ((part[0] - mean) / network.log_scale.exp()) ** 2 + network.log_scale
            which = -log_p.gather(-1, part[1][..., None])[..., 0]
            fit = (which + within * wide).sum(-1)
            return (self.reconstruction_weight * fit + kl).mean()

        with seeded(rng):
            self._network = _Network(joint.shape[1], self._exists.shape[1], self.hidden, self.latent)
            train(
                self._network,
                loss,
                (position, mode),
                epochs=self.epochs,
                batch=self.batch,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
            )

    def _draw_joint(self, count: int, rng: np.random.Generator) -> Floats:
        with seeded(rng), torch.no_grad():
            mean, log_p = self._network.decode(torch.randn(count, self.latent), self._exists)
            noisy = mean + self._network.log_scale.exp() * torch.randn_like(mean)
        # As in the paper's code: the likeliest mode, and a noisy position in it.
        mode, position = log_p.argmax(-1).numpy(), noisy.clamp(-1, 1).double().numpy()
        return np.column_stack([
            modes.loc[mode[:, i]] + 4 * modes.scale[mode[:, i]] * position[:, i] for i, modes in enumerate(self._modes)
        ])  # fmt: skip
