import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_diffusion.edm.normaliser import measure

ROWS = torch.randn(1, 500, 3, generator=torch.Generator().manual_seed(0))
EQUAL = torch.full((1, 500), 1 / 500, dtype=torch.float64)


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e4))
def test_columns_come_to_mean_zero_and_deviation_one_and_back(shift, scale):
    rows = ROWS * scale + shift
    normaliser = measure(rows, EQUAL, ())
    encoded = normaliser.encode(rows)
    tolerance = 1e-3 + 1e-6 * abs(shift) / scale
    torch.testing.assert_close(encoded.mean(1), torch.zeros(1, 3), atol=tolerance, rtol=0)
    torch.testing.assert_close(encoded.std(1, correction=0), torch.ones(1, 3), atol=tolerance, rtol=0)
    torch.testing.assert_close(normaliser.decode(encoded), rows, atol=1e-5 * (abs(shift) + scale), rtol=1e-5)


def test_statistics_are_those_of_the_equal_mixture_of_classes():
    rows = torch.tensor([[[0.0], [0.0], [0.0], [4.0]]])
    normaliser = measure(rows, torch.tensor([[1 / 6, 1 / 6, 1 / 6, 1 / 2]], dtype=torch.float64), ())
    torch.testing.assert_close(normaliser.mean, torch.tensor([[2.0]]))
    torch.testing.assert_close(normaliser.std, torch.tensor([[2.0]]))


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e-20])
def test_a_constant_column_is_centred_and_comes_back_exactly(value):
    rows = torch.full((1, 1000, 1), value)
    normaliser = measure(rows, torch.full((1, 1000), 1 / 1000, dtype=torch.float64), ())
    assert normaliser.encode(rows).abs().max() < 1e-3
    noise = torch.randn(1, 50, 1)
    assert torch.equal(normaliser.decode(noise), torch.full((1, 50, 1), value))


def test_raw_columns_are_left_as_they_are():
    normaliser = measure(ROWS * 5 + 2, EQUAL, (1,))
    assert torch.equal(normaliser.encode(ROWS)[..., 1], ROWS[..., 1])
    assert not torch.equal(normaliser.encode(ROWS)[..., 0], ROWS[..., 0])


def test_replicas_have_statistics_of_their_own():
    rows = torch.cat([ROWS, ROWS * 3 + 1])
    both = measure(rows, EQUAL, ())
    for replica in range(2):
        alone = measure(rows[replica : replica + 1], EQUAL, ())
        assert torch.equal(both.mean[replica], alone.mean[0])
        assert torch.equal(both.std[replica], alone.std[0])
