"""Worker processes, and their end when a cell fails."""

import multiprocessing

import pytest

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_experiments.studies.workers import run_grid


def test_a_cell_that_fails_ends_the_others_at_once_and_leaves_no_file(tmp_path, monkeypatch):
    """One worker trains for ever; the other has no data."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))  # of the processes that are started
    profile = load_profile("quick", {"seeds": [0], "device": "cpu", "data.rows": 10_000, "pretrain.steps": 10**9})
    names = ("recorded:hopper-medium", f"hdf5:{tmp_path / 'none.hdf5'}@Hopper-v5")
    cells = [Cell(name, "iql", "base", profile_for(profile, name, "iql")) for name in names]
    with pytest.raises(FileNotFoundError, match=r"none\.hdf5 does not exist"):
        run_grid(cells, Workspace(tmp_path / "runs", tmp_path / "cache"), 2, lambda event: None, lambda *_: None)
    assert not multiprocessing.active_children()
    assert not list((tmp_path / "temporary").iterdir())
