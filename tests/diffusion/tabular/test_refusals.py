"""Bad input gets one sentence with what was found and what was expected, and the model stays as it was."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from cfdg_diffusion import DiffusionSettings, TabularDiffusion, TabularSettings, storage

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=4, guidance_weight=0.0)
)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=60),
            "n": rng.integers(0, 50, 60),
            "y": rng.choice(["a", "b"], 60),
            "z": rng.choice(["u", "v"], 60),
        }
    )


@pytest.fixture(scope="module")
def model(table):
    return TabularDiffusion(settings=TINY).fit(table, label="y", steps=2)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 250


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to_numpy(), "the table is a ndarray, expected a pandas DataFrame"),
        (lambda t: t.iloc[:0], "the table has no rows, expected at least one"),
        (lambda t: t[[]], "the table has no columns, expected at least one"),
        (lambda t: pd.concat([t, t[["n"]]], axis=1), "column 'n' comes twice, expected every name once"),
        (lambda t: t.assign(x=t["x"].replace(t["x"][3], np.inf)), "column 'x' holds an infinite number"),
        (lambda t: t.assign(x=1j), "column 'x' has dtype complex128, expected numbers"),
        (lambda t: t.assign(x=pd.period_range("2020", periods=60)), r"column 'x' has dtype period\[D\], expected"),
        (lambda t: t.assign(x=[[1]] * 60), "column 'x' holds objects of type list, expected text"),
        (lambda t: t.assign(x=[str(i) for i in range(30)] * 2), None),
        (
            lambda t: pd.concat([t] * 100).assign(x=[f"id {i}" for i in range(6000)]),
            "column 'x' has 6000 levels, expected",
        ),
        (lambda t: t.drop(columns="y"), "label names column 'y', expected one of the table's columns"),
        (lambda t: t.assign(y=pd.Timestamp("2024-01-01")), "label column 'y' holds dates or durations, expected"),
        (lambda t: t.assign(y=t["x"].mask(t.index == 3, -np.inf)), "label column 'y' holds -inf, expected finite"),
    ],
)
def test_tables_that_cannot_be_learnt(table, model, change, message):
    if message is None:
        TabularDiffusion(settings=TINY).fit(change(table), label="y", steps=1)
        return
    before = model.sample(5, seed=0)
    schema = model.schema
    with pytest.raises(ValueError, match=message) as error:
        model.fit(change(table), label="y", steps=2)
    one_sentence(error)
    assert model.schema is schema
    pd.testing.assert_frame_equal(model.sample(5, seed=0), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "klass"}, "label names column 'klass', expected one of the table's columns"),
        ({"label": ["y", "y"]}, r"label is \['y', 'y'\], expected every column once"),
        ({"kinds": {"w": "category"}}, "kinds names column 'w', expected one of the table's columns"),
        ({"kinds": {"x": "boolean"}}, "column 'x' cannot be read as 'boolean', expected number or category"),
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"time_budget": -1}, "time_budget is -1, expected at least 0"),
        ({"time_budget": math.nan}, "time_budget is nan, expected at least 0"),
    ],
)
def test_fits_that_make_no_sense(table, options, message):
    with pytest.raises(ValueError, match=message) as error:
        TabularDiffusion(settings=TINY).fit(table, **{"steps": 2, **options})
    one_sentence(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": -1}, "n is -1, expected a number of rows, 0 or more"),
        ({"n": 2.5}, "n is 2.5, expected a number of rows"),
        ({}, "n is None, expected a number of rows unless labels or like has one for each"),
        ({"n": 3, "label": "c"}, "no training row has label 'c', expected one of '"),
        ({"n": 3, "label": {"x": 1}}, "'x' is no label column, expected 'y'"),
        ({"labels": pd.Series(["a", "c"])}, "column 'y' holds 'c', expected one of its 2 levels"),
        ({"labels": pd.DataFrame({"k": ["a"]})}, "labels has no column 'y', expected the label columns of training"),
        ({"n": 3, "labels": ["a", "b"]}, "n is 3 but there are 2 rows of labels or like, expected as many"),
        ({"labels": ["a"], "label": "a"}, "labels is given together with label or balance, expected one of them"),
        ({"labels": ["a"], "balance": True}, "labels is given together with label or balance"),
        ({"n": 3, "fix": ["x"]}, "fix names column 'x' but like is None, expected the rows to take it from"),
        ({"like": pd.DataFrame({"x": [1.0]})}, "like is given without fix, expected the columns of like to keep"),
        ({"like": pd.DataFrame({"x": [1.0]}), "fix": ["w"]}, "fix names column 'w', expected a column of the model"),
        ({"like": pd.DataFrame({"x": [1.0]}), "fix": "n"}, "fix names column 'n', expected a column of like"),
        ({"like": pd.DataFrame({"x": ["one"]}), "fix": "x"}, "column 'x' has dtype str, expected float64 or other"),
        ({"like": pd.DataFrame({"n": [0.5]}), "fix": "n"}, "column 'n' holds 0.5, expected integers"),
        ({"like": pd.DataFrame({"n": [np.nan]}), "fix": "n"}, "column 'n' has missing values, expected none"),
        (
            {"like": pd.DataFrame({"y": ["a"]}), "fix": "y", "label": "b"},
            "fix names a label column, expected no label=",
        ),
        ({"n": 2, "guidance_weight": math.nan}, "guidance_weight is nan, expected a finite number"),
        ({"n": 2, "guidance_weight": {"a": math.inf}}, "guidance_weight of label 'a' is inf, expected a finite number"),
        ({"n": 2, "guidance_weight": {"c": 1.0}}, "no training row has label 'c', expected one of '"),
        ({"n": 2, "guidance_interval": (2.0, 1.0)}, r"guidance_interval is \(2.0, 1.0\), expected two noise levels"),
        ({"n": 2, "steps": 0}, "steps is 0, expected at least 1"),
        ({"n": 2, "seed": -4}, "seed is -4, expected an integer of 0 or more"),
    ],
)
def test_samples_that_make_no_sense(model, options, message):
    before = model.sample(5, seed=0)
    with pytest.raises(ValueError, match=message) as error:
        model.sample(**options)
    one_sentence(error)
    pd.testing.assert_frame_equal(model.sample(5, seed=0), before)


def test_streams_that_make_no_sense_are_refused_at_once(model):
    with pytest.raises(ValueError, match="n is -1, expected a number of rows, at least 0"):
        model.stream(-1)
    with pytest.raises(ValueError, match="chunk is 0, expected a number of rows, at least 1"):
        model.stream(10, chunk=0)


def test_questions_that_need_labels_or_several(table):
    plain = TabularDiffusion(settings=TINY).fit(table, steps=2)
    for options in ({"n": 3, "label": "a"}, {"labels": ["a"]}):
        with pytest.raises(ValueError, match="the model was fitted without label, expected fit"):
            plain.sample(**options)
    both = TabularDiffusion(settings=TINY).fit(table, label=["y", "z"], steps=2)
    with pytest.raises(ValueError, match="label is 'a', expected a dictionary of 'y', 'z'"):
        both.sample(3, label="a")
    with pytest.raises(ValueError, match="labels is one column, expected a table of 'y', 'z'"):
        both.sample(labels=["a"])
    made = both.sample(like=table.head(9), fix=["z"], steps=2)
    assert made["z"].tolist() == table["z"].head(9).tolist(), "one of the label columns is enough"


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.sample(1),
        lambda m: m.stream(1),
        lambda m: m.describe(),
        lambda m: m.impute(pd.DataFrame({"x": [1]})),
        lambda m: m.save("x"),
    ],
)
def test_a_model_that_was_never_fitted(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"the model has not been fitted, expected fit\(table\) first"):
        ask(TabularDiffusion())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="n"), "the table has no column 'n', expected it as in training"),
        (lambda t: t.drop(columns="y"), "the table has no column 'y', expected it as in training"),
        (lambda t: t.assign(y="w"), "column 'y' holds 'w', expected one of its 2 levels"),
        (lambda t: t.assign(z="w", x=np.nan), "column 'z' holds 'w', expected one of its 2 levels"),
        (lambda t: pd.concat([t, t[["n"]]], axis=1), "column 'n' comes twice, expected every name once"),
    ],
)
def test_tables_that_cannot_be_imputed(table, model, change, message):
    with pytest.raises(ValueError, match=message) as error:
        model.impute(change(table))
    one_sentence(error)


def test_arguments_of_the_constructor():
    with pytest.raises(ValueError, match="seed is -1, expected an integer of 0 or more"):
        TabularDiffusion(seed=-1)
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ValueError, match=f"device is '{device}', which is not available on this machine"):
            TabularDiffusion(device=device)


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        TabularDiffusion.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="is not a file, expected a saved model"):
            TabularDiffusion.load(path)


@pytest.mark.parametrize("size", [0, 4, 100, 3000, -1])
def test_truncated_files(path, size):
    path.write_bytes(path.read_bytes()[:size])
    refused(path, "is not a safetensors file or is cut short")


def test_foreign_files(path, model):
    path.write_text("age,income\n1,2\n", encoding="utf-8")
    refused(path, "is not a safetensors file or is cut short")
    save_file({"weight": torch.zeros(3)}, path)
    refused(path, "has format None, expected 'cfdg-diffusion'")
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    refused(path, "has format 'pt', expected 'cfdg-diffusion'")
    model._fitted.network.save(path)
    refused(path, "holds no tabular model, expected a file of TabularDiffusion.save")


def test_newer_files(path):
    tensors = load_file(path)
    save_file(tensors, path, metadata={"format": "cfdg-diffusion", "version": "3", "tree": "{}"})
    refused(path, "has version '3', expected 1 to 2: update cfdg-diffusion")


@pytest.mark.parametrize("key", ["seed", "settings", "schema", "history", "model", "order", "labels", "codec"])
@pytest.mark.parametrize("damage", ["missing", "wrong"])
def test_files_with_a_damaged_tree(path, key, damage):
    tree = storage.load(path)
    part = tree if key in tree else tree["schema"]
    if damage == "missing":
        del part[key]
    else:
        part[key] = "nonsense"
    storage.save(path, tree)
    refused(path, "does not describe a model of this version")


def test_files_with_damaged_tensors(path):
    whole = storage.load(path)
    component = whole["schema"]["codec"]["columns"][0]["components"][0]
    for part, name in (
        (whole["model"]["learner"], "weights"),
        (whole["schema"]["labels"], "keys"),
        (component["scale"], "knots"),
    ):
        value = part.pop(name)
        storage.save(path, whole)
        refused(path, "does not describe a model of this version")
        part[name] = value
    whole["model"]["learner"]["weights"] = torch.zeros(1, 3)
    storage.save(path, whole)
    refused(path, "shape")


def test_a_file_is_complete_or_not_there(model, tmp_path):
    path = tmp_path / "folder" / "model.safetensors"
    model.save(path)
    before = path.read_bytes()
    broken = TabularDiffusion.load(path)
    broken.constraints = (object(),)
    with pytest.raises(AttributeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    header = json.loads(before[8 : 8 + int.from_bytes(before[:8], "little")])["__metadata__"]
    assert header["format"] == "cfdg-diffusion"
