"""Trees that come back as they were; files that appear whole, under which permissions, what an error leaves."""

import math
import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from cfdg_diffusion import storage
from cfdg_diffusion.cli.table_files import write_text, written
from cfdg_diffusion.quality import report
from cfdg_diffusion.storage import atomic_write, leaves, nested
from cfdg_diffusion.tabular.early_stopping import Checkpoint, CheckpointFile

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def table_to(path):
    with written(path) as write:
        write(pd.DataFrame({"a": [1, 2]}))


WRITERS = {
    "model": lambda path: storage.save(path, {"weight": torch.zeros(3)}),
    "table": table_to,
    "text": lambda path: write_text(path, "{}"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_new_file_may_be_read_by_whom_the_umask_allows(tmp_path, umask, writer):
    WRITERS[writer](tmp_path / "new.csv")
    assert mode(tmp_path / "new.csv") == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.parametrize("own", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, writer, own):
    path = tmp_path / "old.csv"
    path.write_text("old")
    path.chmod(own)
    WRITERS[writer](path)
    assert path.read_bytes() != b"old"
    assert mode(path) == own


def test_the_page_of_a_report_has_them_too(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "plain").write_text("as open() makes it")
    table = pd.DataFrame({"a": range(12), "b": list("ab" * 6)})
    found = report(table, table)
    found.to_html(tmp_path / "report.html")
    assert mode(tmp_path / "report.html") == mode(tmp_path / "plain")
    (tmp_path / "report.html").chmod(0o640)
    found.to_html(tmp_path / "report.html")
    assert mode(tmp_path / "report.html") == 0o640


def test_what_replaces_a_private_file_is_private_while_it_is_written(tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_write(path) as partial:
        assert mode(partial) == 0o600
        partial.write_text("new")
    assert path.read_text() == "new"


def test_what_a_killed_process_left_has_no_say(tmp_path):
    path = tmp_path / "new.csv"
    left = path.with_name(f".{path.name}.{os.getpid()}.partial")
    left.write_text("left")
    left.chmod(0o400)
    with atomic_write(path) as partial:
        assert partial.read_text() == ""
    (tmp_path / "plain").write_text("as open() makes it")
    assert mode(path) == mode(tmp_path / "plain")


def test_an_exception_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("old")

    def interrupted():
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["old.csv"]


TREE = {
    "kind": "test",
    "sizes": [1, 2.5, None, True, "text", -math.inf, 2**70],
    "weights": {"first": torch.arange(6.0).view(2, 3).T, "step": torch.tensor(7), "empty": torch.zeros(0, 3)},
    "arrays": [{"edges": np.array([1.5, 2.5])}, np.array([[True], [False]])],
    "nothing": {},
}


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor | np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert bool((found == expected).all())
    else:
        assert found == expected


def test_a_tree_comes_back_as_it_was(tmp_path):
    storage.save(tmp_path / "folder" / "tree", TREE)
    assert_same(storage.load(tmp_path / "folder" / "tree"), TREE)


def test_a_header_that_names_no_tensor_of_the_file_is_refused(tmp_path):
    metadata = {"format": "cfdg-diffusion", "version": "2", "tree": '{"a": {"tensor": "b"}}'}
    save_file({"a": torch.zeros(1)}, tmp_path / "tree", metadata=metadata)
    with pytest.raises(ValueError, match="tree has a header that cannot be read: KeyError"):
        storage.load(tmp_path / "tree")


def test_dotted_names_and_nested_trees_are_the_same():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert leaves(tree) == {"a.b": 1, "a.c.d": 2, "e": 3}
    assert nested(leaves(tree)) == nested(tree) == tree


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    path = tmp_path / "tree"
    storage.save(path, {"weights": torch.arange(20.0), "names": ["a", "b"], "mean": np.ones(3)})
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tree (is|has) "):
            storage.load(path)


def test_a_file_of_before_the_checksums_is_read(tmp_path):
    header = {"format": "cfdg-diffusion", "version": "2", "tree": '{"a": {"tensor": "a"}}'}
    save_file({"a": torch.ones(2)}, tmp_path / "old", metadata=header)
    assert torch.equal(storage.load(tmp_path / "old")["a"], torch.ones(2))


def test_a_full_disk_keeps_the_old_model_and_names_the_file(tmp_path, small_files):
    path = tmp_path / "model"
    storage.save(path, {"a": torch.zeros(3)})
    with small_files(2000), pytest.raises(OSError, match=r"File too large: '.*/model'"):
        storage.save(path, {"a": torch.zeros(3000)})
    assert storage.load(path)["a"].shape == (3,)
    assert [found.name for found in tmp_path.iterdir()] == ["model"]


def test_partial_files_of_ended_processes_are_removed_with_the_next_one(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (
        f".s.csv.{ended.pid}.partial",
        f".s.csv.00000000-{ended.pid}.partial",
        f".s.csv.{os.getppid()}.partial",
    ):
        (tmp_path / name).write_text("half")
    table_to(tmp_path / "s.csv")
    names = sorted(found.name for found in tmp_path.iterdir())
    kept = [f".s.csv.00000000-{ended.pid}.partial", f".s.csv.{os.getppid()}.partial", "s.csv"]
    assert names == sorted(kept), "that of another machine and that of a living process stay"


def test_a_fit_goes_on_without_its_checkpoint_when_the_disk_is_full(tmp_path, small_files):
    checkpoint = Checkpoint(CheckpointFile(tmp_path / "half", 0.0), {"seed": 0})
    checkpoint.write({"a": torch.zeros(1)})
    told = pytest.warns(RuntimeWarning, match=r"half cannot be written \(File too large\); the fit goes on")
    with small_files(1000), told:
        checkpoint.write({"a": torch.zeros(9999)})
        checkpoint.write({"a": torch.zeros(9999)})  # told once
    assert storage.load(tmp_path / "half")["a"].shape == (1,)
