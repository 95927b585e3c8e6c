"""Checkpoints of ``fit``: none is removed before the model is written, whatever ends the command."""

import shlex

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import TabularDiffusion
from cfdg_diffusion.cli import fit as fit_command
from cfdg_diffusion.cli.model_files import ModelFiles

WORDS = "--steps 4 --device cpu --quiet --checkpoint-every 0.0001s"


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture
def place(tool):
    folder = tool.folder()
    pd.DataFrame({"x": np.arange(60.0), "y": [1, 2, 2] * 20}).to_csv(folder / "t.csv", index=False)
    return folder


def words(place, *options):
    files = ["-o", place / "m", "--checkpoint", place / "half", "--history", place / "h.csv"]
    return ["fit", place / "t.csv", *files, *shlex.split(WORDS), *options]


def made(place):
    return {path.name: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def killed(*arguments, **options):
    raise Killed


@pytest.mark.parametrize(("owner", "name"), [(TabularDiffusion, "save"), (fit_command, "_write_history")])
def test_a_kill_after_the_training_costs_none_of_it(tool, place, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(Killed):
        tool.run(*words(place))
    monkeypatch.undo()
    assert (place / "half").exists()
    seconds = (
        ModelFiles.of(place / "m").load("cpu")[0].history.seconds if (place / "m/model.safetensors").exists() else 0
    )
    monkeypatch.setattr("cfdg_diffusion.tabular.training._train", killed)  # nothing is left to be trained
    tool.run(*words(place))
    assert sorted(made(place)) == ["format.json", "h.csv", "model.safetensors", "t.csv"]
    finished = ModelFiles.of(place / "m").load("cpu")[0]
    assert seconds in (0, finished.history.seconds)
    monkeypatch.undo()
    whole = TabularDiffusion(device="cpu", settings=finished.settings)
    whole.fit(pd.read_csv(place / "t.csv"), steps=4)
    pd.testing.assert_frame_equal(finished.sample(9, seed=1), whole.sample(9, seed=1))


def test_a_kill_before_the_checkpoint_is_removed_gives_the_same_bytes_again(tool, place, monkeypatch):
    monkeypatch.setattr(fit_command, "_remove", killed)
    with pytest.raises(Killed):
        tool.run(*words(place))
    monkeypatch.undo()
    before = made(place)
    assert "half" in before
    tool.run(*words(place))
    assert made(place) == {name: content for name, content in before.items() if name != "half"}
    assert "exists already" in tool.run(*words(place), status=2).err


def test_a_full_disk_at_the_end_of_a_fit_keeps_its_training(tool, place, small_files):
    real = TabularDiffusion.save

    def full(model, path):
        with small_files(2000):
            real(model, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TabularDiffusion, "save", full)
        assert "model.safetensors" in tool.run(*words(place), status=2).err
    assert sorted(made(place)) == ["half", "t.csv"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfdg_diffusion.tabular.training._train", killed)
        tool.run(*words(place))
    assert sorted(made(place)) == ["format.json", "h.csv", "model.safetensors", "t.csv"]


def test_the_model_of_another_fit_is_not_replaced_without_force(tool, place, monkeypatch):
    monkeypatch.setattr(ModelFiles, "save", killed)
    with pytest.raises(Killed):
        tool.run(*words(place))
    monkeypatch.undo()
    tool.fit(place / "t.csv", place / "m", "--seed", "1")
    before = made(place)
    assert "is not the model of" in tool.run(*words(place), status=2).err
    assert made(place) == before
    tool.run(*words(place, "--force"))
    assert "half" not in made(place)


def test_a_table_of_constants_leaves_the_file_alone_that_it_has_no_use_for(tool, place):
    pd.DataFrame({"x": [1.5] * 60}).to_csv(place / "t.csv", index=False)
    (place / "half").write_text("own notes")
    told = tool.run(*words(place), status=2).err
    assert "half" in told
    assert (place / "half").read_text() == "own notes"
