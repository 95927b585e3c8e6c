"""Random streams, one per replica: the numbers of a seed do not depend on the other seeds."""

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

    Raises:
        ValueError: if there is no seed.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: str | torch.device = "cpu") -> None:
        if not seeds:
            raise ValueError("seeds is empty, expected at least one seed")
        self.device = torch.device(device)
        self.generators = [torch.Generator(device=self.device) for _ in seeds]
        self.begin(seeds, purpose)

    def __len__(self) -> int:
        """Return the number of replicas R."""
        return len(self.generators)

    def begin(self, seeds: Sequence[int], purpose: str) -> None:
        """Restart every stream for a purpose."""
        for generator, seed in zip(self.generators, seeds, strict=True):
            generator.manual_seed(derive_seed(seed, purpose))

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normals ``(R, *shape)``."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers in [0, 1), ``(R, *shape)``."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self.generators])

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw uniform integers in [0, high), ``(R, *shape)``."""
        return torch.stack([torch.randint(high, shape, generator=g, device=self.device) for g in self.generators])

    def state(self) -> Tensor:
        """Return the state of every stream ``(R, n)`` uint8, for a checkpoint."""
        return torch.stack([g.get_state() for g in self.generators])

    def restore(self, state: Tensor) -> None:
        """Restore what :meth:`state` returned; streams of another kind of device stay at their beginning.

        The kinds draw different numbers and have states of different lengths, so that nothing can be continued.
        """
        if state.shape != self.state().shape:
            return
        for generator, row in zip(self.generators, state, strict=True):
            generator.set_state(row.cpu().clone())  # its own storage, as set_state wants


def derive_seed(seed: int, purpose: str) -> int:
    """Hash a user's seed and a purpose into a 63-bit seed, so that seeds 0, 1, 2 are unrelated."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])
