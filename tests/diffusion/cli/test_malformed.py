"""Damaged and exchanged files of the command line, and one file for two purposes."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import TabularDiffusion, storage
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.quality import report


@pytest.fixture(scope="module")
def folder(tool):
    folder = tool.folder()
    days = pd.date_range("2024-01-01", periods=30).strftime("%d.%m.%Y")
    pd.DataFrame({"a": range(30), "day": days}).to_csv(folder / "t.csv", index=False)
    pd.DataFrame({"b": range(30)}).to_csv(folder / "u.csv", index=False)
    tool.fit(folder / "t.csv", folder / "m", "--kinds", "day=datetime:%d.%m.%Y")
    tool.fit(folder / "u.csv", folder / "n")
    return folder


def test_a_flipped_bit_of_the_format_is_refused_by_name_or_changes_nothing(tool, folder, check_flips):
    place = tool.folder() / "m"
    shutil.copytree(folder / "m", place)
    files = ModelFiles.of(place)
    assert files._load_format().dates
    check_flips(files.format, files._load_format, str(files.format), slice(3, None, 37))


def test_the_format_of_another_model_is_refused(tool, folder):
    place = tool.folder() / "n"
    shutil.copytree(folder / "n", place)
    shutil.copyfile(folder / "m" / "format.json", place / "format.json")
    told = tool.run("sample", place, "-n", "3", status=2).err
    assert "format.json is of another model: it has 'day'" in told


def test_a_format_of_before_the_checksums_is_read(tool, folder):
    place = tool.folder() / "m"
    shutil.copytree(folder / "m", place)
    files = ModelFiles.of(place)
    content = json.loads(files.format.read_text())
    expected = files._load_format()
    del content["sha256"]
    files.format.write_text(json.dumps(content))
    assert files._load_format() == expected


@pytest.mark.parametrize("command", ["fit", "inspect"])
def test_a_nul_byte_far_behind_the_beginning_is_named_with_its_line(tool, command):
    path = tool.folder() / "t.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 20_000 + b"1,\x00\n")
    words = ["--dry-run"] if command == "fit" else []
    assert "t.csv holds a NUL byte in line 20,002" in tool.run(command, path, *words, status=2).err


@pytest.mark.parametrize("option", ["--history", "--checkpoint", "-o"])
def test_a_table_is_never_replaced_by_what_is_made_of_it(tool, folder, option):
    before = (folder / "t.csv").read_bytes()
    words = ["-o", folder / "new", option, folder / "t.csv"]
    assert "t.csv" in tool.run("fit", folder / "t.csv", *words, status=2).err
    assert (folder / "t.csv").read_bytes() == before


def test_two_fits_with_one_checkpoint_are_refused_by_name(tmp_path):
    table = pd.DataFrame({"a": range(30)})
    held = storage.locked(tmp_path / "half", "the fit with checkpoint")
    with held, pytest.raises(RuntimeError, match="half is being run by process"):
        TabularDiffusion(device="cpu").fit(table, steps=1, checkpoint=tmp_path / "half")
    assert not list(tmp_path.iterdir())
    TabularDiffusion(device="cpu").fit(table, steps=1, checkpoint=tmp_path / "half")
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_in_the_rows_of_a_generated_parquet_file_is_refused(tool, folder):
    pytest.importorskip("pyarrow")
    path = tool.folder() / "s.parquet"
    tool.run("sample", folder / "m", "-n", "50", "-o", path, "--quiet")
    spoilt = bytearray(path.read_bytes())
    spoilt[60] ^= 4  # of the first page
    path.write_bytes(spoilt)
    assert "s.parquet" in tool.run("inspect", path, status=2).err


@pytest.mark.parametrize(("size", "name"), [(100, "format.json"), (2000, "model.safetensors")])
def test_a_full_disk_keeps_the_earlier_model_or_leaves_none(tool, folder, small_files, size, name):
    place = tool.folder()
    shutil.copytree(folder / "m", place / "m")
    before = {path.name: path.read_bytes() for path in (place / "m").iterdir()}
    for model in ("m", "new"):
        words = ["fit", folder / "u.csv", "-o", place / model, "--steps", "1", "--force", "--quiet"]
        with small_files(size):
            assert name in tool.run(*words, status=2).err
    assert {path.name: path.read_bytes() for path in (place / "m").iterdir()} == before
    assert not (place / "new").exists()


def test_a_report_on_more_columns_than_can_be_compared_is_refused_at_once():
    wide = pd.DataFrame(np.zeros((10, 1001)))
    with pytest.raises(ValueError, match="real_train has 1,001 columns, expected at most 1,000"):
        report(wide, wide)
