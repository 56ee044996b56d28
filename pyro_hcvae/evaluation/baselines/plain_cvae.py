"""The published architecture as it stands: two conditional VAEs with a standard normal prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_hcvae.evaluation.baselines.base import Baseline, Floats, code_counts, recipe_frame, recipe_matrix
from pyro_hcvae.evaluation.baselines.neural import perceptron, reparameterised, seeded, train


class _CVAE(nn.Module):
    def __init__(self, columns: int, features: int, hidden: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = perceptron([columns + features, *hidden, 2 * latent])
        self.decoder = perceptron([latent + features, *reversed(hidden), columns])

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = self.encoder(torch.cat([x, c], -1)).chunk(2, -1)
        z, kl = reparameterised(loc, log_scale.clamp(-10, 10))
        return self.decoder(torch.cat([z, c], -1)), kl

    def generate(self, c: Tensor) -> Tensor:
        out: Tensor = self.decoder(torch.cat([torch.randn(len(c), self.latent), c], -1))
        return out


@dataclass
class PlainCVAE(Baseline):
    r"""Two conditional VAEs, trained apart: one says what is present, one says how much.

    .. math::
        \mathcal L_\text{presence} = \mathrm{BCE}(m, \hat p) + w\, \mathrm{KL}, \qquad
        \mathcal L_\text{amount} = \lVert x - \hat x \rVert^2 + w\, \mathrm{KL}, \qquad \text{recipe} = \hat p \odot \hat x

    Each has its own latent ``z ~ N(0, I)``, drawn independently in generation; decoders are deterministic. The presence enters
    as a probability, so no component is ever exactly absent. Columns are scaled to [0, 1] by their range; codes count as
    numbers from 1. Reconstruction is summed over columns.
    """

    name = "plain-cvae"

    latent: int = 16
    hidden: tuple[int, ...] = (128, 128)
    kl_weight: float = 0.005
    epochs: int = 200
    batch: int = 128
    learning_rate: float = 1e-3

    def _fit(self, frame: pd.DataFrame, features: Floats, rng: np.random.Generator) -> None:
        values = self._numbers_from_one(recipe_matrix(self.schema, frame), 1.0)
        self._low, high = values.min(axis=0), values.max(axis=0)
        self._range = np.where(high > self._low, high - self._low, 1.0)
        x = torch.as_tensor((values - self._low) / self._range, dtype=torch.float32)
        m = torch.as_tensor(values != 0, dtype=torch.float32)
        c = torch.as_tensor(features, dtype=torch.float32)

        def presence_loss(part: tuple[Tensor, ...]) -> Tensor:
            logits, kl = self._presence(*part)
            fit = F.binary_cross_entropy_with_logits(logits, part[0], reduction="none").sum(-1)
            return torch.mean(fit + self.kl_weight * kl)

        def amount_loss(part: tuple[Tensor, ...]) -> Tensor:
            mean, kl = self._amount(*part)
            return torch.mean(((mean - part[0]) ** 2).sum(-1) + self.kl_weight * kl)

        with seeded(rng):
            sizes = (x.shape[1], c.shape[1], self.hidden, self.latent)
            self._presence, self._amount = _CVAE(*sizes), _CVAE(*sizes)
            for network, loss, target in ((self._presence, presence_loss, m), (self._amount, amount_loss, x)):
                train(
                    network, loss, (target, c), epochs=self.epochs, batch=self.batch, learning_rate=self.learning_rate
                )

    def _draw(self, features: Floats, draws_per_row: int, rng: np.random.Generator) -> pd.DataFrame:
        c = torch.as_tensor(features, dtype=torch.float32).repeat_interleave(draws_per_row, 0)
        with seeded(rng), torch.no_grad():
            probability = self._presence.generate(c).sigmoid().double().numpy()
            scaled = self._amount.generate(c).double().numpy()
        values = probability * (self._low + self._range * scaled)
        return recipe_frame(self.schema, self._numbers_from_one(values, -1.0))

    def _numbers_from_one(self, values: Floats, shift: float) -> Floats:
        """Move positions of codes by ``shift``, so that none of them is 0, which stands for absence."""
        shifted = values.copy()
        shifted[:, list(code_counts(self.schema))] += shift
        return shifted
