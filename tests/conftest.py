"""Fixtures of all packages, and the same examples of property tests in every run.

CFDG_EXAMPLES=N draws N fresh examples, to search for faults.
"""

import os
import shlex
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
def check_wrong_word(tmp_path, monkeypatch, capsys):
    """``check_wrong_word(main, line)``: status 2 and one sentence, which is returned, and no file made or removed."""

    def check(main, line):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
        before = sorted(tmp_path.iterdir())
        try:
            status = main(shlex.split(line))
        except SystemExit as end:
            status = end.code
        told = capsys.readouterr().err
        assert status == 2
        assert told.strip().count("\n") == 0
        assert sorted(tmp_path.iterdir()) == before
        return told

    return check


@pytest.fixture
def check_flips():
    """``check_flips(path, read, name, bits)``: each bit that is flipped is refused by name or changes nothing.

    ``read`` reads the file at ``path``; ``bits`` is a slice of all bits. Returns how many were refused.
    """

    def check(path, read, name, bits):
        whole = path.read_bytes()
        expected = read()
        refused = 0
        for bit in range(8 * len(whole))[bits]:
            spoilt = bytearray(whole)
            spoilt[bit // 8] ^= 1 << bit % 8
            path.write_bytes(spoilt)
            told = ""
            found = None
            try:
                found = read()
            except ValueError as error:
                told = str(error)
                refused += 1
            assert name in told if told else found == expected, bit
        return refused

    return check


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
