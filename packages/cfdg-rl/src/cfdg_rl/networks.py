"""Stacks of small networks: every layer holds the weights of R replicas (and H heads) in one tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cfdg_rl.streams import Streams

Init = Callable[[Streams, tuple[int, ...], int, int], tuple[Tensor, Tensor]]  # streams, heads, in, out -> weight, bias


def torch_default(streams: Streams, heads: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
    """PyTorch's default for linear layers: weight and bias uniform within 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    weight = (2 * streams.uniform(*heads, fan_in, fan_out) - 1) * bound
    bias = (2 * streams.uniform(*heads, 1, fan_out) - 1) * bound
    return weight, bias


def xavier_uniform(streams: Streams, heads: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
    """Glorot and Bengio (2010): weight uniform within sqrt(6 / (fan_in + fan_out)), zero bias."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    weight = (2 * streams.uniform(*heads, fan_in, fan_out) - 1) * bound
    return weight, torch.zeros_like(weight[..., :1, :])


class StackedMLP(nn.Module):
    """R replicas (times H heads) of one ReLU network as batched matrix products.

    Args:
        sizes: layer widths, input first, output last.
        streams: one random stream per replica, for the initial weights.
        heads: number of ensemble members per replica, or None for no head axis.
        init: draws one layer's weight ``(R, [H,] in, out)`` and bias ``(R, [H,] 1, out)``.
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
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.stack = (len(streams),) if heads is None else (heads, len(streams))
        self.dtype = dtype
        layers = [init(streams, self.stack[:-1], *pair) for pair in itertools.pairwise(sizes)]
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
    """``(R, H, a, b)`` as drawn by the streams to ``(H R, a, b)`` as the batched products want it."""
    return tensor if heads is None else tensor.transpose(0, 1).flatten(0, 1).contiguous()


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move every target weight towards its source: ``target <- (1 - rate) target + rate source``."""
    pairs = zip(target.parameters(), source.parameters(), strict=True)
    for old, new in pairs:
        old.lerp_(new, rate)
