import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_diffusion.edm.noise import (
    c_in,
    c_noise,
    c_out,
    c_skip,
    denoising_loss,
    log_normal_sigma,
    loss_weight,
    precondition,
)

sigmas = st.floats(1e-3, 1e2).map(lambda value: torch.tensor(value, dtype=torch.float64))
scales = st.floats(0.1, 3.0)


@settings(deadline=None)
@given(sigmas, scales)
def test_the_input_of_the_network_has_unit_variance(sigma, sigma_data):
    assert float(c_in(sigma, sigma_data) ** 2 * (sigma**2 + sigma_data**2)) == pytest.approx(1)


@settings(deadline=None)
@given(sigmas, scales)
def test_the_target_of_the_network_has_unit_variance(sigma, sigma_data):
    skip, out = c_skip(sigma, sigma_data), c_out(sigma, sigma_data)
    variance = ((1 - skip) ** 2 * sigma_data**2 + skip**2 * sigma**2) / out**2  # EDM equation 127
    assert float(variance) == pytest.approx(1)


@settings(deadline=None)
@given(sigmas, scales)
def test_the_skip_share_minimises_the_output_scale(sigma, sigma_data):
    def scale(skip):
        return (1 - skip) ** 2 * sigma_data**2 + skip**2 * sigma**2

    skip = c_skip(sigma, sigma_data)
    assert float(scale(skip)) == pytest.approx(float(c_out(sigma, sigma_data) ** 2))
    assert scale(skip * 1.01) > scale(skip)
    assert scale(skip * 0.99) > scale(skip)


@settings(deadline=None)
@given(sigmas, scales)
def test_the_loss_weight_undoes_the_output_scale(sigma, sigma_data):
    assert float(loss_weight(sigma, sigma_data) * c_out(sigma, sigma_data) ** 2) == pytest.approx(1)


def test_the_noise_label_is_a_quarter_of_the_logarithm():
    assert float(c_noise(torch.tensor(math.e**2))) == pytest.approx(0.5)


def test_noise_levels_are_log_normal():
    levels = log_normal_sigma(torch.randn(200_000, generator=torch.Generator().manual_seed(0))).log()
    assert float(levels.mean()) == pytest.approx(-1.2, abs=0.01)
    assert float(levels.std()) == pytest.approx(1.2, abs=0.01)


def test_a_network_of_zeros_loses_one_on_data_of_unit_variance():
    generator = torch.Generator().manual_seed(0)
    clean, normal = torch.randn(2, 4, 50_000, 3, generator=generator)
    sigma = log_normal_sigma(torch.randn(4, 50_000, generator=generator))
    loss = denoising_loss(precondition(lambda x, noise: torch.zeros_like(x)), clean, sigma, normal)
    assert loss.shape == (4,)
    torch.testing.assert_close(loss, torch.ones(4), atol=0.02, rtol=0)


def test_the_exact_denoiser_of_a_gaussian_reaches_its_known_loss():
    generator = torch.Generator().manual_seed(1)
    clean = 0.7 * torch.randn(200_000, 2, generator=generator)
    normal = torch.randn(200_000, 2, generator=generator)
    sigma = torch.full((200_000,), 0.5)
    loss = denoising_loss(lambda x, level: x * 0.49 / (0.49 + level[:, None] ** 2), clean, sigma, normal)
    remaining = 0.49 * 0.25 / (0.49 + 0.25)  # posterior variance
    assert float(loss) == pytest.approx(remaining * float(loss_weight(sigma[0])), rel=0.01)


def test_replicas_do_not_see_each_other():
    generator = torch.Generator().manual_seed(0)
    clean, normal = torch.randn(2, 3, 8, 5, generator=generator)
    sigma = torch.rand(3, 8, generator=generator) + 0.1
    together = denoising_loss(lambda x, level: x / 2, clean, sigma, normal)
    apart = [denoising_loss(lambda x, level: x / 2, clean[r], sigma[r], normal[r]) for r in range(3)]
    torch.testing.assert_close(together, torch.stack(apart))
