"""Multi-layer perceptron with a replica axis, its weights one flat tensor per replica."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cfdg_diffusion import Streams


@dataclass(frozen=True)
class Perceptron:
    """Sizes of R networks of ``layers`` hidden SiLU layers; the weights are a flat ``(R, P)``.

    Attributes:
        inputs: width of what is read.
        outputs: width of what is written.
        width: width of a hidden layer.
        layers: number of hidden layers.
    """

    inputs: int
    outputs: int
    width: int
    layers: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(in, out) of each layer, the first one first."""
        return list(itertools.pairwise([self.inputs, *[self.width] * self.layers, self.outputs]))

    def initial(self, streams: Streams) -> Tensor:
        """Fresh weights ``(R, P)``: uniform within 1 / sqrt(fan-in), PyTorch's default for linear layers."""
        sizes = [fan_in * fan_out + fan_out for fan_in, fan_out in self.shapes]
        bounds = [torch.full((size,), fan_in**-0.5) for size, (fan_in, _) in zip(sizes, self.shapes, strict=True)]
        return (2 * streams.uniform(sum(sizes)) - 1) * torch.cat(bounds).to(streams.device)

    def __call__(self, flat: Tensor, x: Tensor) -> Tensor:
        """Map rows ``x (R, N, inputs)`` to ``(R, N, outputs)`` with the weights ``flat (R, P)``."""
        parts = flat.split([size for shape in self.shapes for size in (math.prod(shape), shape[1])], dim=1)
        layers = list(zip(parts[::2], parts[1::2], self.shapes, strict=True))
        for weight, bias, shape in layers[:-1]:
            x = functional.silu(torch.baddbmm(bias[:, None], x, weight.unflatten(1, shape)))
        weight, bias, shape = layers[-1]
        return torch.baddbmm(bias[:, None], x, weight.unflatten(1, shape))
