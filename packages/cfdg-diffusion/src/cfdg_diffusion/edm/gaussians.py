"""Gaussian of each label: the linear denoiser from which the network of a small table starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cfdg_diffusion.edm.network import embed

_LEAST_VARIANCE = 1e-4
_PRIOR_ROWS = 15
"""Rows that a label's own variances are worth beside those of all labels: a variance of 15 rows is known to a third."""


@dataclass(frozen=True, eq=False)
class LabelGaussians:
    """R times one Gaussian per label, with axes that all labels share.

    The null label's is the standard one, so that its denoiser is EDM's skip connection.

    Attributes:
        mean: ``(R, L + 1, P)``.
        variance: ``(R, L + 1, P)`` along the axes.
        axes: ``(R, P, P)`` orthonormal columns.
    """

    mean: Tensor
    variance: Tensor
    axes: Tensor

    @classmethod
    def empty(cls, replicas: int, num_labels: int, width: int) -> LabelGaussians:
        """Make standard Gaussians, of the shapes that all have."""
        mean = torch.zeros(replicas, num_labels + 1, width)
        return cls(mean, torch.ones_like(mean), torch.eye(width).repeat(replicas, 1, 1))

    @classmethod
    def measure(cls, rows: Tensor, labels: Tensor, num_labels: int) -> LabelGaussians:
        """Measure means and variances of each label, and the axes of all, of rows ``(R, N, P)`` with labels ``(R, N)``.

        Means count one more row at the mean of all rows, so that a label of a single row is not that row. Axes are
        those of the covariance within labels, whose correlations are shrunk by N / (N + P), as if P more rows had none
        (common principal components, Flury 1984). Along them a label's variance counts 15 more rows of the whole's.
        """
        count, width = rows.shape[1:]
        member = torch.nn.functional.one_hot(labels, num_labels).to(rows.dtype)  # (R, N, L)
        sums = member.transpose(1, 2) @ rows
        sizes = member.sum(1)[..., None]
        mean = (sums + rows.mean(1, keepdim=True)) / (sizes + 1)
        centred = rows - embed(mean, labels)
        within = centred.transpose(1, 2) @ centred / count
        scale = torch.diag_embed(within.diagonal(dim1=1, dim2=2))
        whole, axes = torch.linalg.eigh(torch.lerp(scale, within, count / (count + width)))
        own = member.transpose(1, 2) @ (centred @ axes).square()  # (R, L, P) sums of squares
        ratio = own / (own.sum(1, keepdim=True) / count).clamp(min=_LEAST_VARIANCE)
        variance = whole.clamp(min=_LEAST_VARIANCE)[:, None] * (ratio + _PRIOR_ROWS) / (sizes + _PRIOR_ROWS)
        null = torch.zeros_like(mean[:, :1])
        return cls(torch.cat([mean, null], 1), torch.cat([variance, null + 1], 1), axes.contiguous())

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Compute E[clean | x] ``(R, N, P)``: mu + (x - mu) S (S + sigma^2 I)^-1, the linear denoiser of the label.

        Args:
            x: ``(R, N, P)`` noisy rows.
            sigma: noise levels that broadcast to ``(R, N)``.
            labels: ``(R, N)``.
        """
        mean = embed(self.mean, labels)
        variance = embed(self.variance, labels)
        share = variance / (variance + sigma[..., None].square())
        return mean + ((x - mean) @ self.axes * share) @ self.axes.transpose(1, 2)

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors by name, the arguments of the class."""
        return {"mean": self.mean.clone(), "variance": self.variance.clone(), "axes": self.axes.clone()}
