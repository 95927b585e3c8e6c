"""Outputs of the network: F of EDM's equation 7 for a number, the logits of its levels for a category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from cfdg_diffusion.edm.noise import c_out, c_skip


@dataclass(frozen=True, eq=False)
class Category:
    """Neighbouring columns that hold one of a few vectors, such as a one-hot code.

    Attributes:
        start: first column.
        codes: ``(L, W)`` float32 distinct vectors, one for each level.
    """

    start: int
    codes: np.ndarray


class OutputHeads:
    """Denoisers of rows with numbers and categories, from one output vector of the network.

    A number is denoised as EDM does. The denoised value of a category is the mean of its codes under the probabilities
    of its levels, learnt by cross-entropy: the same minimiser as the squared error's, but it stays within the codes,
    and a level of one row in a thousand weighs as it should (Dieleman et al. 2022, "score interpolation").

    Args:
        columns: D, width of a row.
        categories: all columns that hold no numbers; they may not overlap.
        device: where rows live.

    Attributes:
        numbers: ``(P,)`` columns of the numbers.
        categorical: columns of the categories.
        terms: numbers and categories, which count alike in the loss.
        outputs: O, width of the network's output: one for each number, then one for each level.

    Raises:
        ValueError: if a category overlaps another, reaches beyond the row or has fewer than two levels.
    """

    def __init__(self, columns: int, categories: Sequence[Category] = (), device: torch.device | str = "cpu") -> None:
        self.categorical = _columns_of(categories, columns)
        numbers = np.setdiff1d(np.arange(columns), self.categorical)
        self._groups = [
            _Group.of(list(parts), device)
            for _, parts in groupby(sorted(categories, key=_shape), key=_shape)  # equal shapes share one kernel
        ]
        self.is_plain = not categories
        self.numbers = torch.from_numpy(numbers).to(device)
        self.terms = len(numbers) + len(categories)
        self.outputs = len(numbers) + sum(group.outputs for group in self._groups)
        order = np.concatenate([numbers, *(group.columns.flatten().cpu().numpy() for group in self._groups)])
        self._order = torch.from_numpy(np.argsort(order)).to(device)

    def denoise(self, raw: Tensor, x: Tensor, sigma: Tensor, linear: Tensor | None = None) -> Tensor:
        """Compute D(x; sigma) ``(..., N, D)`` from outputs ``raw (..., N, O)`` and noisy rows ``x (..., N, D)``.

        ``linear (..., N, P)`` are the numbers as a linear denoiser gives them; None is EDM's skip connection.
        """
        numbers, *logits = self._split(raw)
        linear = self._skip(x, sigma) if linear is None else linear
        clean = linear + c_out(sigma)[..., None] * numbers
        if self.is_plain:
            return clean
        parts = [clean]
        parts += [group.mean(part) for group, part in zip(self._groups, logits, strict=True)]
        return select_columns(torch.cat(parts, dim=-1), self._order)

    def loss(self, raw: Tensor, clean: Tensor, x: Tensor, sigma: Tensor, linear: Tensor | None = None) -> Tensor:
        """Compute the training loss ``(...)``, averaged over rows and over numbers and categories.

        That of a number is lambda(sigma) times its squared error (EDM, equation 8), that of a category its
        cross-entropy. Shapes are those of :meth:`denoise`; the sum over replicas is what is differentiated.
        """
        numbers, *logits = self._split(raw)
        linear = self._skip(x, sigma) if linear is None else linear
        wanted = clean if self.is_plain else select_columns(clean, self.numbers)
        target = (wanted - linear) / c_out(sigma)[..., None]  # lambda = 1 / c_out^2: the weighted error is that of F
        total = (numbers - target).square().sum(-1)
        for group, part in zip(self._groups, logits, strict=True):
            total = total + group.cross_entropy(part, clean)
        return total.mean(-1) / self.terms

    def _skip(self, x: Tensor, sigma: Tensor) -> Tensor:
        return c_skip(sigma)[..., None] * (x if self.is_plain else select_columns(x, self.numbers))

    def _split(self, raw: Tensor) -> tuple[Tensor, ...]:
        return raw.split([len(self.numbers), *(group.outputs for group in self._groups)], dim=-1)


@dataclass(frozen=True, eq=False)
class _Group:
    """G categories of as many levels and columns.

    Attributes:
        codes: ``(G, L, W)``.
        columns: ``(G, W)`` their columns.
    """

    codes: Tensor
    columns: Tensor

    @classmethod
    def of(cls, parts: Sequence[Category], device: torch.device | str) -> _Group:
        codes = torch.from_numpy(np.stack([part.codes for part in parts])).to(device, torch.float32)
        columns = torch.tensor([range(part.start, part.start + part.codes.shape[1]) for part in parts])
        return cls(codes, columns.to(device))

    @property
    def outputs(self) -> int:
        return self.codes.shape[0] * self.codes.shape[1]

    def _logits(self, part: Tensor) -> Tensor:
        return part.unflatten(-1, self.codes.shape[:2])

    def mean(self, part: Tensor) -> Tensor:
        """Expected codes ``(..., N, G W)`` of logits ``(..., N, G L)``."""
        logits = self._logits(part)
        share = (logits - logits.amax(-1, keepdim=True)).exp()  # softmax's own kernel is several times as slow on a CPU
        share = share / share.sum(-1, keepdim=True)
        return torch.einsum("...gl,glw->...gw", share, self.codes.to(share.dtype)).flatten(-2)

    def cross_entropy(self, part: Tensor, clean: Tensor) -> Tensor:
        """Sum cross-entropies of the categories ``(..., N)``; the level of a clean row is that of its nearest code."""
        codes = self.codes.to(clean.dtype)
        scores = torch.einsum("...gw,glw->...gl", clean[..., self.columns], codes)
        level = (scores - codes.square().sum(-1) / 2).argmax(-1, keepdim=True)
        return -self._logits(part).log_softmax(-1).gather(-1, level).flatten(-2).sum(-1)


def select_columns(rows: Tensor, columns: Tensor) -> Tensor:
    """Select ``rows[..., columns]``, four times as fast on a CPU."""
    return rows.flatten(0, -2).index_select(1, columns).unflatten(0, rows.shape[:-1])


def _columns_of(categories: Sequence[Category], columns: int) -> list[int]:
    """List the columns of all categories, which are different ones in [0, ``columns``)."""
    places = [np.arange(part.start, part.start + part.codes.shape[1]) for part in categories]
    held = np.concatenate([np.empty(0, dtype=np.int64), *places])
    if len(np.unique(held)) < len(held) or (len(held) and not 0 <= held.min() <= held.max() < columns):
        raise ValueError(f"categories hold columns {held.tolist()}, expected different ones in [0, {columns})")
    if any(len(part.codes) < 2 for part in categories):
        raise ValueError("a category has fewer than two levels, expected at least two codes")
    return held.tolist()


def _shape(category: Category) -> tuple[int, ...]:
    return category.codes.shape
