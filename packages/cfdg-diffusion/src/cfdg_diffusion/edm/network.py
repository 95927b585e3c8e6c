"""Residual MLP conditioned on noise level and label, with a replica axis in every weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cfdg_diffusion.edm.streams import Streams

Weights = Mapping[str, Tensor]

_FREQUENCIES = 8


@dataclass(frozen=True)
class ResidualMLP:
    """F = linear(silu(layer_norm(h))) after ``blocks`` of h <- h + linear(silu(linear(silu(h)))).

    The last norm bounds F whatever the input, so that no sampler can be thrown far outside the data. With ``normed``
    each block is h <- h + linear(silu(linear(layer_norm(h)))): worse on transitions, better where categories depend on
    each other.

    The object holds sizes only. The weights of R replicas are one flat float32 tensor ``(R, P)``, so that the
    optimiser, the gradient norm of each replica and the moving average are one kernel each.

    Attributes:
        columns: D, width of what F reads.
        labels: number of labels L; label L is the null label, which has an embedding of its own.
        width: width of the residual stream.
        blocks: number of residual blocks.
        outputs: O, width of F; 0 stands for D.
        normed: whether each block begins with a norm.
    """

    columns: int
    labels: int
    width: int
    blocks: int
    outputs: int = 0
    normed: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Shape of each weight of one replica, in the order of the flat tensor; a bias is ``(1, out)``."""
        width = self.width
        shapes = {
            "noise": (2 * _FREQUENCIES + 1, width),
            "label": (self.labels + 1, width),
            "condition": (width, width),
            "input": (self.columns, width),
            "input_bias": (1, width),
        }
        for block in range(self.blocks):
            for half in ("first", "second"):
                shapes |= {f"{half}{block}": (width, width), f"{half}{block}_bias": (1, width)}
        outputs = self.outputs or self.columns
        return shapes | {"output": (width, outputs), "output_bias": (1, outputs)}

    @property
    def size(self) -> int:
        """P, the number of weights of one replica."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def initial(self, streams: Streams) -> Tensor:
        """Fresh weights ``(R, P)``: fan-in scaling inside, zeros where F and each block's addition to h begin."""
        scale = [torch.full((math.prod(shape),), _spread(name, shape)) for name, shape in self.shapes.items()]
        return streams.normal(self.size) * torch.cat(scale).to(streams.device)

    def unpack(self, flat: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Weights ``(R, in, out)`` by name of the flat ``(R, P)``, in ``dtype``.

        Contiguous, which is free for R = 1 and else one copy where each stacked product would make its own.
        """
        parts = flat.to(dtype).split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: part.unflatten(1, shape).contiguous()
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def __call__(self, weights: Weights, x: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:
        """Rows ``x (R, N, D)``, ``c_noise`` broadcastable to ``(R, N)``, ``labels (R, N)`` -> ``(R, N, O)`` float32."""
        dtype = weights["input"].dtype
        h = torch.bmm(x.to(dtype), weights["input"]) + self._conditioning(weights, c_noise, labels)
        for block in range(self.blocks):
            read = functional.layer_norm(h, (self.width,)) if self.normed else functional.silu(h)
            inner = _linear(weights, f"first{block}", read)
            h = h + _linear(weights, f"second{block}", functional.silu(inner))
        h = functional.layer_norm(h, (self.width,))
        return _linear(weights, "output", functional.silu(h)).float()

    def _conditioning(self, weights: Weights, c_noise: Tensor, labels: Tensor) -> Tensor:
        """Noise level and label as one vector per row ``(R, N, width)``, with the bias of the input.

        When all rows share one noise level, as in sampling, it depends on the label alone and is computed per label.
        """
        table = weights["label"]
        features = _noise_features(c_noise).to(table.dtype).expand(len(table), -1, -1)
        noise = torch.bmm(features, weights["noise"])
        if c_noise.shape[-1] == 1:
            return embed(_project(weights, noise + table), labels)
        return _project(weights, noise + embed(table, labels))


def _project(weights: Weights, features: Tensor) -> Tensor:
    return torch.baddbmm(weights["input_bias"], functional.silu(features), weights["condition"])


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return torch.baddbmm(weights[f"{name}_bias"], x, weights[name])


def fourier_features(x: Tensor, octaves: int) -> Tensor:
    """Sines and cosines ``(..., 2 octaves D)`` of columns ``(..., D)`` at wavelengths of 4, 2, 1, ...

    A linear map of the columns alone learns fine structure last (Tancik et al. 2020, "Fourier features").
    """
    angles = torch.cat([math.pi / 2 * 2**octave * x for octave in range(octaves)], dim=-1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _noise_features(c_noise: Tensor) -> Tensor:
    """``(..., N)`` -> ``(..., N, F)``: the value and its sines and cosines from a quarter to eight turns per unit."""
    turns = 2.0 ** torch.linspace(-2, 3, _FREQUENCIES, device=c_noise.device)
    angles = 2 * math.pi * turns * c_noise[..., None]
    return torch.cat([c_noise[..., None], angles.sin(), angles.cos()], dim=-1)


def embed(table: Tensor, labels: Tensor) -> Tensor:
    """Look up rows ``(R, N, width)`` of the tables ``(R, L + 1, width)`` at ``labels (R, N)``."""
    replica = torch.arange(len(table), device=table.device)[:, None]
    return functional.embedding(labels + replica * table.shape[1], table.flatten(0, 1))


def _spread(name: str, shape: tuple[int, int]) -> float:
    """Standard deviation of the initial weights."""
    if name.endswith("bias") or name == "output" or name.startswith("second"):
        return 0.0
    return 1.0 if name == "label" else shape[0] ** -0.5
