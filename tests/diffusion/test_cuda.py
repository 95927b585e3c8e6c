"""Models on a GPU: they move to a CPU and back, give what a CPU gives, and train without waiting for the host."""

import numpy as np
import pandas as pd
import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, TabularDiffusion, TabularSettings
from cfdg_diffusion.edm import replay

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")

SMALL = DiffusionSettings(width=32, blocks=2, batch_size=128, sampling_steps=8, precision="fp32", gaussian_rows=0)


def rows_and_labels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (4000,), generator=generator)
    rows = torch.randn(4000, 3, generator=generator) * 0.3 + labels[:, None]
    return rows, labels


def fitted(device, **changes):
    model = ConditionalDiffusion(3, 2, seeds=(1, 2), settings=SMALL, device=device, **changes)
    model.fit(*rows_and_labels(), steps=300)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted("cuda")


def test_rows_follow_their_labels_as_on_the_cpu(model):
    labels = torch.arange(2000) % 2
    for device_model in (model, fitted("cpu")):
        rows = device_model.sample(labels, guidance_weight=0.0).cpu()
        for label in (0, 1):
            mean = rows[:, labels == label].mean((1, 2))
            assert torch.allclose(mean, torch.full((2,), float(label)), atol=0.12)


def test_the_weights_draw_the_same_rows_on_both_devices(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    there = ConditionalDiffusion.load(tmp_path / "model.safetensors", device="cuda")
    here = ConditionalDiffusion.load(tmp_path / "model.safetensors", device="cpu")
    labels = torch.arange(512) % 2
    noise = torch.randn(2, 512, 3, generator=torch.Generator().manual_seed(3))

    class Fixed:
        def normal(self, *shape):
            return noise

    class FixedThere:
        def normal(self, *shape):
            return noise.cuda()

    expected = here.sample(labels, guidance_weight=0.5, streams=Fixed())
    found = there.sample(labels, guidance_weight=0.5, streams=FixedThere())
    torch.testing.assert_close(found.cpu(), expected, atol=2e-3, rtol=2e-3)


def test_the_same_seed_draws_the_same_rows(model):
    labels = torch.arange(256) % 2
    first = model.sample(labels, streams=model.sampling_streams((5, 6)))
    assert torch.equal(model.sample(labels, streams=model.sampling_streams((5, 6))), first)


def test_a_fit_goes_on_from_a_state_of_the_cpu(tmp_path):
    here = fitted("cpu")
    here.save(tmp_path / "model.safetensors")
    there = ConditionalDiffusion.load(tmp_path / "model.safetensors", device="cuda")
    rows, labels = rows_and_labels()
    before = there.held_out_loss(rows, labels)
    torch.testing.assert_close(before.cpu(), here.held_out_loss(rows, labels), rtol=0.1, atol=0.02)
    there.fit(rows, labels, steps=100)
    assert (there.held_out_loss(rows, labels) < before + 0.05).all()


def test_gradient_steps_do_not_wait_for_the_gpu(no_waiting):
    model = ConditionalDiffusion(3, 2, seeds=(1, 2), settings=SMALL, device="cuda")
    training = model.training(*(part.cuda() for part in rows_and_labels()), steps=20)
    for _ in range(3):
        next(training)
    with no_waiting():
        for _ in range(10):
            next(training)


def test_a_replayed_fit_equals_an_eager_one(monkeypatch):
    def losses():
        model = ConditionalDiffusion(3, 2, seeds=(1, 2), settings=SMALL, device="cuda")
        return torch.stack([loss for _, loss in model.training(*rows_and_labels(), steps=20)])

    quick = losses()
    assert (quick[5:] != quick[4]).all()  # every replay draws anew
    monkeypatch.setattr(replay, "_WARM_UP", 100)
    torch.testing.assert_close(quick, losses(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_table_is_fitted_saved_and_sampled_elsewhere(tmp_path, precision):
    generator = np.random.default_rng(0)
    kind = generator.integers(3, size=2000)
    table = pd.DataFrame({"x": kind + 0.1 * generator.standard_normal(2000), "kind": np.array(list("abc"))[kind]})
    settings = TabularSettings(diffusion=DiffusionSettings(width=64, blocks=2, precision=precision, batch_size=256))
    model = TabularDiffusion(settings=settings, device="auto").fit(table, label="kind", steps=600)
    assert model.device == "cuda" or str(model.device).startswith("cuda")
    model.save(tmp_path / "model.safetensors")
    here = TabularDiffusion.load(tmp_path / "model.safetensors", device="cpu")
    for one in (model, here):
        made = one.sample(600, label="b", seed=1)
        assert (made["kind"] == "b").all()
        assert abs(made["x"].mean() - 1) < 0.15
    holes = table.head(50).assign(kind=None)
    assert set(model.impute(holes, seed=0)["kind"]) <= set("abc")
