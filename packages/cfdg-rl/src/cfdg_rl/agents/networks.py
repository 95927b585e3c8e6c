"""Stacks of small networks: every layer holds the weights of R replicas (and H heads) in one tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions

Init = Callable[[Streams, tuple[int, ...], int, int], tuple[Tensor, Tensor]]  # streams, heads, in, out -> weight, bias


def torch_default(streams: Streams, heads: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
    """Draw PyTorch's default for linear layers: weight and bias uniform within 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    weight = (2 * streams.uniform(*heads, fan_in, fan_out) - 1) * bound
    bias = (2 * streams.uniform(*heads, 1, fan_out) - 1) * bound
    return weight, bias


def xavier_uniform(streams: Streams, heads: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
    """Draw Glorot and Bengio's (2010) weights, uniform within sqrt(6 / (fan_in + fan_out)), and zero biases."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    weight = (2 * streams.uniform(*heads, fan_in, fan_out) - 1) * bound
    return weight, torch.zeros_like(weight[..., :1, :])


def uniform_within(bound: float) -> Init:
    """Make an initialiser of weights and biases uniform within ``bound``, as rlkit's last layers."""

    def init(streams: Streams, heads: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
        weight = (2 * streams.uniform(*heads, fan_in, fan_out) - 1) * bound
        return weight, (2 * streams.uniform(*heads, 1, fan_out) - 1) * bound

    return init


def rlkit_hidden(streams: Streams, heads: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
    """Draw weights uniform within 1 / sqrt(fan_out), which rlkit takes for the fan-in, and biases of 0.1."""
    weight = (2 * streams.uniform(*heads, fan_in, fan_out) - 1) / math.sqrt(fan_out)
    return weight, torch.full_like(weight[..., :1, :], 0.1)


INITS = {"xavier": xavier_uniform, "torch": torch_default}
DTYPES = {"fp32": None, "bf16": torch.bfloat16}


class StackedMLP(nn.Module):
    """R replicas (times H heads) of one ReLU network as batched matrix products.

    Args:
        sizes: layer widths, input first, output last.
        streams: one random stream per replica, for the initial weights.
        heads: number of ensemble members per replica, or None for no head axis.
        init: draws one layer's weight ``(R, [H,] in, out)`` and bias ``(R, [H,] 1, out)``.
        last_init: the same for the last layer, None for ``init``.
        dtype: type of the hidden matrix products, None for the weights' own; master weights and the last layer keep
            theirs, because a value of a few hundred loses its differences in the 8 bits of a bfloat16.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        streams: Streams,
        *,
        heads: int | None = None,
        init: Init = torch_default,
        last_init: Init | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.stack = (len(streams),) if heads is None else (heads, len(streams))
        self.dtype = dtype
        inits = [init] * (len(sizes) - 2) + [last_init or init]
        pairs = zip(inits, itertools.pairwise(sizes), strict=True)
        layers = [draw(streams, self.stack[:-1], *pair) for draw, pair in pairs]
        flat = [[_heads_first(tensor, heads) for tensor in layer] for layer in layers]
        self.weights = nn.ParameterList([weight for weight, _ in flat])  # (HR, in, out)
        self.biases = nn.ParameterList([bias for _, bias in flat])  # (HR, 1, out)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(R, B, in)`` to ``(R, B, out)``, or to ``(H, R, B, out)`` with heads."""
        *hidden, (last_weight, last_bias) = zip(self.weights, self.biases, strict=True)
        dtype = self.dtype or last_weight.dtype
        x = inputs.to(dtype)
        if len(self.stack) == 2:
            x = x.expand(*self.stack, *x.shape[-2:]).flatten(0, 1)
        for weight, bias in hidden:
            x = torch.baddbmm(bias.to(dtype), x, weight.to(dtype)).relu_()
        x = torch.baddbmm(last_bias, x.to(last_weight.dtype), last_weight)
        return x.view(*self.stack, *x.shape[-2:])


def _heads_first(tensor: Tensor, heads: int | None) -> Tensor:
    """Reorder ``(R, H, a, b)`` as drawn by the streams into ``(H R, a, b)`` for the batched products."""
    return tensor if heads is None else tensor.transpose(0, 1).flatten(0, 1).contiguous()


class Standardiser(nn.Module):
    """Scaler of observations: standardises by the offline data, or changes nothing where not ``enabled``."""

    def __init__(self, obs_dim: int, enabled: bool, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.enabled = enabled
        self.register_buffer("mean", torch.zeros(obs_dim, device=device))
        self.register_buffer("std", torch.ones(obs_dim, device=device))
        self.register_load_state_dict_post_hook(_check_statistics)

    def fit_scaler(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``."""
        if self.enabled:
            self.mean.copy_(obs.mean(0))
            self.std.copy_(obs.std(0, correction=0) + 1e-3)  # CORL's epsilon

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations ``(..., S)``."""
        return (obs - self.mean) / self.std if self.enabled else obs

    def both(self, data: Transitions) -> Transitions:
        """Map both observations of transitions ``(R, B)``."""
        return replace(data, obs=self(data.obs), next_obs=self(data.next_obs))


def _check_statistics(scale: Standardiser, incompatible: object) -> None:
    """Refuse weights that were trained on standardised observations where they would not be standardised."""
    trained = bool((scale.mean != 0).any() or (scale.std != 1).any())
    if trained and not scale.enabled:
        raise ValueError("normalise_obs is False, expected True: the weights were trained on standardised observations")


def adam(parameters: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.Adam:
    """Make a fused Adam, whose rate :func:`set_rate` changes."""
    return torch.optim.Adam(list(parameters), lr=learning_rate, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Change the learning rate; in place where a captured graph reads it from a tensor."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def descend(optimiser: torch.optim.Optimizer, *losses: Tensor) -> None:
    """Step down the sum of losses ``(R,)`` along the optimiser's own weights and no others."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.contiguous()  # the fused Adam of CPUs reads memory in order, whatever the strides
    optimiser.step()


def q_values(critics: StackedMLP, obs: Tensor, action: Tensor) -> Tensor:
    """Compute all heads' action values ``(H, R, B)`` at ``(R, B, S)`` and ``(R, B, A)``."""
    return critics(torch.cat([obs, action], -1)).squeeze(-1)


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move every target weight towards its source: ``target <- (1 - rate) target + rate source``."""
    pairs = zip(target.parameters(), source.parameters(), strict=True)
    for old, new in pairs:
        old.lerp_(new, rate)
