"""EDM on a density that is known: three arms of a spiral in the plane, one label each.

    python examples/edm_density.py

Prints the sliced Wasserstein distance of generated rows to the truth, beside that of a second true sample (the least
that can be expected) and of the one Gaussian that fits best, and the share of rows on the arm of their label.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion

QUICK = "--quick" in sys.argv
ARMS = 3


def spiral(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw points ``(N, 2)``: arm k winds from radius 0.5 to 3, turned by k thirds of a circle, with noise 0.08."""
    along = torch.rand(len(labels), generator=generator)
    angle = 2 * torch.pi * (labels / ARMS + 0.75 * along)
    radius = 0.5 + 2.5 * along
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return points + 0.08 * torch.randn(points.shape, generator=generator)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 256) -> float:
    """Mean over directions of the Wasserstein-1 distance of two samples ``(N, 2)`` projected on them."""
    angle = torch.pi * torch.arange(directions) / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    return ((a @ axes).sort(dim=0).values - (b @ axes).sort(dim=0).values).abs().mean().item()


def on_arm(points: Tensor, labels: Tensor) -> float:
    """Share of points within 0.3 of the middle line of the arm of their label."""
    middle = torch.linspace(0, 1, 400)[:, None]
    angle = 2 * torch.pi * (torch.arange(ARMS) / ARMS + 0.75 * middle)
    lines = (0.5 + 2.5 * middle)[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    distance = (lines[:, labels] - points).norm(dim=-1).amin(dim=0)
    return (distance < 0.3).double().mean().item()


def main() -> None:
    """Fit, sample and compare."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3 * 2_000) % ARMS
    rows = spiral(labels, generator)
    truth = spiral(labels, generator)
    model = ConditionalDiffusion(columns=2, num_labels=ARMS, seeds=[0])
    model.fit(rows, labels, steps=100 if QUICK else 2_000)
    made = model.sample(labels, guidance_weight=0.0)
    gaussian = rows.mean(0) + torch.randn(rows.shape, generator=generator) @ torch.linalg.cholesky(rows.T.cov()).T
    print("sliced Wasserstein distance to the truth")
    for name, sample in (("one Gaussian", gaussian), ("EDM", made), ("a second true sample", rows)):
        distance = sliced_wasserstein(sample, truth)
        print(f"  {name:21} {distance:.3f}   on the arm of its label {on_arm(sample, labels):4.0%}")


if __name__ == "__main__":
    main()
