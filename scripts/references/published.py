"""The published way: plain PyTorch modules, a DataLoader, one repeat after another.

Written from the study's settings and from nothing of this package, so that it is a second opinion on the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from sklearn.preprocessing import MinMaxScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


class CVAE(nn.Module):
    """One conditional VAE: encoder 64-32, latent 8, decoder 32-64, ReLU."""

    def __init__(self, columns: int, conditions: int, latent: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(columns + conditions, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(32, latent), nn.Linear(32, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent + conditions, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, columns)
        )

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction from a posterior sample, and the posterior's mean and log variance."""
        hidden = self.encoder(torch.cat([x, c], dim=1))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(torch.cat([z, c], dim=1)), mean, log_variance


def squared_error(out: Tensor, x: Tensor) -> Tensor:
    """Summed over rows and columns."""
    return nn.functional.mse_loss(out, x, reduction="sum")


def cross_entropy(out: Tensor, x: Tensor) -> Tensor:
    """Summed over rows and columns."""
    return nn.functional.binary_cross_entropy_with_logits(out, x, reduction="sum")


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """To the standard normal, summed over rows and latents."""
    return -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())


@dataclass
class Repeat:
    """One repeat: its rows scaled by its training rows.

    Attributes:
        metals: Amounts in wt%, shape ``(N, 23)``.
        conditions: Unscaled, shape ``(N, C)``.
        train: Positions of rows.
        validation: Positions of rows.
        test: Positions of rows.
        seed: Of initial values, shuffling and noise.
    """

    metals: Floats
    conditions: Floats
    train: Positions
    validation: Positions
    test: Positions
    seed: int
    scaler: MinMaxScaler = field(default_factory=MinMaxScaler)

    def __post_init__(self) -> None:
        self.scaler.fit(self.metals[self.train])
        scaled = MinMaxScaler().fit(self.conditions[self.train]).transform(self.conditions)
        self.c = torch.tensor(scaled, dtype=torch.float32)
        self.x = torch.tensor(self.scaler.transform(self.metals), dtype=torch.float32)
        self.m = torch.tensor(self.metals > 0, dtype=torch.float32)

    def train_network(
        self, x: Tensor, loss: Callable[[Tensor, Tensor], Tensor], *, kl_weight: float, epochs: int, patience: int
    ) -> tuple[CVAE, int]:
        """Train one network with early stopping; returns it at its best epoch, and the epochs that were run."""
        torch.manual_seed(self.seed)
        network = CVAE(x.shape[1], self.c.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5)
        loader = DataLoader(TensorDataset(x[self.train], self.c[self.train]), batch_size=64, shuffle=True)
        held = DataLoader(TensorDataset(x[self.validation], self.c[self.validation]), batch_size=64)
        best, best_state, waited, run = float("inf"), network.state_dict(), 0, 0
        while run < epochs and waited < patience:
            run += 1
            network.train()
            for rows, told in loader:
                optimizer.zero_grad()
                out, mean, log_variance = network(rows, told)
                total = (loss(out, rows) + kl_weight * kl(mean, log_variance)) / len(rows)
                total.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                seen = 0.0
                for rows, told in held:
                    out, mean, log_variance = network(rows, told)
                    seen += (loss(out, rows) + kl_weight * kl(mean, log_variance)).item()
            if seen < best:
                best, waited = seen, 0
                best_state = {name: value.clone() for name, value in network.state_dict().items()}
            else:
                waited += 1
        network.load_state_dict(best_state)
        return network, run

    def decoded(self, network: CVAE, x: Tensor) -> Floats:
        """What the test rows become, from a posterior sample."""
        network.eval()
        with torch.no_grad():
            out, _, _ = network(x[self.test], self.c[self.test])
        array: Floats = out.double().numpy()
        return array

    def amounts(self, network: CVAE) -> Floats:
        """Amounts of the test rows in wt%."""
        array: Floats = self.scaler.inverse_transform(self.decoded(network, self.x))
        return array

    def presence(self, network: CVAE) -> Floats:
        """Probabilities of the test rows."""
        return 1 / (1 + np.exp(-self.decoded(network, self.m)))

    def r2(self, amounts: Floats) -> float:
        """Of all cells of the test rows at once."""
        return float(r2_score(self.metals[self.test].ravel(), amounts.ravel()))
