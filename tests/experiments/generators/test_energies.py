"""Energies by noise-contrastive estimation: the loss by hand, a known density ratio, and replicas of their own."""

import numpy as np
import pytest
import torch

from cfdg_diffusion.edm.streams import Streams as WeightStreams
from cfdg_experiments.generators.energies import (
    Contrast,
    Energy,
    EnergySettings,
    contrastive_loss,
    train_energy,
)
from cfdg_rl.streams import Streams

SMALL = EnergySettings(width=32, learning_rate=1e-2, batch_size=512, negatives=5)
TINY = EnergySettings(width=8, batch_size=16, negatives=2)


def gaussians(shift=1.0, std=0.5, rows=20_000):
    rng = torch.Generator().manual_seed(0)
    return shift + std * torch.randn(1, rows, 1, generator=rng), torch.randn(1, rows, 1, generator=rng)


def trained(positive, negative, steps, settings=SMALL):
    energy = Energy(1, WeightStreams((0,), "weights"), settings)
    accuracy = train_energy(energy, Contrast([0], positive, negative), Streams((0,), "draws"), steps)
    return energy, float(accuracy)


def test_the_loss_is_that_of_a_float64_hand_computation():
    rng = np.random.default_rng(0)
    positive = rng.normal(size=(2, 5))
    negative = rng.normal(size=(2, 5, 3))
    share = np.exp(-positive) / (np.exp(-positive) + np.exp(-negative).sum(-1))
    found = contrastive_loss(torch.from_numpy(positive), torch.from_numpy(negative))
    np.testing.assert_allclose(found.numpy(), -np.log(share).mean(1), rtol=1e-14)


def test_the_networks_inputs_are_those_of_a_float64_hand_computation():
    """What the network reads: z scaled to clean rows, and ln(sigma) / 4."""
    energy = Energy(1, WeightStreams((0,), "weights"), TINY)
    flat = torch.randn(1, energy.network.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3
    z = torch.tensor([[[0.7], [-2.0]]], dtype=torch.float64)
    sigma = torch.tensor([[0.5, 3.0]], dtype=torch.float64)
    found = energy(flat, z, sigma)
    twin = energy.network(
        energy.network.unpack(flat, torch.float64),
        z / torch.sqrt(1 + sigma**2)[..., None],
        torch.log(sigma) / 4,
        torch.zeros(1, 2, dtype=torch.long),
    )
    torch.testing.assert_close(found, twin[..., 0], rtol=1e-12, atol=0)


def test_the_gradient_is_that_of_the_known_density_ratio_within_ten_per_cent():
    energy, accuracy = trained(*gaussians(), steps=1000)
    assert accuracy > 0.6
    missed = total = 0.0
    rng = torch.Generator().manual_seed(1)
    for level in (0.05, 0.2, 0.5, 1.0, 2.0, 5.0):
        z = 1 + (0.25 + level**2) ** 0.5 * torch.randn(1, 4000, 1, generator=rng)
        truth = (z - 1) / (0.25 + level**2) - z / (1 + level**2)
        found = energy.gradient(z, torch.full((1, 1), level))
        missed += float((level * (found - truth)).square().mean())
        total += float((level * truth).square().mean())
    assert (missed / total) ** 0.5 < 0.1


def test_equal_densities_have_no_energy():
    energy, accuracy = trained(*gaussians(shift=0.0, std=1.0), steps=400)
    rng = torch.Generator().manual_seed(1)
    for level in (0.2, 1.0, 5.0):
        z = (1 + level**2) ** 0.5 * torch.randn(1, 2000, 1, generator=rng)
        guidance = level * energy.gradient(z, torch.full((1, 1), level))
        assert float(guidance.square().mean().sqrt()) < 0.1
    assert accuracy == pytest.approx(0.5, abs=0.03)


def test_an_untrained_energy_is_zero():
    energy = Energy(3, WeightStreams((0, 1), "weights"), TINY)
    assert not energy.gradient(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)), torch.ones(1, 1)).any()


def test_negatives_of_their_own_stay_with_their_positive_and_a_tenth_is_held_out():
    positive = torch.arange(40.0).reshape(1, 40, 1).expand(2, -1, -1)
    contrast = Contrast([0], positive, positive[:, :, None].expand(-1, -1, 3, -1) + 0.25)
    for held_out, low, high in ((False, 0, 35), (True, 36, 39)):
        near, far = contrast.draw(Streams((0, 1), "draws"), torch.full((2, 200), 1e-9), 99, held_out)
        torch.testing.assert_close(far, near[:, :, None].expand(-1, -1, 3, -1) + 0.25)
        assert (near.min().round(), near.max().round()) == (low, high)


def test_a_replica_learns_alone_and_restarts_alone():
    positive, negative = gaussians(rows=200)
    both = Energy(1, WeightStreams((0, 1), "weights"), TINY)
    train_energy(
        both, Contrast([0], positive.expand(2, -1, -1), negative.expand(2, -1, -1)), Streams((0, 1), "draws"), 20
    )
    alone = Energy(1, WeightStreams((1,), "weights"), TINY)
    train_energy(alone, Contrast([0], positive, negative), Streams((1,), "draws"), 20)
    torch.testing.assert_close(both.learner.weights[1:], alone.learner.weights)
    before = both.learner.weights.detach().clone()
    both.restart(torch.tensor([True, False]))
    assert torch.equal(both.learner.weights[1], before[1])
    assert not torch.equal(both.learner.weights[0], before[0])
    assert not both.gradient(torch.ones(2, 1, 1), torch.ones(1, 1))[0].any()


def test_a_setting_of_zero_is_refused():
    with pytest.raises(ValueError, match="negatives is 0, expected at least 1"):
        EnergySettings(negatives=0)
