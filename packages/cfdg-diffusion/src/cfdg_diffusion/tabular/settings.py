"""What can be chosen about a table model, with where each default comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from cfdg_diffusion.edm.settings import DiffusionSettings
from cfdg_diffusion.tabular.columns import CodecSettings

TABLE_DIFFUSION = DiffusionSettings(
    width=192,
    blocks=2,
    block_norm=True,
    gaussian_rows=500,  # measured: of 900 it only drew generated rows nearer to training rows
    batch_size=512,
    steps=15_000,  # three minutes on one core
    p_mean=-0.6,  # categories are decided at higher noise levels than numbers
    p_std=1.4,
    sigma_min=0.02,  # below it nothing is left to decide
    rho=10.0,  # more of the few network calls where it is decided
    sigma_leap=10.0,  # measured: as good in 13 calls as without it in 16
    sampling_steps=13,
    guidance_weight=0.0,
)
"""The default for tables, measured by benchmarks/sampling.py and benchmarks/tabular.py."""


@dataclass(frozen=True)
class TabularSettings:
    """How a table becomes rows, and how they are learnt.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    diffusion: DiffusionSettings = field(default_factory=lambda: TABLE_DIFFUSION)
    codec: CodecSettings = field(default_factory=CodecSettings)
    held_out_share: float = 0.02  # of the rows, more of a few, for the loss that stops the training
    patience: int = 20  # looks at that loss, of some sixty in all, without a better one, before it ends a training

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share is {self.held_out_share}, expected a share in [0, 1)")
        if self.patience < 1:
            raise ValueError(f"patience is {self.patience}, expected at least 1")
