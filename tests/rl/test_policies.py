"""Gaussian policies: densities against torch.distributions and integration, bounds and gradients."""

import math

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from cfdg_rl.agents.networks import StackedMLP
from cfdg_rl.agents.policies import GaussianPolicy, TanhGaussian, gaussian_log_prob
from cfdg_rl.streams import Streams

REPLICAS = 2
OBS = 3
ACTIONS = 2
RANGE = (-5.0, 2.0)


class Given:
    """Noise that is known: every draw is this tensor."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def normal(self, *shape: int) -> torch.Tensor:
        return self.values.expand(-1, *shape)


def constant(network: StackedMLP, *outputs: float) -> None:
    """Make a network answer the same everywhere."""
    with torch.no_grad():
        network.weights[-1].zero_()
        network.biases[-1].copy_(torch.tensor(outputs))


def gaussian() -> GaussianPolicy:
    return GaussianPolicy(StackedMLP([OBS, 8, ACTIONS], Streams((0, 1), "w")), RANGE).double()


def squashed(actions: int = ACTIONS) -> TanhGaussian:
    return TanhGaussian(StackedMLP([OBS, 8, 2 * actions], Streams((0, 1), "w")), RANGE).double()


def observations(count: int = 50) -> torch.Tensor:
    return torch.randn(REPLICAS, count, OBS, generator=torch.Generator().manual_seed(1)).double()


def test_log_density_equals_torchs():
    mean = torch.randn(5, 3)
    log_std = torch.randn(1, 3)
    action = torch.randn(5, 3)
    expected = Normal(mean, log_std.exp()).log_prob(action).sum(-1)
    assert torch.allclose(gaussian_log_prob(action, mean, log_std), expected, atol=1e-5)


def test_the_gaussian_policys_density_is_of_a_gaussian_around_a_tanh_mean():
    policy = gaussian()
    obs = observations()
    with torch.no_grad():
        policy.free_log_std.copy_(torch.tensor([-0.3, 0.4]))
    action = torch.rand(REPLICAS, 50, ACTIONS).double() * 2 - 1
    expected = Normal(policy.network(obs).tanh(), torch.tensor([-0.3, 0.4]).exp()).log_prob(action).sum(-1)
    assert torch.allclose(policy.log_prob(obs, action), expected, atol=1e-6)


def test_a_new_gaussian_policy_has_standard_deviation_one_and_its_range_is_kept():
    policy = gaussian()
    assert (policy.log_std().exp() == 1).all()
    with torch.no_grad():
        policy.free_log_std.copy_(torch.tensor([-9.0, 9.0]))
    assert policy.log_std()[0, 0].tolist() == list(RANGE)


def test_gaussian_samples_have_the_mean_and_deviation_and_are_clipped():
    policy = gaussian()
    obs = torch.zeros(REPLICAS, 20_000, OBS).double()
    constant(policy.network, math.atanh(0.2), math.atanh(0.9))
    with torch.no_grad():
        policy.free_log_std.copy_(torch.tensor([0.1, 0.5]).log())
    drawn = policy.sample(obs, Streams((0, 1), "noise"))
    assert drawn[..., 0].mean().item() == pytest.approx(0.2, abs=0.003)
    assert drawn[..., 0].std().item() == pytest.approx(0.1, rel=0.02)
    beyond = 1 - Normal(0.9, 0.5).cdf(torch.tensor(1.0)).item()
    assert (drawn[..., 1] == 1).double().mean().item() == pytest.approx(beyond, abs=0.01)
    assert drawn.abs().max() == 1


def test_the_squashed_density_equals_torchs_transformed_distribution():
    policy = squashed()
    obs = observations()
    action, log_density = policy.sample(obs, Streams((0, 1), "noise"), 7)
    assert action.shape == (REPLICAS, 50, 7, ACTIONS)
    assert log_density.shape == (REPLICAS, 50, 7)
    mean, log_std = (part.unsqueeze(2) for part in policy.network(obs).chunk(2, -1))
    expected = TransformedDistribution(Normal(mean, log_std.clamp(*RANGE).exp()), TanhTransform()).log_prob(action)
    assert torch.allclose(log_density, expected.sum(-1), atol=1e-9)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -0.5), (0.8, -1.0), (-1.5, 0.3), (0.0, 0.9)])
def test_the_squashed_density_integrates_to_one(mean, log_std):
    policy = squashed(1)
    constant(policy.network, mean, log_std)
    z = torch.linspace(-7, 7, 40_001).double()
    action, log_density = policy.sample(observations(1), Given(z.view(1, 1, -1, 1)), len(z))
    mass = torch.trapezoid(log_density[0, 0].exp(), action[0, 0, :, 0])
    assert mass.item() == pytest.approx(1, abs=1e-4)


def test_the_squashed_log_deviation_is_kept_in_its_range():
    policy = squashed(1)
    drawn = []
    for log_std in (2.0, 5.0, -5.0, -8.0):
        constant(policy.network, 0.0, log_std)
        drawn.append(policy.sample(observations(), Streams((0, 1), "noise"))[0])
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[3])
    assert not torch.equal(drawn[0], drawn[2])


def test_far_out_samples_keep_a_finite_density():
    policy = squashed(1).float()
    constant(policy.network, 30.0, 0.0)
    action, log_density = policy.sample(observations(1).float(), Given(torch.zeros(1, 1, 1, 1)))
    assert action.unique().tolist() == [1.0]
    expected = -0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 30.0)  # log(1 - tanh(u)^2) = log 4 - 2 u for large u
    assert log_density[0, 0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_the_mode_is_the_squashed_mean_and_samples_stay_in_bounds():
    policy = squashed()
    obs = observations()
    centre = policy.sample(obs, Given(torch.zeros(1, 1, 1, 1)))[0].squeeze(2)
    assert torch.equal(policy.mode(obs), centre)
    assert policy.sample(obs * 100, Streams((0, 1), "noise"), 5)[0].abs().max() <= 1


def test_squashed_samples_are_reparameterised():
    """d tanh(mean + std z) / d mean is 1 - a^2, and by log std it is std z (1 - a^2)."""
    policy = squashed(1)
    constant(policy.network, 0.3, -0.7)
    action = policy.sample(observations(1), Given(torch.full((1, 1, 1, 1), 1.5)))[0]
    (gradient,) = torch.autograd.grad(action[0].sum(), policy.network.biases[-1])
    slope = 1 - action[0].square().item()
    assert gradient[0, 0].tolist() == pytest.approx([slope, math.exp(-0.7) * 1.5 * slope], rel=1e-6)
    assert (gradient[1] == 0).all()
