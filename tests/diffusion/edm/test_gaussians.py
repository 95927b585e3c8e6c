"""A Gaussian for each label: closed forms, what a few rows may tell, and the model that begins there."""

import numpy as np
import pandas as pd
import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, TabularDiffusion
from cfdg_diffusion.edm.gaussians import LabelGaussians
from cfdg_diffusion.edm.noise import c_skip

MEANS = torch.tensor([[-2.0, 0.0, 1.0], [3.0, 1.0, -1.0]])
FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.3, -0.5, 0.4]])
COVARIANCE = FACTOR @ FACTOR.T
FEW = DiffusionSettings(width=16, blocks=1, batch_size=64, steps=1, learning_rate=1e-6, gaussian_rows=2000)


def draw(count, seed=0):
    """Rows ``(1, 2 count, 3)`` of two Gaussians, and their labels."""
    labels = torch.arange(2).repeat_interleave(count)
    noise = torch.randn(2 * count, 3, generator=torch.Generator().manual_seed(seed))
    return (MEANS[labels] + noise @ FACTOR.T)[None], labels[None]


def test_means_and_the_covariance_within_labels_are_found():
    found = LabelGaussians.measure(*draw(50_000), num_labels=2)
    torch.testing.assert_close(found.mean[0, :2], MEANS, atol=0.02, rtol=0)
    covariance = found.axes[0] @ torch.diag(found.variance[0, 0]) @ found.axes[0].T
    torch.testing.assert_close(covariance, COVARIANCE, atol=0.02, rtol=0)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 80.0])
def test_the_denoiser_is_the_posterior_mean_of_the_gaussian(sigma):
    rows, labels = draw(1000)
    found = LabelGaussians.measure(rows, labels, num_labels=2)
    x, told = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(1)) * 4, torch.arange(40)[None] % 2
    denoised = found.denoise(x, torch.full((1, 1), sigma), told)
    for label in range(2):
        covariance = found.axes[0] @ torch.diag(found.variance[0, label]) @ found.axes[0].T
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(3))
        mean, mine = found.mean[0, label], x[0, told[0] == label]
        posterior = mean + (mine - mean) @ gain.T
        torch.testing.assert_close(denoised[0, told[0] == label], posterior, atol=1e-4, rtol=1e-4)


def test_the_null_label_has_the_skip_connection_of_edm():
    found = LabelGaussians.measure(*draw(100), num_labels=2)
    x, sigma = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1)), torch.linspace(0.01, 10, 5)[None]
    null = torch.full((1, 5), 2)
    torch.testing.assert_close(found.denoise(x, sigma, null), c_skip(sigma)[..., None] * x, atol=1e-6, rtol=1e-5)


def test_a_label_of_a_single_row_is_not_that_row():
    rows = torch.eye(4)[None] * 8
    found = LabelGaussians.measure(rows, torch.arange(4)[None], num_labels=5)
    torch.testing.assert_close(found.mean[0, :4], rows[0] / 2 + 1)  # half way to the mean of all, which is 2
    torch.testing.assert_close(found.mean[0, 4], torch.full((4,), 2.0))
    assert bool((found.variance > 0.5).all())


def test_each_label_has_its_own_variances_along_shared_axes():
    """One label is three times as wide as the other; of few rows the widths are drawn towards each other."""
    rows, labels = draw(50_000)
    wide = MEANS[labels] + (rows - MEANS[labels]) * torch.where(labels == 1, 3.0, 1.0)[..., None]
    found = LabelGaussians.measure(wide, labels, num_labels=2)
    for label, size in ((0, 1.0), (1, 9.0)):
        covariance = found.axes[0] @ torch.diag(found.variance[0, label]) @ found.axes[0].T
        torch.testing.assert_close(covariance, size * COVARIANCE, atol=0.05 * size, rtol=0)
    few = torch.cat([torch.arange(8), 50_000 + torch.arange(8)])
    drawn = LabelGaussians.measure(wide[:, few], labels[:, few], num_labels=2).variance[0]
    assert float((drawn[1] / drawn[0]).log().mean().exp()) < 4


