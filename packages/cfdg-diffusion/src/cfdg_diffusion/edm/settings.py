"""Settings of the diffusion model, and the check of their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Sampler = Literal["dpm", "heun", "heun-stochastic"]
Precision = Literal["auto", "fp32", "bf16"]


_WIDEST = 1 << 16  # units of a layer; a larger one is a typing error that no memory holds


@dataclass(frozen=True)
class DiffusionSettings:
    """Settings of the model, its training and its sampling; each default says where it comes from.

    "Measured" is the one-step dynamics error of generated MuJoCo Hopper transitions (27 columns, 180,000 rows) after
    about a minute of training on one core.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    width: int = 256  # measured: 512 was no better for its time; SynthER's 1024 is for a GPU
    blocks: int = 3  # of two linear maps each; measured against 4 of one
    block_norm: bool = False  # a norm in each block; measured: worse for transitions, better for dependent categories
    batch_size: int = 256  # SynthER and EDIS; measured: 512 was no better for its time
    steps: int = 10_000  # about a minute on one core
    learning_rate: float = 3e-3  # measured against 1e-3 and 6e-3
    gradient_clip: float = 1.0  # largest gradient norm of a replica; SynthER
    ema_decay: float = 0.99  # per ten steps; half the memory of SynthER's 0.995, whose fits are ten times as long
    gaussian_rows: int = 0  # fits of fewer rows begin from a Gaussian of each label, see LabelGaussians
    fourier_octaves: int = 0  # of each number's sines and cosines beside it; measured: they sharpen narrow densities
    p_uncond: float = 0.25  # the only precedents for transitions, PGR and GTA; not in the CFDG paper
    guidance_weight: float = 0.2  # w of equation 7; of 0 to 1 the largest that stays true to each class, measured
    p_mean: float = -1.2  # EDM table 1
    p_std: float = 1.2  # EDM table 1
    sigma_min: float = 0.002  # EDM table 1
    sigma_max: float = 80.0  # EDM table 1
    rho: float = 7.0  # EDM table 1
    sigma_leap: float = 0.0  # noise level that the first sampler step ends at, see leap_sigmas; 0 leaves it to rho
    sampler: Sampler = "dpm"  # DPM-Solver++(2M), the fewest network calls
    sampling_steps: int = 20  # network calls of "dpm"; "heun" needs 2 n - 1, "heun-stochastic" rather more steps
    precision: Precision = "auto"  # bf16 where the hardware multiplies it natively
    chunk_rows: int = 2048  # rows per replica that are denoised together

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "batch_size", "steps", "sampling_steps", "chunk_rows"):
            self._require(name, _is_integer(getattr(self, name), least=1), "an integer >= 1")
        self._require("width", self.width <= _WIDEST, f"at most {_WIDEST}")
        for name in ("fourier_octaves", "gaussian_rows"):
            self._require(name, _is_integer(getattr(self, name), least=0), "an integer >= 0")
        for name in ("learning_rate", "gradient_clip", "p_std", "sigma_min", "sigma_max", "rho"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a number > 0")
        for name in ("guidance_weight", "p_mean"):
            self._require(name, math.isfinite(getattr(self, name)), "a finite number")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "a number in [0, 1)")
        self._require("p_uncond", 0 <= self.p_uncond <= 1, "a probability in [0, 1]")
        self._check_levels()
        for name, choices in (("sampler", get_args(Sampler)), ("precision", get_args(Precision))):
            self._require(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")

    def _check_levels(self) -> None:
        self._require("sigma_min", self.sigma_min < self.sigma_max, f"less than sigma_max = {self.sigma_max}")
        between = self.sigma_leap == 0 or self.sigma_min < self.sigma_leap < self.sigma_max
        self._require("sigma_leap", between, "0 or a noise level between sigma_min and sigma_max")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and value >= least
