"""IQL: closed forms, a hand-computed update, the replica axis, and a task it has to solve."""

import math
from dataclasses import replace

import pytest
import torch

from cfdg_rl.agents.iql import IQL, OFFICIAL, PEX_REPOSITORY, IQLSettings, advantage_weight, expectile_loss
from cfdg_rl.mixing import Batch
from cfdg_rl.transitions import Transitions, to_rows

SMALL = replace(PEX_REPOSITORY, hidden=(16, 16))


def batch(replicas: int, size: int = 32, obs_dim: int = 3, action_dim: int = 2, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    data = Transitions(
        obs=torch.randn(replicas, size, obs_dim, generator=rng),
        action=torch.rand(replicas, size, action_dim, generator=rng) * 2 - 1,
        reward=torch.randn(replicas, size, generator=rng),
        next_obs=torch.randn(replicas, size, obs_dim, generator=rng),
        terminal=(torch.rand(replicas, size, generator=rng) < 0.2).float(),
    )
    return Batch(data, torch.zeros(size, dtype=torch.long))


def test_expectile_loss_in_closed_form():
    u = torch.tensor([-2.0, -0.5, 0.5, 2.0])
    assert expectile_loss(u, 0.9).tolist() == pytest.approx([0.1 * 4, 0.1 * 0.25, 0.9 * 0.25, 0.9 * 4])


def test_expectile_one_half_is_half_the_square():
    u = torch.linspace(-3, 3, 13)
    assert torch.allclose(expectile_loss(u, 0.5), 0.5 * u.square())


def test_the_minimiser_of_the_expectile_loss_is_the_expectile():
    """For a fair coin in {0, 1} the tau-expectile is tau."""
    value = torch.tensor(0.0, requires_grad=True)
    optimiser = torch.optim.SGD([value], lr=0.5)
    for _ in range(200):
        optimiser.zero_grad()
        expectile_loss(torch.tensor([0.0, 1.0]) - value, 0.9).mean().backward()
        optimiser.step()
    assert value.item() == pytest.approx(0.9, abs=1e-4)


def test_advantage_weights_in_closed_form():
    u = torch.tensor([-1.0, 0.0, 0.3, 10.0])
    expected = [math.exp(-3), 1.0, math.exp(0.9), 100.0]
    assert advantage_weight(u, 3.0, 100.0).tolist() == pytest.approx(expected, rel=1e-5)


def test_huge_advantages_do_not_overflow():
    assert advantage_weight(torch.tensor([1e6]), 10.0, 100.0).item() == pytest.approx(100.0, rel=1e-5)


def test_target_equals_critics_before_the_first_update():
    agent = IQL(3, 2, SMALL, seeds=(0, 1))
    for ours, theirs in zip(agent.target.parameters(), agent.critics.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad


def test_one_update_equals_a_hand_computation_in_float64():
    """Every weight after one step, recomputed with plain linear layers, losses written out, and Adam's first step."""
    settings = replace(SMALL, learning_rate=1e-3)
    agent = IQL(3, 2, settings, seeds=(5,)).double()
    data = batch(1)
    data = Batch(data.data.map(torch.Tensor.double), data.labels)
    agent.reset_optimisers(settings.learning_rate)
    before = {name: value.detach().clone() for name, value in agent.named_parameters()}
    leaves = {name: value.clone().requires_grad_("target" not in name) for name, value in before.items()}

    def net(name: str, x: torch.Tensor, head: int) -> torch.Tensor:
        for layer in range(3):
            x = x @ leaves[f"{name}.weights.{layer}"][head] + leaves[f"{name}.biases.{layer}"][head]
            x = torch.relu(x) if layer < 2 else x
        return x

    s, a, r, s2, d = (getattr(data.data, f)[0] for f in ("obs", "action", "reward", "next_obs", "terminal"))
    sa = torch.cat([s, a], -1)
    q = torch.minimum(net("target", sa, 0), net("target", sa, 1))[:, 0]
    u = q - net("value", s, 0)[:, 0]
    loss_v = ((u > 0) * 0.9 * u**2 + (u <= 0) * 0.1 * u**2).mean()
    y = r + 0.99 * (1 - d) * net("value", s2, 0)[:, 0].detach()
    loss_q = sum(((net("critics", sa, head)[:, 0] - y) ** 2).mean() for head in range(2)) / 2
    weight = torch.exp(10 * u.detach()).clamp(max=100)
    mean = torch.tanh(net("policy.network", s, 0))
    std = leaves["policy.free_log_std"][0].clamp(-5, 2).exp()
    log_prob = (-0.5 * ((a - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    loss_pi = -(weight * log_prob).mean()
    (loss_v + loss_q + loss_pi).backward()

    metrics = agent.update(data)
    assert metrics["loss/value"].item() == pytest.approx(loss_v.item(), rel=1e-12)
    assert metrics["loss/critic"].item() == pytest.approx(loss_q.item(), rel=1e-12)
    assert metrics["loss/policy"].item() == pytest.approx(loss_pi.item(), rel=1e-12)
    after = dict(agent.named_parameters())
    for name, leaf in leaves.items():
        if "target" in name:
            source = after[name.replace("target", "critics")]
            expected = 0.995 * before[name] + 0.005 * source
        else:  # Adam's first step is lr * g / (|g| + eps)
            expected = before[name] - 1e-3 * leaf.grad / (leaf.grad.abs() + 1e-8)
        assert torch.allclose(after[name], expected, rtol=0, atol=1e-10), name


def test_evaluation_takes_the_mean_and_exploration_samples_around_it():
    agent = IQL(3, 2, SMALL, seeds=(0, 1))
    obs = torch.randn(2, 50, 3)
    assert torch.equal(agent.act(obs, False), agent.policy.mean(obs))
    assert not torch.equal(agent.act(obs, True), agent.act(obs, True))


def test_policy_rate_falls_to_zero_offline_and_returns_to_constant_online():
    agent = IQL(3, 2, replace(SMALL, online_learning_rate=1e-4))

    def rates() -> dict[str, list[float]]:
        return {name: [group["lr"] for group in each.param_groups] for name, each in agent.optimisers.items()}

    for progress, share in ((0.0, 1.0), (0.5, 0.5), (1 / 3, 0.75), (1.0, 0.0)):
        agent.schedule(progress)
        assert rates()["policy"] == pytest.approx([share * SMALL.learning_rate])
        assert rates()["critics"] == [SMALL.learning_rate]
    agent.update(batch(1))
    agent.go_online()
    assert rates() == {"critics": [1e-4], "policy": [1e-4]}
    assert not any(each.state for each in agent.optimisers.values()), "fresh moments"


def test_bf16_products_stay_close_to_fp32():
    agents = [IQL(3, 2, replace(SMALL, precision=p)) for p in ("fp32", "bf16")]
    losses = [agent.update(batch(1))["loss/critic"].item() for agent in agents]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(p.dtype == torch.float32 for p in agents[1].parameters())


def test_presets_are_the_two_repositories():
    assert (PEX_REPOSITORY.expectile, PEX_REPOSITORY.inverse_temperature, PEX_REPOSITORY.reward) == (0.9, 10.0, "raw")
    assert (OFFICIAL.expectile, OFFICIAL.inverse_temperature, OFFICIAL.reward) == (0.7, 3.0, "return-range")


@pytest.mark.parametrize(("key", "value"), [("expectile", 1.0), ("precision", "fp8"), ("reward", "clip")])
def test_wrong_settings_name_the_key(key, value):
    with pytest.raises(ValueError, match=key):
        IQLSettings(**{key: value})


@pytest.mark.parametrize("settings", [SMALL, replace(OFFICIAL, hidden=(16, 16), reward="raw")])
def test_it_solves_a_one_step_task_from_random_data(settings):
    """Reward -|a - s|: the data acts at random, the policy has to answer with s, better than any cloning of it."""
    rng = torch.Generator().manual_seed(0)
    obs = torch.rand(2, 4000, 1, generator=rng) * 1.6 - 0.8
    action = torch.rand(2, 4000, 1, generator=rng) * 2 - 1
    reward = -5 * (action - obs).abs()[..., 0]
    data = Transitions(obs, action, reward, obs, torch.ones_like(reward))
    agent = IQL(1, 1, replace(settings, learning_rate=3e-3), seeds=(0, 1))
    agent.fit_scaler(obs.flatten(0, 1))
    for _ in range(500):
        pick = torch.randint(4000, (128,), generator=rng)
        agent.update(Batch(data.map(lambda t: t[:, pick]), torch.zeros(128)))  # noqa: B023
    probe = torch.linspace(-0.7, 0.7, 15)[:, None].expand(2, -1, -1)
    assert (agent.act(probe, False) - probe).abs().mean() < 0.12
    assert to_rows(data).shape == (2, 4000, 5)


def test_going_online_copies_the_critics_into_the_targets_and_nothing_else():
    agent = IQL(3, 2, replace(PEX_REPOSITORY, hidden=(8, 8)), seeds=(0, 1))
    with torch.no_grad():
        for weight in agent.critics.parameters():
            weight += 0.1
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    agent.go_online()
    for name, tensor in agent.state_dict().items():
        source = name.replace("target.", "critics.")
        assert torch.equal(tensor, before[source])
