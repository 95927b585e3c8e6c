"""Gaussian policies with a replica axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfdg_rl.agents.networks import StackedMLP
from cfdg_rl.streams import Streams


def gaussian_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute the log density of a diagonal Gaussian: ``(..., A)`` to ``(...)``."""
    z = (action - mean) * (-log_std).exp()
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


class GaussianPolicy(nn.Module):
    """A Gaussian with a tanh mean and a state-independent standard deviation; it is not squashed (IQL).

    Args:
        network: observations ``(R, B, S)`` to pre-tanh means ``(R, B, A)``.
        log_std_range: bounds of the log standard deviation, which starts at 0.
    """

    def __init__(self, network: StackedMLP, log_std_range: tuple[float, float]) -> None:
        super().__init__()
        self.network = network
        self.log_std_range = log_std_range
        self.free_log_std = nn.Parameter(torch.zeros_like(network.biases[-1]))  # (R, 1, A)

    def mean(self, obs: Tensor) -> Tensor:
        """Compute mean actions ``(R, B, A)`` for scaled observations ``(R, B, S)``."""
        return self.network(obs).tanh()

    def log_std(self) -> Tensor:
        """Return the log standard deviation ``(R, 1, A)``."""
        return self.free_log_std.clamp(*self.log_std_range)

    def sample(self, obs: Tensor, noise: Streams) -> Tensor:
        """Draw actions ``(R, B, A)`` clipped to [-1, 1], as every environment here executes them."""
        mean = self.mean(obs)
        return (mean + self.log_std().exp() * noise.normal(*mean.shape[1:])).clamp(-1, 1)

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the log densities ``(R, B)`` of actions ``(R, B, A)`` at ``(R, B, S)``."""
        return gaussian_log_prob(action, self.mean(obs), self.log_std())


class TanhGaussian(nn.Module):
    """A squashed Gaussian whose mean and standard deviation depend on the state (soft actor-critic).

    Args:
        network: observations ``(R, B, S)`` to pre-tanh means and log standard deviations ``(R, B, 2 A)``.
        log_std_range: bounds of the log standard deviation.
    """

    def __init__(self, network: StackedMLP, log_std_range: tuple[float, float]) -> None:
        super().__init__()
        self.network = network
        self.log_std_range = log_std_range

    def mode(self, obs: Tensor) -> Tensor:
        """Compute the squashed mean ``(R, B, A)``."""
        return self.network(obs).chunk(2, -1)[0].tanh()

    def sample(self, obs: Tensor, noise: Streams, count: int = 1) -> tuple[Tensor, Tensor]:
        """Draw reparameterised actions ``(R, B, count, A)``; also their log densities ``(R, B, count)``."""
        mean, log_std = (part.unsqueeze(2) for part in self.network(obs).chunk(2, -1))
        log_std = log_std.clamp(*self.log_std_range)
        u = mean + log_std.exp() * noise.normal(obs.shape[1], count, mean.shape[-1])
        squash = 2 * (math.log(2) - u - functional.softplus(-2 * u))  # log(1 - tanh(u)^2), exact for large u
        return u.tanh(), gaussian_log_prob(u, mean, log_std) - squash.sum(-1)
