"""Settings of a table model, with the source of each default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cfdg_diffusion.edm.settings import DiffusionSettings
from cfdg_diffusion.tabular.columns import CodecSettings

TABLE_DIFFUSION = DiffusionSettings(
    width=192,
    blocks=2,
    block_norm=True,
    gaussian_rows=500,  # measured: with 900 rows it only drew generated rows nearer to training rows
    batch_size=512,
    steps=15_000,  # three minutes on one core
    p_mean=-0.6,  # categories are decided at higher noise levels than numbers
    p_std=1.4,
    sigma_min=0.02,  # nothing is left to decide below it
    rho=10.0,  # puts more of the few network calls where cells are decided
    sigma_leap=10.0,  # measured: 13 calls with it are as good as 16 without
    sampling_steps=13,
    guidance_weight=0.0,
)
"""The default for tables, measured by benchmarks/sampling.py and benchmarks/tabular.py."""


@dataclass(frozen=True)
class TabularSettings:
    """Settings of a table model: its diffusion, its codec and its early stopping.

    Attributes:
        diffusion: network, training and sampler.
        codec: how columns become dimensions.
        held_out_share: share of the rows, in [0, 1), that only judge when to stop; a small table holds out more.
        patience: evaluations (about 60 per fit) without improvement before training stops, at least 1.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    diffusion: DiffusionSettings = field(default_factory=lambda: TABLE_DIFFUSION)
    codec: CodecSettings = field(default_factory=CodecSettings)
    held_out_share: float = 0.02
    patience: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share is {self.held_out_share}, expected a share in [0, 1)")
        if self.patience < 1:
            raise ValueError(f"patience is {self.patience}, expected at least 1")

    @classmethod
    def restore(cls, tree: Mapping[str, Any]) -> TabularSettings:
        """Build settings from their nested dict; a key that is absent in an older file takes its default.

        Raises:
            KeyError: if a group of settings is absent.
            TypeError: if a key is unknown.
            ValueError: if a value is out of its range.
        """
        own = dict(tree)
        diffusion = DiffusionSettings(**own.pop("diffusion"))
        codec = CodecSettings(**own.pop("codec"))
        return cls(diffusion=diffusion, codec=codec, **own)
