"""One random stream per replica: a seed draws the same numbers whatever other seeds run beside it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Streams:
    """R independent ``torch.Generator`` objects behind draws of shape ``(R, ...)``.

    Args:
        seeds: one non-negative integer per replica.
        purpose: what the draws are for; streams of one seed with different purposes are independent.
        device: where the numbers are drawn and live.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: str | torch.device = "cpu") -> None:
        if not seeds:
            raise ValueError("seeds is empty, expected at least one seed")
        self.device = torch.device(device)
        self.generators = [torch.Generator(device=self.device) for _ in seeds]
        self.begin(seeds, purpose)

    def __len__(self) -> int:
        """Number of replicas R."""
        return len(self.generators)

    def begin(self, seeds: Sequence[int], purpose: str) -> None:
        """Start anew, for this purpose."""
        for generator, seed in zip(self.generators, seeds, strict=True):
            generator.manual_seed(derive_seed(seed, purpose))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws ``(R, *shape)``."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Uniform draws in [0, 1) of shape ``(R, *shape)``."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self.generators])

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high) of shape ``(R, *shape)``."""
        return torch.stack([torch.randint(high, shape, generator=g, device=self.device) for g in self.generators])

    def state(self) -> Tensor:
        """The state of every stream ``(R, n)``, for a checkpoint."""
        return torch.stack([g.get_state() for g in self.generators])

    def restore(self, state: Tensor) -> None:
        """Continue exactly where :meth:`state` was taken."""
        for generator, row in zip(self.generators, state, strict=True):
            generator.set_state(row.cpu().clone())  # its own storage, as set_state wants


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed from a user's seed and a purpose, well mixed so that seeds 0, 1, 2 are unrelated."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])
