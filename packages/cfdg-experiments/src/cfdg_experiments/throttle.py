"""Throttle: work that is due at most once in some seconds, such as progress events and checkpoints."""

from __future__ import annotations

import time


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
