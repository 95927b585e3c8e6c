"""The report takes the words that fit took, and names files and options where tables do not go together."""

import json

import numpy as np
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


def codes(folder, name, seed, suffix):
    """Codes from 1 to 24, more than the classes of a number, half of the rows with 1 or 2."""
    rng = np.random.default_rng(seed)
    code = np.where(rng.random(240) < 0.5, rng.integers(1, 3, 240), rng.integers(1, 25, 240))
    rows = pd.DataFrame({"code": code, "x": code % 2 + rng.normal(size=240)})
    path = folder / f"{name}.{suffix}"
    rows.to_parquet(path) if suffix == "parquet" else rows.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_whole_numbers_that_are_said_to_be_categories_are_levels(tool, suffix):
    """A shape by levels and an AUC, in place of a distance of numbers and an R2; also where a code has a point."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    folder = tool.folder()
    paths = [codes(folder, name, seed, suffix) for seed, name in enumerate(["train", "synth", "holdout"])]
    if suffix == "csv":
        text = paths[1].read_text().replace("\n1,", "\n1.0,")
        paths[1].write_text(text)
    words = [*paths[:2], "--holdout", paths[2], "--label", "code", "--json", folder / "r.json", "--quiet"]
    for said, kind, metric in (([], "number", "R2"), (["--kinds", "code=category"], "category", "AUC")):
        tool.run("report", *words, *said)
        found = json.loads((folder / "r.json").read_text())
        assert (found["shapes"]["columns"][0]["kind"], found["utility"]["metric"]) == (kind, metric)
    assert {"1", "2"} <= set(found["shapes"]["columns"][0]["bars"]["labels"])
    assert "1.0" not in found["shapes"]["columns"][0]["bars"]["labels"]


def test_a_holdout_in_csv_may_have_a_level_that_a_dictionary_lacks(tool):
    pytest.importorskip("pyarrow")
    folder = tool.folder()
    rows = pd.DataFrame({"size": ["s", "m", "l"] * 20, "x": range(ROWS)})
    rows.astype({"size": "category"}).to_parquet(folder / "train.parquet")
    more = rows.assign(size=["rare", *rows["size"][1:]])
    more.to_csv(folder / "holdout.csv", index=False)
    rows.to_csv(folder / "synth.csv", index=False)
    tables = [folder / "train.parquet", folder / "synth.csv", "--holdout", folder / "holdout.csv"]
    tool.run("report", *tables, "--json", folder / "r.json", "--quiet")
    size = json.loads((folder / "r.json").read_text())["shapes"]["columns"][0]
    assert (size["kind"], sorted(size["bars"]["labels"])) == ("category", ["l", "m", "rare", "s"])


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
