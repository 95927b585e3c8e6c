"""Arms of an experiment: they differ by a value, never by a fork of the loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, FitReport
from cfdg_rl.transitions import row_width


@dataclass(frozen=True)
class Arm:
    """Augmentation of the data in one arm; None leaves the profile's value.

    Attributes:
        augments: whether a generator is trained at all.
        guidance_weight: w of equation 7.
        online_share: share of generated rows with the online label.
    """

    augments: bool = True
    guidance_weight: float | None = None
    online_share: float | None = None


ARMS = {
    "base": Arm(augments=False),
    "cfdg": Arm(),
    "cfdg-unguided": Arm(guidance_weight=0.0),
    "cfdg-online-only": Arm(online_share=1.0),  # the ablation of figure 3
}


@dataclass
class Refitted:
    """A generator for the loop: the diffusion model with the profile's training at every refresh.

    Attributes:
        model: learns and samples.
        first_steps: gradient steps of the first fit and of every fit from scratch.
        steps: gradient steps of a warm-started fit.
        warm_start: continue from the weights of the previous refresh.
        fits: refreshes so far.
    """

    model: ConditionalDiffusion
    first_steps: int
    steps: int
    warm_start: bool
    fits: int = 0

    def fit(self, rows: Tensor, labels: Tensor) -> FitReport:
        """Train on the union of offline and online rows ``(R, N, D)`` with labels ``(R, N)``."""
        warm = self.warm_start and self.fits > 0
        if not warm and self.fits:
            self.model.reset()
        self.fits += 1
        return self.model.fit(rows, labels, steps=self.steps if warm else self.first_steps)

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` per label ``(R, n)``."""
        return self.model.sample(labels)


def make_model(
    arm: Arm, settings: DiffusionSettings, dims: tuple[int, int], seeds: tuple[int, ...], device: str
) -> ConditionalDiffusion:
    """Make the labelled diffusion model of transition rows, its last column (terminal) un-normalised.

    Args:
        arm: may change the settings.
        settings: of the model.
        dims: sizes S and A of observations and actions.
        seeds: one replica each.
        device: of the weights.
    """
    if arm.guidance_weight is not None:
        settings = replace(settings, guidance_weight=arm.guidance_weight)
    columns = row_width(*dims)
    return ConditionalDiffusion(columns, 2, seeds=seeds, settings=settings, raw_columns=(columns - 1,), device=device)
