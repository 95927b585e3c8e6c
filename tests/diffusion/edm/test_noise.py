import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_diffusion.edm.noise import c_in, c_noise, c_out, c_skip, log_normal_sigma, quantile_sigmas

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


def test_the_noise_label_is_a_quarter_of_the_logarithm():
    assert float(c_noise(torch.tensor(math.e**2))) == pytest.approx(0.5)


def test_noise_levels_are_log_normal():
    levels = log_normal_sigma(torch.randn(200_000, generator=torch.Generator().manual_seed(0))).log()
    assert float(levels.mean()) == pytest.approx(-1.2, abs=0.01)
    assert float(levels.std()) == pytest.approx(1.2, abs=0.01)


def test_quantiles_of_the_noise_levels_cut_the_distribution_into_equal_parts():
    levels = quantile_sigmas(4, p_mean=0.5, p_std=2.0).double().log()
    below = torch.special.ndtr((levels - 0.5) / 2.0)
    torch.testing.assert_close(below, torch.tensor([1, 3, 5, 7]).double() / 8)
