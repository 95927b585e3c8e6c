"""Files of format version 1: they load, and give the rows that the version which wrote them drew."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, Range, TabularDiffusion, TabularSettings, storage
from cfdg_diffusion.storage import leaves
from cfdg_diffusion.tabular import training

FOLDER = Path(__file__).with_name("version_1")
TINY = DiffusionSettings(
    width=8, blocks=1, batch_size=16, sampling_steps=4, precision="fp32", gaussian_rows=500, guidance_weight=0.0
)
LINE = pd.DataFrame({"x": np.linspace(0, 1, 60) ** 2})


def test_a_model_of_arrays():
    model = ConditionalDiffusion.load(FOLDER / "arrays.safetensors")
    assert (model.settings.fourier_octaves, model.seeds, model.raw_columns) == (2, (5,), (1,))
    np.testing.assert_array_equal(model.categories[0].codes, np.eye(3))
    expected = torch.from_numpy(np.loadtxt(FOLDER / "arrays.csv", delimiter=",")).float()
    torch.testing.assert_close(model.sample(torch.arange(6) % 2), expected, atol=1e-3, rtol=1e-3)


def test_a_model_of_a_table():
    model = TabularDiffusion.load(FOLDER / "table.safetensors", device="cpu")
    assert model.settings == TabularSettings(diffusion=TINY)
    assert model.constraints == (Range("n", 0),)
    assert model.history.steps[-1] == 40
    expected = pd.read_csv(FOLDER / "table.csv", parse_dates=["day"])
    expected["day"] = expected["day"].astype("datetime64[s]")
    found = model.sample(12, seed=1)
    found["day"] = found["day"].astype("datetime64[s]")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("load", [ConditionalDiffusion.load, TabularDiffusion.load])
def test_a_model_that_is_saved_again_is_the_same(tmp_path, load):
    kind = "arrays" if load == ConditionalDiffusion.load else "table"
    old = load(FOLDER / f"{kind}.safetensors", device="cpu")
    old.save(tmp_path / "new")
    new = load(tmp_path / "new", device="cpu")
    if kind == "table":
        pd.testing.assert_frame_equal(new.sample(9, seed=2), old.sample(9, seed=2))
    else:
        assert torch.equal(new.sample(torch.zeros(9).long()), old.sample(torch.zeros(9).long()))


def test_a_checkpoint_is_continued(tmp_path, monkeypatch):
    path = tmp_path / "fit.checkpoint"
    shutil.copy(FOLDER / "fit.checkpoint", path)
    rows = storage.load(path)["run"]["rows"]
    monkeypatch.setattr(training, "digest", lambda *arrays: rows)  # which may differ in the last bit between machines
    looks = []
    model = TabularDiffusion(seed=3, settings=TabularSettings(diffusion=TINY), device="cpu")
    whole = TabularDiffusion(seed=3, settings=TabularSettings(diffusion=TINY), device="cpu").fit(LINE, steps=50)
    model.fit(LINE, steps=50, checkpoint=path, callback=lambda history: looks.append(history.steps[-1]))
    assert looks[0] == 5
    np.testing.assert_allclose(model.history.losses, whole.history.losses, rtol=1e-3)
    np.testing.assert_allclose(model.history.held_out, whole.history.held_out, rtol=1e-3)
    assert not path.exists()


def test_a_state_by_dotted_names():
    model, again = ConditionalDiffusion(3, 2), ConditionalDiffusion(3, 2, seeds=(1,))
    again.load_state_dict(leaves(model.state_dict()))
    assert torch.equal(again.state_dict()["learner"]["weights"], model.state_dict()["learner"]["weights"])