def test_a_label_without_rows_has_the_variances_of_all():
    rows, labels = draw(500)
    found = LabelGaussians.measure(rows, labels, num_labels=3)
    torch.testing.assert_close(found.variance[0, 2], found.variance[0, :2].mean(0), atol=0, rtol=0.2)


def test_replicas_with_their_own_rows_are_measured_apart():
    first, second = draw(200, seed=1), draw(200, seed=2)
    both = LabelGaussians.measure(*(torch.cat(parts) for parts in zip(first, second, strict=True)), num_labels=2)
    alone = LabelGaussians.measure(*second, num_labels=2)
    torch.testing.assert_close(both.mean[1:], alone.mean)
    torch.testing.assert_close(both.variance[1:], alone.variance, atol=1e-5, rtol=1e-5)


def test_an_untrained_network_generates_the_gaussians():
    rows, labels = draw(500)
    model = ConditionalDiffusion(3, 2, settings=FEW)
    model.fit(rows[0], labels[0])
    for label in range(2):
        made, real = model.sample(torch.full((4000,), label)), rows[0, labels[0] == label]
        torch.testing.assert_close(made.mean(0), real.mean(0), atol=0.15, rtol=0)
        torch.testing.assert_close(torch.corrcoef(made.T), torch.corrcoef(real.T), atol=0.08, rtol=0)


def test_many_rows_begin_from_edms_skip_connection():
    rows, labels = draw(1000)
    model = ConditionalDiffusion(3, 2, settings=FEW)
    model.fit(rows[0], labels[0])
    assert "gaussians" not in model.state_dict()


def test_the_gaussians_are_saved_and_restored(tmp_path):
    rows, labels = draw(100)
    model = ConditionalDiffusion(3, 2, settings=FEW)
    model.fit(rows[0], labels[0])
    model.save(tmp_path / "model")
    assert torch.equal(ConditionalDiffusion.load(tmp_path / "model").sample(labels[0]), model.sample(labels[0]))


def test_gaussians_of_another_size_are_refused():
    rows, labels = draw(100)
    model = ConditionalDiffusion(3, 2, settings=FEW)
    model.fit(rows[0], labels[0])
    state = model.state_dict()
    state["gaussians"]["axes"] = torch.eye(4)[None]
    with pytest.raises(ValueError, match=r"'gaussians\.axes' has shape"):
        model.load_state_dict(state)


def test_a_later_fit_keeps_the_gaussians_of_the_first_until_a_reset():
    rows, labels = draw(100)
    model = ConditionalDiffusion(3, 2, settings=FEW)
    model.fit(rows[0], labels[0])
    before = model.state_dict()["gaussians"]["mean"]
    model.fit(rows[0, :150] + 1, labels[0, :150])
    assert torch.equal(model.state_dict()["gaussians"]["mean"], before)
    model.reset()
    model.fit(rows[0, :150], labels[0, :150])
    assert not torch.equal(model.state_dict()["gaussians"]["mean"], before)


def test_a_table_that_grows_beyond_a_few_rows_is_trained_on():
    rng = np.random.default_rng(0)

    def table(count):
        x = rng.normal(size=count)
        return pd.DataFrame({"x": x, "y": 2 * x + rng.normal(size=count), "z": rng.choice(list("ab"), count)})

    model = TabularDiffusion().fit(table(300), label="z", steps=30)
    model.fit(table(3000), label="z", steps=30, warm_start=True)
    assert model.sample(50, seed=1)["x"].between(-6, 6).all()


def test_dependence_between_numbers_is_there_after_a_few_steps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    table = pd.DataFrame({"x": x, "y": -x + 0.2 * rng.normal(size=200)})
    made = TabularDiffusion().fit(table, steps=3).sample(2000, seed=0)
    assert made["x"].corr(made["y"]) < -0.9
