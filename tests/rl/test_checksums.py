"""Recordings under their names: another one in the place of one, a flipped bit, a full disk, two at once."""

import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest

from cfdg_rl.datasets.checksums import read_checked, write_hdf5
from cfdg_rl.datasets.recorded import recording
from cfdg_rl.datasets.recorded.recording import Recording, ensure_recorded, plan_recording, read_recording

HOPPER = Recording("hopper", "medium", 4, 0)
FACTS = {"seed": 0, "level": "medium"}


def columns():
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(4, 3)).astype(np.float32),
        "rewards": np.arange(4.0, dtype=np.float32),
        "terminals": np.array([False, False, True, False]),
        "infos/qpos": rng.normal(size=(4, 2)),
    }


def content(path):
    with h5py.File(path) as file:
        values = [file[name][()].tobytes() for name in columns()]
        return values, {key: str(value) for key, value in file.attrs.items() if key != "metadata/sha256"}


def test_a_flipped_bit_is_refused_by_name_or_changes_nothing(tmp_path, check_flips):
    path = tmp_path / "x.hdf5"
    write_hdf5(path, columns(), FACTS)

    def read():
        read_checked(path, FACTS, 4)
        return content(path)

    assert check_flips(path, read, str(path), slice(5, None, 997)) > 10


@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_a_cut_is_refused_by_name(tmp_path, size):
    write_hdf5(tmp_path / "x.hdf5", columns(), FACTS)
    (tmp_path / "x.hdf5").write_bytes((tmp_path / "x.hdf5").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"x\.hdf5 is not a complete HDF5 file"):
        read_checked(tmp_path / "x.hdf5", FACTS, 4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 1}, "has seed 0, expected 1"),
        ({"rows": 5}, "has rows 4, expected 5"),
        ({"level": "random"}, "has level medium, expected random"),
        ({"family": "walker2d"}, "has environment Hopper-v5, expected Walker2d-v5"),
    ],
)
def test_another_recording_under_a_name_is_refused(tmp_path, monkeypatch, changed, words):
    monkeypatch.setattr(recording, "_columns", lambda *_: columns())
    path = ensure_recorded(HOPPER, tmp_path)
    read_recording(path, HOPPER)
    wanted = replace(HOPPER, **changed)
    path.rename(tmp_path / wanted.file_name)
    with pytest.raises(ValueError, match=words):
        read_recording(ensure_recorded(wanted, tmp_path), wanted)


def test_a_file_without_a_checksum_is_compared_by_its_metadata(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", columns(), FACTS)
    with h5py.File(tmp_path / "x.hdf5", "r+") as file:
        del file.attrs["metadata/sha256"]
    read_checked(tmp_path / "x.hdf5", FACTS, 4)
    with pytest.raises(ValueError, match="has level medium, expected random"):
        read_checked(tmp_path / "x.hdf5", FACTS | {"level": "random"}, 4)


def test_a_full_disk_leaves_the_old_file_and_is_told_with_its_name(tmp_path, small_files):
    path = tmp_path / "x.hdf5"
    write_hdf5(path, columns(), FACTS)
    before = path.read_bytes()
    with small_files(1000), pytest.raises(OSError, match=r"x\.hdf5"):
        write_hdf5(path, columns(), {"seed": 9})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["x.hdf5"]


def test_two_that_record_the_same_do_the_work_once(tmp_path, monkeypatch):
    begun = []
    second = threading.Thread(target=ensure_recorded, args=(HOPPER, tmp_path))

    def slow(*_):
        begun.append(1)
        second.start()
        second.join(0.2)
        assert second.is_alive(), "it waits"
        return columns()

    monkeypatch.setattr(recording, "_columns", slow)
    ensure_recorded(HOPPER, tmp_path)
    second.join()
    assert begun == [1]
    assert [path.name for path in tmp_path.iterdir()] == [HOPPER.file_name]


@pytest.mark.parametrize("name", ["hopper-medium", "pointmaze-umaze", "walker2d-medium-replay"])
def test_rows_without_an_end_are_refused_before_the_work(name):
    with pytest.raises(ValueError, match=r"rows is 99999999999999 for .*, expected at most"):
        plan_recording(name, 99_999_999_999_999, 0)
