"""Random streams, one per replica: a seed draws the same numbers whatever other seeds run beside it."""

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
        purpose: use of the draws; streams of one seed with different purposes are independent.
        device: where the numbers are drawn and live.

    Raises:
        ValueError: if ``seeds`` is empty or holds a negative number.

    Attributes:
        generators: one per replica.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: str | torch.device = "cpu") -> None:
        if not seeds or min(seeds) < 0:
            raise ValueError(f"seeds are {list(seeds)}, expected one non-negative integer per replica")
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(_derive(seed, purpose)) for seed in seeds]

    def __len__(self) -> int:
        """Count the replicas R."""
        return len(self.generators)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers ``(R, *shape)``."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers in [0, 1), shape ``(R, *shape)``."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self.generators])

    def state(self) -> Tensor:
        """Copy the state of every stream, ``(R, n)`` bytes on the CPU."""
        return torch.stack([generator.get_state() for generator in self.generators])

    def restore(self, state: Tensor) -> None:
        """Continue exactly where :meth:`state` was taken; streams of another kind of device stay at their beginning."""
        if state.shape != self.state().shape:
            return
        for generator, row in zip(self.generators, state, strict=True):
            generator.set_state(row.cpu().clone())  # set_state crashes on a view into a larger tensor (torch 2.13)


def _derive(seed: int, purpose: str) -> int:
    """Derive a 63-bit seed, well mixed so that seeds 0, 1, 2 are unrelated and purposes do not share numbers."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])
