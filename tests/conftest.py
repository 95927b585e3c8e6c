"""Fixtures of all packages, and the same examples of property tests in every run.

CFDG_EXAMPLES=N draws N fresh examples, to search for faults.
"""

import os
import signal
import warnings
from contextlib import contextmanager

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize="CFDG_EXAMPLES" not in os.environ, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def small_files():
    """``with small_files(n):`` no file can grow beyond n bytes, as on a full disk: writing fails with EFBIG."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)

    return limited


@pytest.fixture
def no_waiting():
    """``with no_waiting():`` an operation that waits for the GPU is an error."""
    import torch

    @contextmanager
    def watched():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return watched
