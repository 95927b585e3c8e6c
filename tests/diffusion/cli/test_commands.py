"""The command line: from a file to a model to a file, same seed same bytes, one sentence for what is wrong."""

import argparse
import importlib.util
import io
import json
import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import TabularDiffusion, cli
from cfdg_diffusion.cli import console, options, rules, sample, values
from cfdg_diffusion.cli.csv_cells import ColumnReading
from cfdg_diffusion.cli.table_files import read_table

COUNTRY = {"paris": "fr", "rome": "it", "oslo": "no"}
STEPS = ["--steps", "40", "--device", "cpu"]
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="Parquet needs pyarrow")
needs_sklearn = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="the report needs scikit-learn")


def people(rows=300):
    rng = np.random.default_rng(0)
    city = rng.choice(list(COUNTRY), rows)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 300, rows), "D")
    table = pd.DataFrame(
        {
            "age": rng.integers(17, 91, rows),
            "zip": [f"{code:05d}" for code in rng.integers(0, 9, rows)],
            "city": city,
            "country": pd.Series(city).map(COUNTRY),
            "hours": pd.array(rng.integers(1, 60, rows), dtype="Int64"),
            "wage": rng.lognormal(3, 1, rows).round(2),
            "start": start.strftime("%Y-%m-%d"),
            "end": (start + pd.to_timedelta(rng.integers(0, 60, rows), "D")).strftime("%Y-%m-%d"),
            "income": np.where(rng.random(rows) < 0.2, ">50K", "<=50K"),
        }
    )
    table.loc[rng.random(rows) < 0.2, "hours"] = pd.NA
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with people.csv and a model of it, which no test changes."""
    folder = tmp_path_factory.mktemp("cli")
    people().to_csv(folder / "people.csv", index=False)
    rules_of_people = [
        "--constraint",
        "age: 17..90",
        "--constraint",
        "start <= end",
        "--constraint",
        "fixed: city, country",
    ]
    told = [
        "fit",
        folder / "people.csv",
        "--label",
        "income",
        "-o",
        folder / "model",
        *STEPS,
        "--quiet",
        *rules_of_people,
    ]
    assert cli.main([str(part) for part in told]) == 0
    return folder


@pytest.fixture
def run(capfd):
    """Run a command: its exit status, what it wrote to standard output, and to standard error."""

    def run(*arguments):
        status = cli.main([str(part) for part in arguments])
        out, err = capfd.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


def refused(found, *parts):
    """Whether a command ended with one sentence that has all parts."""
    assert found.status == 2
    assert found.out == ""
    assert found.err.startswith("cfdg-diffusion: ")
    assert found.err.count("\n") == 1
    assert "Traceback" not in found.err
    for part in parts:
        assert part in found.err
    return True


def test_from_a_file_to_a_file(folder, tmp_path, run):
    made = run("sample", folder / "model", "-n", "1_000", "-o", tmp_path / "out.csv")
    assert made.status == 0
    assert made.out == ""
    assert "wrote 1,000 rows" in made.err
    real, synthetic = read_table(folder / "people.csv"), read_table(tmp_path / "out.csv")
    assert synthetic.table.columns.tolist() == real.table.columns.tolist()
    assert synthetic.table.dtypes.tolist() == real.table.dtypes.tolist()
    assert synthetic.dates == real.dates
    assert len(synthetic.table) == 1000
    assert set(synthetic.table["zip"]) <= set(real.table["zip"])
    assert synthetic.table["age"].between(17, 90).all()
    assert (synthetic.table["start"] <= synthetic.table["end"]).all()
    assert (synthetic.table["city"].map(COUNTRY) == synthetic.table["country"]).all()


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path, run):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("sample", folder / "model", "-n", "300", "--seed", seed, "-o", tmp_path / f"{name}.csv")
        run("impute", folder / "model", folder / "people.csv", "--seed", seed, "-o", tmp_path / f"full-{name}.csv")
    for kind in ("", "full-"):
        one, same, other = ((tmp_path / f"{kind}{name}.csv").read_bytes() for name in "abc")
        assert one == same
        assert one != other
    assert (
        run("sample", folder / "model", "-n", "300", "--seed", "1", "-o", "-").out == (tmp_path / "a.csv").read_text()
    )


@pytest.mark.parametrize("command", [["sample", "-n", "30"], ["impute", "{folder}/people.csv"]])
def test_without_an_output_rows_go_to_standard_output_and_words_to_standard_error(folder, run, command):
    arguments = [command[0], folder / "model", *(part.format(folder=folder) for part in command[1:])]
    found, named, quiet = run(*arguments), run(*arguments, "-o", "-"), run(*arguments, "--quiet")
    assert found.status == 0
    assert found.out == named.out == quiet.out
    rows = pd.read_csv(io.StringIO(found.out))
    assert rows.columns.tolist() == people(1).columns.tolist()
    assert not rows.isna().any(axis=None) or command[0] == "sample"
    assert f"wrote {len(rows)} rows to standard output" in found.err
    assert quiet.err == ""


def test_what_ended_on_standard_output_is_not_said_to_be_unwritten(folder, run, monkeypatch):
    stream = TabularDiffusion.stream

    def interrupted(self, n, **options):
        yield next(stream(self, n, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(TabularDiffusion, "stream", interrupted)
    found = run("sample", folder / "model", "-n", "5")
    assert found.status == 130
    assert len(found.out.splitlines()) == 6
    assert found.err == "cfdg-diffusion: stopped\n"


def test_two_fits_of_one_seed_write_the_same_model(folder, tmp_path, run):
    for name in ("a", "b.safetensors"):
        found = run("fit", folder / "people.csv", "--drop", "zip,hours", "-o", tmp_path / name, "--steps", "5")
        assert found.status == 0
        assert "now try: cfdg-diffusion sample" in found.err
    one, other = (TabularDiffusion.load(tmp_path / name) for name in ("a/model.safetensors", "b.safetensors"))
    assert one.sample(20, seed=0).equals(other.sample(20, seed=0))
    assert "zip" not in one.sample(1)
    assert (tmp_path / "b.format.json").read_text() == (tmp_path / "a" / "format.json").read_text()


def test_rows_are_written_as_they_come(folder, tmp_path, run, monkeypatch):
    """Whatever n is, only a chunk is in memory: what was generated before is in the file already."""
    partial, sizes = [], []
    stream = TabularDiffusion.stream

    def watched(self, n, **options):
        for table in stream(self, n, **options):
            partial.extend(path.stat().st_size for path in tmp_path.glob(".out.csv*"))
            sizes.append(len(table))
            yield table

    monkeypatch.setattr(TabularDiffusion, "stream", watched)
    monkeypatch.setattr(sample, "CHUNK", 1000)
    run("sample", folder / "model", "-n", "3500", "-o", tmp_path / "out.csv")
    assert sizes == [1000, 1000, 1000, 500]
    assert 20_000 < partial[1] < partial[2] < partial[3] < (tmp_path / "out.csv").stat().st_size
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3501


def test_labels_come_as_asked(folder, tmp_path, run):
    def labels(*options):
        found = run("sample", folder / "model", "-o", "-", "--quiet", *options)
        assert found.status == 0, found.err
        assert found.err == ""
        return pd.read_csv(io.StringIO(found.out))["income"]

    assert set(labels("-n", "50", "--label", ">50K")) == {">50K"}
    assert set(labels("-n", "50", "--label", "income=<=50K", "--guidance", "<=50K=1", "--interval", "0.1,5")) == {
        "<=50K"
    }
    assert labels("-n", "50", "--balance", "--steps", "4").value_counts().tolist() == [25, 25]
    wanted = [">50K", "<=50K", ">50K"]
    pd.DataFrame({"more": 1, "income": wanted}).to_csv(tmp_path / "wanted.csv", index=False)
    assert labels("--labels", tmp_path / "wanted.csv").tolist() == wanted


@pytest.mark.parametrize(("label", "told"), [("income", "nan"), ("wage", "missing")])
def test_a_missing_label_can_be_asked_for(tmp_path, run, label, told):
    table = people(80)
    table[label] = table[label].mask(table.index % 4 == 0)
    table.to_csv(tmp_path / "holes.csv", index=False)
    fitted = run("fit", tmp_path / "holes.csv", "--label", label, "-o", tmp_path / "m", "--steps", "2")
    assert fitted.status == 0, fitted.err
    assert f"{told} " in run("inspect", tmp_path / "m").out
    asked = (["-n", "5", "--label", ""], ["-n", "5", "--label", f"{label}="], ["--labels", tmp_path / "holes.csv"])
    for options_of_sample in asked:
        made = pd.read_csv(io.StringIO(run("sample", tmp_path / "m", *options_of_sample).out))[label]
        assert made.isna().tolist() == (table[label].isna().tolist() if len(made) == 80 else [True] * 5)
    filled = pd.read_csv(io.StringIO(run("impute", tmp_path / "m", tmp_path / "holes.csv").out))
    assert filled[label].isna().tolist() == table[label].isna().tolist()
    assert not filled["hours"].isna().any()


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_labels_are_balanced_over_all_chunks(folder, tmp_path, run, monkeypatch, chunk):
    monkeypatch.setattr(sample, "CHUNK", chunk)
    people(21).to_csv(tmp_path / "like.csv", index=False)
    for asked in (["-n", "21"], ["--like", tmp_path / "like.csv", "--fix", "age"]):
        found = run("sample", folder / "model", *asked, "--balance", "--steps", "2")
        counts = pd.read_csv(io.StringIO(found.out))["income"].value_counts()
        assert sorted(counts) == [10, 11], asked


def test_fixed_columns_are_kept_over_all_chunks(folder, tmp_path, run, monkeypatch):
    monkeypatch.setattr(sample, "CHUNK", 7)
    like = people().drop(columns=["wage", "age"]).head(20)
    like.to_csv(tmp_path / "like.csv", index=False)
    found = run("sample", folder / "model", "--like", tmp_path / "like.csv", "--fix", "city, start", "-o", "-")
    made = pd.read_csv(io.StringIO(found.out))
    assert made["city"].tolist() == like["city"].tolist()
    assert made["start"].tolist() == like["start"].tolist()
    assert made["age"].nunique() > 5


def test_cells_that_no_constraint_allows_are_counted(folder, tmp_path, run):
    people().assign(start="2219-01-01", end=None).head(3).to_csv(tmp_path / "holes.csv", index=False)
    found = run("impute", folder / "model", tmp_path / "holes.csv", "--quiet", "-o", tmp_path / "full.csv")
    assert "3 rows break a constraint all the same" in found.err


def test_imputed_cells_are_all_that_changes(folder, tmp_path, run):
    before = people().assign(note="as it is, 007")
    before.loc[::5, ["age", "end"]] = None
    before["age"] = before["age"].astype("Int64")
    before.to_csv(tmp_path / "holes.csv", index=False)
    found = run("impute", folder / "model", tmp_path / "holes.csv", "-o", tmp_path / "full.csv")
    assert found.status == 0
    assert f"filled {before.isna().sum().sum()} cells" in found.err
    texts = [pd.read_csv(path, dtype=str) for path in (tmp_path / "holes.csv", tmp_path / "full.csv")]
    assert not texts[1].isna().any(axis=None)
    assert texts[1].where(texts[0].notna()).equals(texts[0])
    full = read_table(tmp_path / "full.csv").table
    assert (full["start"] <= full["end"]).all()
    assert full["age"].between(17, 90).all()


@needs_pyarrow
def test_parquet_all_the_way(folder, tmp_path, run):
    read_table(folder / "people.csv").table.to_parquet(tmp_path / "people.parquet")
    assert run("fit", tmp_path / "people.parquet", "-o", tmp_path / "model", "--steps", "5").status == 0
    assert run("sample", tmp_path / "model", "-n", "100", "-o", tmp_path / "out.parquet").status == 0
    assert run("impute", tmp_path / "model", tmp_path / "out.parquet", "-o", tmp_path / "full.parquet").status == 0
    import pyarrow.parquet

    real, full = (pyarrow.parquet.read_table(tmp_path / name) for name in ("people.parquet", "full.parquet"))
    assert full.schema.types == real.schema.types  # pandas reads a whole column of nullable integers as plain ones
    assert full.schema.names == real.schema.names
    assert all(column.null_count == 0 for column in full.columns)


@needs_sklearn
def test_the_report_is_printed_and_written(folder, tmp_path, run):
    run("sample", folder / "model", "-n", "200", "-o", tmp_path / "out.csv")
    own = ["--label", "income", "-o", tmp_path / "report.html", "--json", tmp_path / "report.json"]
    found = run("report", folder / "people.csv", tmp_path / "out.csv", "--holdout", folder / "people.csv", *own)
    assert found.status == 0, found.err
    assert "Detection" in found.out
    assert "<html" in (tmp_path / "report.html").read_text()
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["sizes"]["synthetic"] == 200
    assert 0.4 < numbers["detection"]["auc"]["value"] <= 1


@needs_sklearn
def test_whole_numbers_of_another_generator_may_have_a_point(folder, tmp_path, run):
    table = people()
    table.assign(age=table["age"] + 0.5).to_csv(tmp_path / "floats.csv", index=False)
    assert run("report", folder / "people.csv", tmp_path / "floats.csv", "--rows", "100").status == 0


def test_the_report_without_scikit_learn_says_how_to_get_it(folder, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    found = run("report", folder / "people.csv", folder / "people.csv")
    assert refused(found, "pip install 'cfdg-diffusion[report]'")


def test_a_dry_run_and_inspect_say_what_columns_are_taken_for(folder, tmp_path, run):
    dry = run("fit", folder / "people.csv", "--label", "income", "--dry-run")
    looked = run("inspect", folder / "people.csv", "--label", "income")
    assert dry.out == looked.out
    assert "300 rows, 9 columns" in dry.out
    counts = people()["income"].value_counts()
    assert f"<=50K  {counts['<=50K']} rows" in dry.out
    assert "dates in 'start' are written YYYY-MM-DD" in dry.out
    assert "memory of fit: about" in dry.out
    lines = {line.split()[0]: line.split()[1] for line in dry.out.splitlines()[2:10]}
    assert lines["zip"] == "category"
    assert lines["hours"] == "integer"
    assert lines["start"] == "datetime"
    text = run("inspect", folder / "people.csv", "--kinds", "start=text", "--kinds", "age=category").out
    assert "dates in 'start'" not in text
    assert "age      category" in text


def test_inspect_says_what_a_model_is(folder, run):
    text = run("inspect", folder / "model").out
    for part in (
        "format version",
        "income: 2 values",
        "17 <= age <= 90",
        "start <= end",
        "known (city, country)",
        "40 steps",
    ):
        assert part in text
    assert f"<=50K  {(people()['income'] == '<=50K').sum()} rows" in text


def test_the_losses_can_be_kept(folder, tmp_path, run):
    found = run("fit", folder / "people.csv", "-o", tmp_path / "m", "--steps", "20", "--history", tmp_path / "loss.csv")
    assert found.status == 0
    losses = pd.read_csv(tmp_path / "loss.csv")
    assert losses.columns.tolist() == ["step", "loss", "held_out_loss"]
    assert losses["step"].iloc[-1] == 20
    assert losses["loss"].gt(0).all()


def test_training_ends_when_its_time_is_up(folder, tmp_path, run):
    found = run("fit", folder / "people.csv", "-o", tmp_path / "m", "--time-budget", "0.5s", "--steps", "5_000")
    assert "when time was up" in found.err


FIT = ["fit", "{folder}/people.csv"]
SAMPLE = ["sample", "{folder}/model", "-o", "{out}/x.csv"]
WRONG = {
    "fit without output": ([*FIT], "-o MODEL"),
    "no such table": (["fit", "{out}/x.csv", "-o", "{out}/m"], "there is no file"),
    "a folder for a table": (["fit", "{out}", "-o", "{out}/m"], "is a folder"),
    "no such label": ([*FIT, "--label", "wealth", "-o", "{out}/m"], "--label names column 'wealth'"),
    "a dropped label": ([*FIT, "--label", "income", "--drop", "income", "-o", "{out}/m"], "--label names column"),
    "no such drop": ([*FIT, "--drop", "wealth", "-o", "{out}/m"], "--drop names column 'wealth'"),
    "no such kind": ([*FIT, "--kinds", "wealth=number", "-o", "{out}/m"], "no column 'wealth'"),
    "a kind that does not fit": ([*FIT, "--kinds", "city=number", "-o", "{out}/m"], "people.csv", "'city'", "in row 1"),
    "no folder for the model": ([*FIT, "-o", "{out}/a/b/m"], "there is no folder"),
    "a model that is there": ([*FIT, "-o", "{folder}/model"], "exists already", "--force"),
    "a file for a folder": ([*FIT, "-o", "{folder}/people.csv"], "is a file, expected a folder"),
    "a device that is not there": ([*FIT, "-o", "{out}/m", "--device", "abacus"], "device is 'abacus'"),
    "a rule without form": ([*FIT, "-o", "{out}/m", "--constraint", "age"], "expected 'age: 17..90'"),
    "a rule of no column": ([*FIT, "-o", "{out}/m", "--constraint", "age <= 90"], "'90', which is no column"),
    "a rule of what has no order": ([*FIT, "-o", "{out}/m", "--constraint", "age <= end"], "'age <= end'"),
    "a rule no row obeys": ([*FIT, "-o", "{out}/m", "--constraint", "age: 200.."], "holds in no row"),
    "a rule of words": ([*FIT, "-o", "{out}/m", "--constraint", "age: a..b"], "'a' is no value of column 'age'"),
    "no model": (["sample", "{out}/m", "-n", "5", "-o", "{out}/x.csv"], "there is no model"),
    "an empty folder": (["sample", "{out}", "-n", "5", "-o", "{out}/x.csv"], "there is no", "model.safetensors"),
    "a table for a model": (["sample", "{folder}/people.csv", "-n", "5", "-o", "{out}/x.csv"], "people.csv"),
    "an unknown label": ([*SAMPLE, "-n", "5", "--label", "rich"], "'rich'", "'>50K'"),
    "an unknown weight": ([*SAMPLE, "-n", "5", "--guidance", "rich=1"], "rich"),
    "a weight of words": ([*SAMPLE, "-n", "5", "--guidance", "much"], "--guidance is 'much'"),
    "like without fix": ([*SAMPLE, "--like", "{folder}/people.csv"], "--fix"),
    "fix without like": ([*SAMPLE, "-n", "5", "--fix", "age"], "--like"),
    "no such fix": ([*SAMPLE, "--like", "{folder}/people.csv", "--fix", "wealth"], "--fix names column 'wealth'"),
    "labels and label": ([*SAMPLE, "--labels", "{folder}/people.csv", "--label", ">50K"], "label"),
    "no such ending": (["sample", "{folder}/model", "-n", "5", "-o", "{out}/x.xlsx"], "expected a table"),
    "no folder for the rows": (["sample", "{folder}/model", "-n", "5", "-o", "{out}/a/x.csv"], "there is no folder"),
    "a table that is there": (["sample", "{folder}/model", "-n", "5", "-o", "{folder}/people.csv"], "--force"),
    "report to a table": (
        ["report", "{folder}/people.csv", "{folder}/people.csv", "-o", "{out}/x.csv"],
        "expected .html",
    ),
    "inspect nothing": (["inspect", "{out}/nothing"], "there is no model"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_gets_a_sentence_and_leaves_nothing(folder, tmp_path, run, wrong):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    arguments, *parts = WRONG[wrong]
    assert refused(run(*(part.format(folder=folder, out=tmp_path) for part in arguments)), *parts)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_a_model_that_is_cut_short_is_refused(folder, tmp_path, run, cut):
    whole = (folder / "model" / "model.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(whole[:cut])
    assert refused(run("sample", tmp_path / "m.safetensors", "-n", "5", "-o", "-"), "m.safetensors")


def test_a_foreign_model_is_refused(folder, tmp_path, run):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, dtype=np.float32)}, tmp_path / "m.safetensors")
    assert refused(run("inspect", tmp_path / "m.safetensors"), "format None")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes((folder / "model" / "model.safetensors").read_bytes())
    (tmp_path / "model" / "format.json").write_text('{"version": 3}')
    assert refused(run("inspect", tmp_path / "model"), "format.json has version 3")
    (tmp_path / "model" / "format.json").write_text("[")
    assert refused(run("inspect", tmp_path / "model"), "format.json is damaged")


def test_the_dates_of_a_model_of_version_1_are_read(folder, tmp_path, run):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes((folder / "model" / "model.safetensors").read_bytes())
    (tmp_path / "model" / "dates.json").write_text(
        json.dumps({"version": 1, "dates": {"start": {"unit": "D", "separator": "T", "zone": "Z"}}})
    )
    assert "dates in 'start' are written YYYY-MM-DDZ" in run("inspect", tmp_path / "model").out


def test_a_table_that_does_not_fit_the_model_names_file_column_and_row(folder, tmp_path, run):
    table = people().astype(object)
    table.loc[3, "age"] = "old"
    table.to_csv(tmp_path / "x.csv", index=False)
    found = run("impute", folder / "model", tmp_path / "x.csv", "-o", tmp_path / "y.csv")
    assert refused(found, "x.csv: column 'age' holds 'old' in row 4, expected a whole number")
    people().drop(columns="city").to_csv(tmp_path / "x.csv", index=False)
    assert refused(run("impute", folder / "model", tmp_path / "x.csv", "-o", tmp_path / "y.csv"), "no column 'city'")
    people().assign(income="none of it").to_csv(tmp_path / "x.csv", index=False)
    assert refused(run("impute", folder / "model", tmp_path / "x.csv", "-o", tmp_path / "y.csv"), "x.csv", "none of it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv"]


def test_a_broken_later_chunk_leaves_no_file(folder, tmp_path, run, monkeypatch):
    stream = TabularDiffusion.stream

    def full_disk(self, n, **options):
        yield next(stream(self, n, **options))
        raise OSError(28, "No space left on device", "x.csv")

    monkeypatch.setattr(TabularDiffusion, "stream", full_disk)
    assert refused(
        run("sample", folder / "model", "-n", "5", "-o", tmp_path / "x.csv"), "x.csv: No space left on device"
    )
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_with_130_and_leaves_the_old_model(folder, tmp_path, run, monkeypatch):
    assert run("fit", folder / "people.csv", "-o", tmp_path / "m", "--steps", "3").status == 0
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(TabularDiffusion, "fit", interrupted)
    for place, options_of_fit in (("m", ["--force"]), ("new", [])):
        found = run("fit", folder / "people.csv", "-o", tmp_path / place, *options_of_fit)
        assert found.status == 130
        assert found.err.count("\n") == 2  # what is learnt, and that it was stopped
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_force_replaces_a_model_with_all_that_lay_beside_it(folder, tmp_path, run):
    assert run("fit", folder / "people.csv", "-o", tmp_path / "m", "--steps", "3").status == 0
    assert "start" in (tmp_path / "m" / "format.json").read_text()
    again = ["fit", folder / "people.csv", "-o", tmp_path / "m", "--steps", "3", "--drop", "start,end", "--force"]
    assert run(*again).status == 0
    assert "start" not in (tmp_path / "m" / "format.json").read_text()


def test_a_reader_who_has_seen_enough_is_no_error(folder):
    """In a process of its own: what is written to a closed pipe when Python ends is part of it."""
    command = [sys.executable, "-m", "cfdg_diffusion.cli", "sample", str(folder / "model"), "-n", "3000", "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout.readline().startswith(b"age,zip")
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert b"BrokenPipe" not in errors


@pytest.mark.parametrize("command", ["", "fit", "sample", "impute", "report", "inspect"])
def test_help_teaches_with_commands_that_can_be_parsed(command, run, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capfd.readouterr().out.replace("\\\n", " ")
    examples = [
        line.split("cfdg-diffusion ", 1)[1] for line in shown.splitlines() if line.startswith("  cfdg-diffusion ")
    ]
    assert len(examples) >= 2
    for example in examples:
        words = shlex.split(example.split("    ")[0].split("  ")[0])
        assert cli.build_parser().parse_args(words).run


def test_durations_counts_and_intervals():
    assert options.duration("90") == options.duration("90s") == options.duration("1.5m") == 90
    assert options.duration("1h30m") == options.duration("5400 s") == 5400
    assert options.count("1_000") == 1000
    assert options.interval("0.2,5") == (0.2, 5.0)
    assert options.interval("0.2,") == (0.2, float("inf"))
    bad = [(options.duration, text) for text in ("m", "-1s", "1h2", "nat", "inf", "0", "5 x", "")]
    for read, text in [
        *bad,
        (options.count, "0"),
        (options.count, "many"),
        (options.interval, "5,1"),
        (options.kind, "a=b"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


def test_labels_are_read_in_the_dtype_of_their_column():
    labels = {name: ColumnReading(dtype) for name, dtype in pd.DataFrame({"stars": [1], "sort": ["a"]}).dtypes.items()}
    stars = {"stars": labels["stars"]}
    sort = {"sort": labels["sort"]}
    assert values.label_values(["stars=3", "sort=b=c"], labels) == {"stars": 3, "sort": "b=c"}
    assert values.label_values(["3"], stars) == {"stars": 3}
    assert values.label_values(["x=3"], sort) == {"sort": "x=3"}
    assert values.weights(["3=0.5", "4=1"], stars) == {3: 0.5, 4: 1.0}
    assert values.weights(["a=0.5,b,c=1"], sort) == {"a=0.5,b,c": 1.0}
    assert values.weights(["a=0.5,b=1"], sort) == {"a": 0.5, "b": 1.0}
    for texts, dtypes in ((["3"], labels), (["stars=3", "stars=4"], labels), (["x"], stars), (["x"], {})):
        with pytest.raises(ValueError, match=r"expected|fitted|holds"):
            values.label_values(texts, dtypes)


def test_rules_are_read_with_the_names_of_the_table():
    table = pd.DataFrame({"a": [1, 2], "a: b": [1.5, 2.5], "fixed": [1, 1], "day": pd.to_datetime(["2020-01-01"] * 2)})
    assert rules.parse("a: 0..2", table).holds(table).all()
    assert rules.parse("a: b: 2..", table).holds(table).tolist() == [False, True]
    assert rules.parse("fixed: ..0", table).holds(table).tolist() == [False, False]
    assert rules.parse("a < a: b", table).name == "a < a: b"
    assert rules.parse("a: b >= a", table).name == "a <= a: b"
    assert rules.parse("day: 2020-01-01..2020-12-31", table).holds(table).all()
    known = rules.parse("fixed: a, fixed", table)
    assert known.holds(pd.DataFrame({"a": [1, 3], "fixed": [1, 1]})).tolist() == [True, False]


@pytest.mark.parametrize("words", ["--version", "--help", "fit --help", "sample --help", "report --help"])
def test_the_help_imports_no_heavy_library(words):
    """In a process of its own: here everything is imported already."""
    code = (
        "import sys\nfrom cfdg_diffusion.cli import main\n"
        f"try:\n    main({words.split()})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'pandas', 'numpy', 'tqdm', 'safetensors', 'sklearn', 'scipy', 'jinja2', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cfdg-diffusion" in done.stdout


def test_the_help_names_kinds_that_are_accepted():
    commands = next(action for action in cli.build_parser()._actions if isinstance(action.choices, dict))
    kinds = next(action for action in commands.choices["fit"]._actions if action.dest == "kinds")
    named = kinds.help.removeprefix("take a column for ").split(";")[0].split(", ")
    assert len(named) > 4
    for kind in (name.replace("FORMAT", "%Y") for name in named):
        assert options.kind(f"a=b={kind}") == ("a=b", kind)


@needs_sklearn
@pytest.mark.parametrize("command", ["sample", "impute", "report"])
def test_progress_is_shown_on_a_terminal_and_only_there(folder, tmp_path, run, monkeypatch, command):
    words = {
        "sample": ["model", "-n", "20", "-o"],
        "impute": ["model", "people.csv", "-o"],
        "report": ["people.csv", "people.csv", "--rows", "50", "--json"],
    }[command]
    paths = [folder / word if word in ("model", "people.csv") else word for word in words]
    suffix = "json" if command == "report" else "csv"
    assert f"{command}: " not in run(command, *paths, tmp_path / f"a.{suffix}").err
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    assert f"{command}: " in run(command, *paths, tmp_path / f"b.{suffix}").err
    assert f"{command}: " not in run(command, *paths, tmp_path / f"c.{suffix}", "--quiet").err


@needs_sklearn
def test_the_page_without_jinja_says_how_to_get_it_before_the_work(folder, tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    found = run("report", folder / "people.csv", tmp_path / "not-read.csv", "-o", tmp_path / "x.html")
    assert refused(found, "Jinja2", "pip install 'cfdg-diffusion[report]'")


def test_sizes_have_three_digits_and_a_unit(tmp_path):
    for count, text in ((5, "5.00B"), (1234, "1.23kB"), (45_678, "45.7kB")):
        (tmp_path / "file").write_bytes(b"x" * count)
        assert console.size(tmp_path / "file") == text
