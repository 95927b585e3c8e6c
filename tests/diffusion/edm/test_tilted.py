"""Guidance by an energy: a Gaussian tilted into another one of known mean and deviation."""

import numpy as np
import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.edm.guidance import tilted
from cfdg_diffusion.edm.sampler import dpm_solver_2m, heun, karras_sigmas

MEAN, STD = 1.0, 0.5  # of the target; the model's own density is the standard normal


def denoise(x, sigma):
    return x / (1 + sigma[..., None] ** 2)


def energy_gradient(x, sigma):
    """Of E = -log q/p, both noised: N(1, 0.25 + sigma^2) and N(0, 1 + sigma^2)."""
    level = sigma[..., None] ** 2
    return (x - MEAN) / (STD**2 + level) - x / (1 + level)


@pytest.mark.parametrize("solver", [heun, dpm_solver_2m])
def test_a_closed_form_energy_turns_one_gaussian_into_another(solver):
    noise = torch.randn(1, 20_000, 1, generator=torch.Generator().manual_seed(0))
    sigmas = karras_sigmas(40)
    rows = solver(tilted(denoise, energy_gradient), noise * float(sigmas[0]), sigmas)
    assert float(rows.mean()) == pytest.approx(MEAN, rel=0.03)
    assert float(rows.std()) == pytest.approx(STD, rel=0.03)


def test_one_step_is_that_of_a_hand_computation():
    x = torch.tensor([[[2.0], [-1.0]]], dtype=torch.float64)
    sigmas = torch.tensor([3.0, 1.2], dtype=torch.float64)
    values = x.numpy().copy()

    def slope(value, sigma):
        energy = (value - MEAN) / (STD**2 + sigma**2) - value / (1 + sigma**2)
        return (value - value / (1 + sigma**2)) / sigma + sigma * energy

    ahead = values + (1.2 - 3.0) * slope(values, 3.0)
    expected = values + (1.2 - 3.0) / 2 * (slope(values, 3.0) + slope(ahead, 1.2))
    found = heun(tilted(denoise, energy_gradient), x, sigmas)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)


def test_the_model_samples_from_the_tilted_density_in_its_own_space():
    settings = DiffusionSettings(width=32, blocks=1, steps=400, sampling_steps=20, precision="fp32")
    model = ConditionalDiffusion(2, 1, seeds=(0, 1), settings=settings)
    rows = 10 + 4 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2000, dtype=torch.long)
    model.fit(rows, labels)
    plain = model.sample(labels, guidance_weight=0.0)

    def gradient(x, sigma):
        assert x.shape == (2, 2000, 2)
        return energy_gradient(x, sigma) * torch.tensor([1.0, 0.0])

    drawn = model.normaliser.encode(model.sample(labels, guidance_weight=0.0, energy_gradient=gradient))
    assert float(drawn[..., 0].mean()) == pytest.approx(MEAN, abs=0.15)
    assert float(drawn[..., 0].std()) == pytest.approx(STD, abs=0.15)
    untouched = model.normaliser.encode(plain)[..., 1]
    assert float(drawn[..., 1].mean()) == pytest.approx(float(untouched.mean()), abs=0.1)
    assert float(drawn[..., 1].std()) == pytest.approx(float(untouched.std()), abs=0.1)
