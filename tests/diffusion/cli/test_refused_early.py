"""Words that no model or table can have, refused before the work and with nothing written."""

from pathlib import Path

import pandas as pd
import pytest

from cfdg_diffusion import DiffusionSettings, TabularDiffusion


@pytest.fixture(scope="module")
def folder(tool):
    folder = tool.folder()
    pd.DataFrame({"x": range(40), "y": ["a", "b"] * 20}).to_csv(folder / "t.csv", index=False)
    pd.DataFrame({"z": range(40)}).to_csv(folder / "u.csv", index=False)
    tool.fit(folder / "t.csv", folder / "m", "--label", "y")
    tool.fit(folder / "u.csv", folder / "n")
    return folder


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("fit t.csv -o m2 --label y,y", "--label names column 'y' twice"),
        ("fit t.csv -o m2 --label y --label y", "--label names column 'y' twice"),
        ("sample m -n 3 --guidance a=1,a=2", "--guidance is 'a=1,a=2', expected every label once"),
        ("sample m -n 3 --device meta", "device is 'meta'"),
        ("sample n -n 3 --balance", "--balance makes as many rows of every label"),
        ("report t.csv t.csv --seed -1", "seed is -1"),
        ("report t.csv u.csv", "u.csv lacks the column 'x' of "),
    ],
)
def test_words_that_contradict_are_one_sentence(tool, folder, words, named):
    before = sorted(folder.rglob("*"))
    line = [folder / word if (folder / word).exists() or word == "m2" else word for word in words.split()]
    assert named in tool.run(*line, status=2).err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that permissions do not tell of is Linux's")
@pytest.mark.parametrize("words", ["-o /proc/m", "-o m2 --history /proc/h.csv", "-o m2 --checkpoint /proc/c"])
def test_a_folder_that_takes_no_files_is_refused_before_the_training(tool, folder, monkeypatch, words):
    monkeypatch.setattr(TabularDiffusion, "fit", None)
    told = tool.run(
        "fit", folder / "t.csv", *[str(folder / word) if word == "m2" else word for word in words.split()], status=2
    )
    assert "the folder /proc cannot be written to" in told.err


def test_a_width_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match="width is 100000000000, expected at most 65536"):
        DiffusionSettings(width=100_000_000_000)
