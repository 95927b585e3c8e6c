"""Interface of an arm's generator: that of the loop, and a state for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cfdg_rl.protocols import Generator

State = Mapping[str, Any]  # a nested mapping of tensors and plain values, as cfdg_rl.checkpoint writes it


class ResumableGenerator(Generator, Protocol):
    """A generator that a checkpoint can hold.

    A checkpoint is written between refreshes, and each refresh fits before it samples: the rows of the latest fit are
    no part of the state, so that ``fit`` comes first after ``restore``.
    """

    def network_calls(self, rows: int) -> float:
        """Count the rows that go through a network to sample so many; NaN where that is not known."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that a later fit depends on, as tensors and plain values by name."""
        ...

    def restore(self, state: State) -> None:
        """Continue bit for bit where :meth:`state` was taken, with a generator of the same arguments."""
        ...
