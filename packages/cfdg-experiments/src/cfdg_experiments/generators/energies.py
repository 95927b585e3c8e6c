"""Energies of EDIS: E(z; sigma) = -log q(z; sigma) / p(z; sigma) of noised rows, by noise-contrastive estimation.

Contrasting noised draws of q with noised draws of p at one noise level estimates the energy at that level (contrastive
energy prediction, Lu et al. 2023), which is what guidance of a diffusion model needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfdg_diffusion.edm.learner import Learner
from cfdg_diffusion.edm.network import ResidualMLP
from cfdg_diffusion.edm.noise import c_in, c_noise
from cfdg_diffusion.edm.sampler import karras_sigmas
from cfdg_diffusion.edm.streams import Streams as WeightStreams
from cfdg_experiments.generators.interface import State
from cfdg_experiments.generators.rows import rows_at
from cfdg_rl.ranges import COUNT, POSITIVE, WIDTH, check_ranges
from cfdg_rl.streams import Streams


@dataclass(frozen=True)
class EnergySettings:
    """Network and training of an energy.

    The network is the denoiser's, with one output: smooth where EDIS' three ReLU layers of 256 have steps for a
    gradient (measured on two Gaussians after 1,000 steps: relative error .1 to .15 against .2 to .4), and 0 at first.

    Raises:
        ValueError: if a number is not positive.
    """

    width: int = 128
    blocks: int = 1
    learning_rate: float = 3e-3  # falls to 0 along a cosine in each fit; measured against EDIS' constant 1e-3
    batch_size: int = 256  # positives; EDIS
    negatives: int = 10  # of each positive; EDIS
    noise_levels: int = 128  # of EDM's schedule, drawn from uniformly; EDIS takes every 16th

    def __post_init__(self) -> None:
        check_ranges(self, width=WIDTH, blocks=COUNT, learning_rate=POSITIVE)
        check_ranges(self, batch_size=COUNT, negatives=COUNT, noise_levels=COUNT)


class Energy:
    """R scalar functions of noised columns and their noise level, each for one replica.

    Args:
        columns: C, columns that it reads, in model space.
        streams: randomness of the initial weights, one stream per replica.
        settings: network and training.
    """

    def __init__(self, columns: int, streams: WeightStreams, settings: EnergySettings = EnergySettings()) -> None:
        self.streams = streams
        self.settings = settings
        self.network = ResidualMLP(columns, 1, settings.width, settings.blocks, outputs=1)
        self.learner = self._fresh()

    def __call__(self, flat: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
        """Compute energies ``(R, n)`` with the weights ``flat (R, P)``.

        Args:
            flat: weights, ``learner.weights`` or their average.
            z: noised rows ``(R, n, C)``; the network reads them scaled to the size of clean rows.
            sigma: noise levels broadcastable to ``(R, n)``.
        """
        weights = self.network.unpack(flat, flat.dtype)
        labels = torch.zeros(z.shape[:2], dtype=torch.long, device=z.device)
        return self.network(weights, z * c_in(sigma)[..., None], c_noise(sigma), labels).squeeze(-1)

    def gradient(self, z: Tensor, sigma: Tensor) -> Tensor:
        """Compute dE/dz ``(R, n, C)`` with the averaged weights; shapes are those of :meth:`__call__`."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = z.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self(self.learner.average, leaf, sigma.clone()).sum(), leaf)
        return gradient

    def step(self, positive: Tensor, negative: Tensor, sigma: Tensor, rate: float = 1.0) -> Tensor:
        """Take one gradient step; return the losses ``(R,)``.

        Args:
            positive: ``(R, B, C)`` draws of q, noised.
            negative: ``(R, B, K, C)`` draws of p, noised at the level of their positive.
            sigma: ``(R, B)`` noise levels.
            rate: share of the settings' learning rate.
        """
        loss = contrastive_loss(*self.both(self.learner.weights, positive, negative, sigma))
        self.learner.step(loss, rate * self.settings.learning_rate)
        return loss.detach()

    def both(self, flat: Tensor, positive: Tensor, negative: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the energies ``(R, B)`` and ``(R, B, K)`` of positives and negatives in one pass."""
        rows = torch.cat([positive[:, :, None], negative], dim=2)
        levels = sigma[..., None].expand(*rows.shape[:-1])
        energies = self(flat, rows.flatten(1, 2), levels.flatten(1, 2)).unflatten(1, rows.shape[1:3])
        return energies[..., 0], energies[..., 1:]

    def restart(self, replicas: Tensor) -> None:
        """Give some replicas ``(R,)`` bool fresh weights and moments; the streams of all replicas run on."""
        self.learner.restore(_chosen(replicas, self._fresh().state(), self.learner.state()))

    def _fresh(self) -> Learner:
        return Learner(self.network.initial(self.streams), gradient_clip=1.0, ema_decay=0.99)

    def state(self) -> dict[str, Any]:
        """Return weights, moments and random streams."""
        return {"learner": self.learner.state(), "streams": self.streams.state()}

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        self.learner.restore(state["learner"])
        self.streams.restore(state["streams"])


def _chosen(replicas: Tensor, yes: Mapping[str, Any], no: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two states by replica; what has no replica axis is taken from ``no``."""
    found: dict[str, Any] = {}
    for name, other in no.items():
        if isinstance(other, Mapping):
            found[name] = _chosen(replicas, yes[name], other)
        elif other.dim():
            found[name] = torch.where(replicas.reshape(-1, *[1] * (other.dim() - 1)), yes[name], other)
        else:
            found[name] = other
    return found


def contrastive_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Compute the loss ``(R,)`` of energies ``(R, B)`` of positives and ``(R, B, K)`` of their negatives.

    -mean log e^{-E+} / (e^{-E+} + sum_k e^{-E_k}); the minimiser is -log q/p up to a constant at each noise level.
    """
    logits = -torch.cat([positive[..., None], negative], dim=-1)
    return -logits.log_softmax(-1)[..., 0].mean(-1)


@dataclass(frozen=True)
class Contrast:
    """Clean draws of q and p in model space, of which a tenth is held out.

    Attributes:
        columns: of the row that the energy reads.
        positive: ``(R, P, D)`` draws of q.
        negative: ``(R, Q, D)`` draws of p, or ``(R, P, K, D)`` with K of them for each positive.
    """

    columns: Sequence[int]
    positive: Tensor
    negative: Tensor

    def draw(self, streams: Streams, sigma: Tensor, negatives: int, held_out: bool = False) -> tuple[Tensor, Tensor]:
        """Draw and noise positives ``(R, B, C)`` and negatives ``(R, B, K, C)`` at levels ``sigma (R, B)``."""
        count = sigma.shape[1]
        own = _index(streams, self.positive.shape[1], (count,), held_out)
        positive = rows_at(self.positive[..., self.columns], own)
        if self.negative.dim() == 4:
            negative = rows_at(self.negative[..., self.columns].flatten(2), own).unflatten(2, (-1, len(self.columns)))
        else:
            other = _index(streams, self.negative.shape[1], (count * negatives,), held_out)
            negative = rows_at(self.negative[..., self.columns], other).unflatten(1, (count, negatives))
        noise = streams.normal(count, 1 + negative.shape[2], len(self.columns)) * sigma[..., None, None]
        return positive + noise[:, :, 0], negative + noise[:, :, 1:]


def draw_levels(streams: Streams, settings: EnergySettings) -> Tensor:
    """Draw noise levels ``(R, B)`` uniformly from EDM's schedule."""
    levels = karras_sigmas(settings.noise_levels)[:-1].float().to(streams.device)
    return levels[streams.integers(len(levels), settings.batch_size)]


def train_energy(energy: Energy, contrast: Contrast, streams: Streams, steps: int) -> Tensor:
    """Take some gradient steps at a rate that falls to 0 along a cosine.

    Returns:
        Held-out accuracy ``(R,)``, the share of pairs in the right order, over all noise levels; at the highest of them
        no energy can beat one half.
    """
    settings = energy.settings
    for step in range(steps):
        sigma = draw_levels(streams, settings)
        rate = 0.5 * (1 + math.cos(math.pi * step / steps))
        energy.step(*contrast.draw(streams, sigma, settings.negatives), sigma, rate)
    sigma = draw_levels(streams, settings)
    with torch.no_grad():
        pairs = contrast.draw(streams, sigma, settings.negatives, held_out=True)
        positive, negative = energy.both(energy.learner.average, *pairs, sigma)
    return ((positive[..., None] < negative).float() + 0.5 * (positive[..., None] == negative)).mean((1, 2))


def _index(streams: Streams, rows: int, shape: tuple[int, ...], held_out: bool) -> Tensor:
    """Draw indices of the first nine tenths, or of the last tenth."""
    kept = rows - max(1, rows // 10)
    return kept + streams.integers(rows - kept, *shape) if held_out else streams.integers(max(1, kept), *shape)
