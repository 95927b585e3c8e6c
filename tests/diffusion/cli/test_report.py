"""The report takes the words that fit took, and names files and options where tables do not go together."""

import json

import pandas as pd
import pytest

pytest.importorskip("sklearn")

ROWS = 60


@pytest.fixture(scope="module")
def folder(tool):
    """Real rows with an identifier, in two forms of CSV, and rows without it and with a column of their own."""
    folder = tool.folder()
    rows = pd.DataFrame({"id": [f"C-{row:03}" for row in range(ROWS)], "x": range(ROWS), "y": ["p", "q", "r"] * 20})
    rows.to_csv(folder / "train.csv", index=False)
    rows.drop(columns="id").to_csv(folder / "synth.csv", index=False)
    rows.assign(note="a").to_csv(folder / "more.csv", index=False)
    rows.rename(columns={"id": "the id, once"}).to_csv(folder / "comma.csv", index=False)
    return folder


def test_a_lacking_column_is_told_with_the_files_and_the_remedy(tool, folder):
    train, synth, more = (folder / name for name in ("train.csv", "synth.csv", "more.csv"))
    told = tool.run("report", train, synth, status=2).err
    assert f"{synth} lacks the column 'id' of {train}, expected the same columns (or --drop id)" in told
    told = tool.run("report", train, train, "--holdout", synth, status=2).err
    assert f"{synth} lacks the column 'id' of {train}" in told
    told = tool.run("report", train, more, status=2).err
    assert f"{more} has the column 'note', which {train} lacks, expected the same columns (or --drop note)" in told
    told = tool.run("report", folder / "comma.csv", synth, status=2).err
    assert "(or --drop 'the id, once')" in told


def test_dropped_columns_are_left_out_of_every_table(tool, folder):
    words = ["--json", folder / "r.json", "--quiet"]
    train, synth, more = (folder / name for name in ("train.csv", "synth.csv", "more.csv"))
    tool.run("report", train, synth, "--drop", "id", "--holdout", train, *words)
    assert json.loads((folder / "r.json").read_text())["sizes"]["columns"] == 2
    tool.run("report", train, more, "--drop", "id,note", *words)
    assert json.loads((folder / "r.json").read_text())["sizes"]["columns"] == 2
    tool.run("report", folder / "comma.csv", synth, "--drop", "the id, once", *words)
    assert "--drop names column 'nope'" in tool.run("report", train, synth, "--drop", "nope", status=2).err
    assert "--drop leaves no column" in tool.run("report", train, synth, "--drop", "id,x,y", status=2).err
    assert "--label names column 'id'" in tool.run("report", train, synth, "--drop=id", "--label=id", status=2).err
