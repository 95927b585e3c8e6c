import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_diffusion import drop_labels, guided

NULL = 2
LABELS = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]])
X = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
SIGMA = torch.rand(2, 4, generator=torch.Generator().manual_seed(1)) + 0.5


class Recorder:
    """A denoiser that depends on all of its inputs and remembers how many rows each call had."""

    def __init__(self):
        self.rows = []

    def __call__(self, x, sigma, labels):
        self.rows.append(x.shape[-2])
        return x.sin() / sigma[..., None] + (labels[..., None] - 0.5) ** 2


def test_weight_zero_is_the_conditional_model_on_n_rows():
    recorder = Recorder()
    result = guided(recorder, LABELS, 0.0, NULL)(X, SIGMA)
    assert torch.equal(result, Recorder()(X, SIGMA, LABELS))
    assert recorder.rows == [4]


def test_other_weights_need_one_call_of_twice_the_rows():
    recorder = Recorder()
    guided(recorder, LABELS, 1.0, NULL)(X, SIGMA)
    assert recorder.rows == [8]


@settings(deadline=None)
@given(st.floats(-3, 8))
def test_guidance_is_affine_in_its_weight(weight):
    conditional = Recorder()(X, SIGMA, LABELS)
    unconditional = Recorder()(X, SIGMA, torch.full_like(LABELS, NULL))
    result = guided(Recorder(), LABELS, weight, NULL)(X, SIGMA)
    torch.testing.assert_close(result, (1 + weight) * conditional - weight * unconditional, atol=1e-4, rtol=1e-4)


def test_weight_minus_one_is_the_unconditional_model():
    unconditional = Recorder()(X, SIGMA, torch.full_like(LABELS, NULL))
    torch.testing.assert_close(guided(Recorder(), LABELS, -1.0, NULL)(X, SIGMA), unconditional)


@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_one_shared_noise_level_equals_the_same_level_for_each_row(weight):
    denoise = guided(Recorder(), LABELS, weight, NULL)
    torch.testing.assert_close(denoise(X, torch.full((1, 1), 0.3)), denoise(X, torch.full((2, 4), 0.3)))


@settings(deadline=None)
@given(st.floats(0, 1))
def test_labels_are_dropped_with_the_probability_asked_for(p_uncond):
    uniform = torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20_000).expand(4, -1) % NULL
    dropped = drop_labels(labels, p_uncond, NULL, uniform)
    assert float((dropped == NULL).float().mean()) == pytest.approx(p_uncond, abs=0.01)
    kept = dropped != NULL
    assert torch.equal(dropped[kept], labels[kept])


@pytest.mark.parametrize(("p_uncond", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_never_and_always_dropping_are_exact(p_uncond, share):
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert (drop_labels(torch.zeros(3, dtype=torch.long), p_uncond, 1, uniform) == 1).float().mean() == share


def test_guided_columns_leave_the_others_to_the_conditional_model():
    conditional = guided(Recorder(), LABELS, 0.0, NULL)(X, SIGMA)
    everywhere = guided(Recorder(), LABELS, 1.5, NULL)(X, SIGMA)
    mask = torch.tensor([True, False, True])
    some = guided(Recorder(), LABELS, 1.5, NULL, columns=mask)(X, SIGMA)
    torch.testing.assert_close(some[..., mask], everywhere[..., mask])
    torch.testing.assert_close(some[..., ~mask], conditional[..., ~mask])
    per_row = guided(Recorder(), LABELS, torch.full((2, 4), 1.5), NULL, columns=mask)(X, SIGMA)
    torch.testing.assert_close(per_row, some)
