"""Property tests draw the same examples in every run; CFDG_EXAMPLES=N draws N fresh ones, to search for faults."""

import os
import signal
from contextlib import contextmanager

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize="CFDG_EXAMPLES" not in os.environ)
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
