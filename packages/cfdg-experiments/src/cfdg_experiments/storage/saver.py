"""Throttles of work that is due at most once in some seconds, such as progress events and checkpoints."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cfdg_experiments.storage.named_checkpoints import save_named
from cfdg_experiments.storage.object_store import StoreError

# A kill loses about this much work, more where a checkpoint takes long; a machine that may vanish wants less.
SAVE_SECONDS = float(os.environ.get("CFDG_CHECKPOINT_SECONDS", "60"))
NOTIFY_SECONDS = 1.0  # between progress events
SHARE = 20  # a checkpoint that takes t seconds is followed by 20 t seconds of work: it costs 5 % of the time at most

logger = logging.getLogger(__name__)


class StoppedError(RuntimeError):
    """Work that was asked to end has written its checkpoint, and ends."""

    status = 128 + 15  # what shells and clusters know as an end by SIGTERM


class Throttle:
    """A limit on how often something is done: ready at most once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last = time.perf_counter()

    def ready(self) -> bool:
        """Tell if ``seconds`` have passed since the start or the last time that this was true."""
        now = time.perf_counter()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class Saver:
    """Writer of checkpoints, every so many seconds or, where that is longer, :data:`SHARE` times as long as one took.

    A checkpoint that cannot be written, say on a full disk, is told once; the earlier one stays and work goes on.

    Args:
        path: of the file.
        seconds: shortest time between two checkpoints.
        stops: tells if the work is to end with a checkpoint now.
    """

    def __init__(self, path: Path, seconds: float, stops: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self.seconds = seconds
        self.stops = stops
        self.took = 0.0
        self.ended = time.perf_counter()
        self.problem = False

    def due(self) -> bool:
        """Tell if a checkpoint should be written now."""
        return self.stops() or time.perf_counter() - self.ended >= max(self.seconds, SHARE * self.took)

    def save(self, state: Callable[[], Mapping[str, Any]], then: Callable[[], None] = lambda: None) -> None:
        """Write what ``state`` returns, call ``then`` once that is done, and note how long all took.

        Raises:
            StoppedError: if the work is to end.
        """
        began = time.perf_counter()
        try:
            save_named(self.path, state())
            then()
        except (OSError, StoreError) as error:
            if not self.problem:
                reason = error.strerror if isinstance(error, OSError) else error
                logger.warning("checkpoint %s cannot be written (%s); the run goes on", self.path, reason)
            self.problem = True
        else:
            self.problem = False
        self.ended = time.perf_counter()
        self.took = self.ended - began
        self.check()

    def check(self) -> None:
        """End the work if it is to end.

        Raises:
            StoppedError: after the last checkpoint.
        """
        if self.stops():
            raise StoppedError("stopped by SIGTERM; the same command goes on from the last checkpoint")
