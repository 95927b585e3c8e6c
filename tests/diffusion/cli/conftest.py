"""A command line whose models are tiny, for tests of files and not of models."""

import contextlib
import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cfdg_diffusion import cli
from cfdg_diffusion.tabular import settings


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """Run a command: its status, what it wrote to standard output and to standard error; ``tool.folder()`` is empty."""
    tiny = replace(settings.TABLE_DIFFUSION, width=8, blocks=1, sampling_steps=2, gaussian_rows=0)

    def run(*arguments, status=0):
        found = SimpleNamespace(out=io.TextIOWrapper(io.BytesIO(), "utf-8", newline=""), err=io.StringIO())
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(found.err):
            patch.setattr(settings, "TABLE_DIFFUSION", tiny)
            patch.setattr(sys, "stdout", found.out)
            ended = cli.main([str(part) for part in arguments])
            found.out.flush()
        told = found.err.getvalue()
        assert ended == status, (arguments, told)
        if status == 2:
            assert told.startswith("cfdg-diffusion: ")
            assert told.count("\n") == 1, told
        return SimpleNamespace(status=ended, out=found.out.buffer.getvalue().decode(), err=told)

    def fit(table, model, *options):
        return run("fit", table, "-o", model, "--steps", "1", "--device", "cpu", "--force", "--quiet", *options)

    return SimpleNamespace(run=run, fit=fit, folder=lambda: tmp_path_factory.mktemp("tool"))
