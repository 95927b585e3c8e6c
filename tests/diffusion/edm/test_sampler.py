import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_diffusion import Churn, dpm_solver_2m, heun, karras_sigmas, leap_sigmas

SPREAD = 0.7
SAMPLERS = [heun, dpm_solver_2m]


def gauss(x, sigma):
    """The exact denoiser of N(0, 0.7^2)."""
    return x * SPREAD**2 / (SPREAD**2 + sigma[..., None] ** 2)


def exact(x, start, end):
    """The exact flow of the probability-flow ODE for N(0, 0.7^2) from noise level ``start`` to ``end``."""
    return x * math.sqrt((SPREAD**2 + end**2) / (SPREAD**2 + start**2))


def order(sampler, sigmas_of, steps):
    errors = []
    for count in (steps, 2 * steps, 4 * steps):
        sigmas = sigmas_of(count)
        x = torch.full((1, 1), float(sigmas[0]), dtype=torch.float64)
        errors.append(abs(float(sampler(gauss, x, sigmas) - exact(x, float(sigmas[0]), float(sigmas[-1])))))
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


def test_schedule_has_the_published_levels():
    sigmas = karras_sigmas(128)
    levels = {0: 80, 16: 38.785, 32: 17.2952, 64: 2.42792, 96: 0.156997, 112: 0.0231212, 127: 0.002, 128: 0}
    for index, level in levels.items():
        assert float(sigmas[index]) == pytest.approx(level, rel=1e-5)


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(1e-3, 0.1), st.floats(1.0, 100.0))
def test_schedule_falls_from_the_highest_level_to_zero(steps, low, high):
    sigmas = karras_sigmas(steps, low, high)
    assert len(sigmas) == steps + 1
    assert (sigmas.diff() < 0).all()
    assert float(sigmas[0]) == pytest.approx(high)
    assert float(sigmas[-1]) == 0


@pytest.mark.parametrize("wrong", [(0,), (10, 0.0), (10, 2.0, 1.0)])
def test_schedule_refuses_what_is_no_schedule(wrong):
    with pytest.raises(ValueError, match="expected steps >= 1 and 0 < sigma_min < sigma_max"):
        karras_sigmas(*wrong)


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_a_leap_is_the_first_step_of_as_many(steps):
    sigmas = leap_sigmas(steps, 0.02, 80.0, 7.0, leap=10.0)
    assert len(sigmas) == steps + 1
    assert (sigmas.diff() < 0).all()
    assert sigmas[[0, -1]].tolist() == [pytest.approx(80), 0]
    if steps > 1:
        torch.testing.assert_close(sigmas[1:], karras_sigmas(steps - 1, 0.02, 10.0))


@pytest.mark.parametrize("leap", [0.01, 80.0])
def test_a_leap_ends_between_the_levels(leap):
    with pytest.raises(ValueError, match=r"leap is .*, expected a noise level between 0.02 and 80"):
        leap_sigmas(10, 0.02, 80.0, 7.0, leap)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_after_a_leap_rows_are_around_their_mean_where_a_low_start_leaves_them_short_of_it(sampler):
    """Rows of N(3, 0.7^2): a start around 0 at sigma = 10 ends 0.7 x 3 / 10 short of the mean, from 80 an eighth."""

    def denoise(x, sigma):
        return 3 + gauss(x - 3, sigma)

    def shortfall(sigmas):
        return 3 - float(sampler(denoise, torch.zeros(1, 1, dtype=torch.float64), sigmas))

    assert shortfall(karras_sigmas(200, 0.02, 10.0)) == pytest.approx(0.21, rel=0.05)
    whole = shortfall(karras_sigmas(200, 0.02, 80.0))
    assert whole == pytest.approx(0.21 / 8, rel=0.05)
    assert shortfall(leap_sigmas(200, 0.02, 80.0, 7.0, leap=10.0)) == pytest.approx(whole, rel=0.2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_are_of_second_order(sampler):
    assert order(sampler, lambda steps: karras_sigmas(steps)[:-1], 64) == pytest.approx([2, 2], abs=0.15)


def test_heun_is_of_second_order_down_to_zero():
    assert order(heun, karras_sigmas, 32) == pytest.approx([2, 2], abs=0.2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_are_exact_where_the_data_is_one_point(sampler):
    point = torch.tensor([[1.5, -2.0]])
    x = 80 * torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    rows = sampler(lambda x, sigma: point.expand_as(x), x, karras_sigmas(20))
    torch.testing.assert_close(rows, point.expand(10, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("sampler", "calls"), [(heun, 35), (dpm_solver_2m, 18)])
def test_samplers_call_the_denoiser_as_often_as_they_say(sampler, calls):
    seen = []

    def denoise(x, sigma):
        seen.append(sigma.shape)
        return gauss(x, sigma)

    sampler(denoise, torch.ones(2, 3, 4), karras_sigmas(18))
    assert len(seen) == calls
    assert set(seen) == {(1, 1)}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_treat_leading_axes_alike(sampler):
    x = 80 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = sampler(gauss, x, karras_sigmas(10))
    torch.testing.assert_close(whole[1, 2], sampler(gauss, x[1, 2], karras_sigmas(10)))


def test_churn_keeps_the_exact_marginal():
    generator = torch.Generator().manual_seed(0)
    sigmas = karras_sigmas(256)
    x = 80 * torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    churn = Churn(s_noise=1.0)  # with exact steps any other value would change the marginal

    def normal():
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    rows = heun(gauss, x, sigmas, churn, normal)
    assert float(rows.std()) == pytest.approx(SPREAD, rel=0.01)
    assert float((rows**4).mean() / rows.var() ** 2) == pytest.approx(3, abs=0.1)
    start_to_end = torch.corrcoef(torch.cat([x, rows], dim=1).T)[0, 1]
    assert abs(float(start_to_end)) < 0.05  # it forgot its start, which the deterministic sampler never does


def test_churn_of_zero_is_the_deterministic_sampler():
    x = 80 * torch.ones(3, 2)
    assert torch.equal(heun(gauss, x, karras_sigmas(8), Churn(s_churn=0), lambda: x), heun(gauss, x, karras_sigmas(8)))


def test_churn_is_published_inside_the_band_and_absent_outside():
    churn = Churn()
    assert churn.gamma(1.0, 128) == pytest.approx(math.sqrt(2) - 1)
    assert churn.gamma(1.0, 800) == pytest.approx(0.1)
    assert churn.gamma(50.1, 128) == churn.gamma(0.049, 128) == 0
    assert sum(churn.gamma(float(sigma), 128) > 0 for sigma in karras_sigmas(128)) == 96


def test_churn_without_noise_is_refused():
    with pytest.raises(ValueError, match="churn was given without normal"):
        heun(gauss, torch.ones(1, 1), karras_sigmas(4), Churn())
