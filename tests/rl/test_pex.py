"""Policy expansion: what it selects and how often, what it never changes, and a hand-computed update."""

import math
from dataclasses import replace

import pytest
import torch

from cfdg_rl.agents.iql import IQL, PEX_REPOSITORY
from cfdg_rl.agents.networks import set_rate
from cfdg_rl.agents.pex import PEX, PEXSettings, selection_probabilities
from cfdg_rl.mixing import Batch
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions

SMALL = replace(PEX_REPOSITORY, hidden=(16, 16))
KAPPA = 10.0


def batch(replicas: int = 1, size: int = 32, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    data = Transitions(
        obs=torch.randn(replicas, size, 3, generator=rng),
        action=torch.rand(replicas, size, 2, generator=rng) * 2 - 1,
        reward=torch.randn(replicas, size, generator=rng),
        next_obs=torch.randn(replicas, size, 3, generator=rng),
        terminal=(torch.rand(replicas, size, generator=rng) < 0.2).float(),
    )
    return Batch(data.map(lambda tensor: tensor.to(dtype)), torch.zeros(size, dtype=torch.long))


def expand(seeds: tuple[int, ...] = (0,), settings=SMALL) -> PEX:
    return PEX(IQL(3, 2, settings, seeds=seeds))


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def net(values: dict[str, torch.Tensor], name: str, x: torch.Tensor, head: int = 0) -> torch.Tensor:
    """A ReLU network of three layers, written out."""
    for layer in range(3):
        x = x @ values[f"{name}.weights.{layer}"][head] + values[f"{name}.biases.{layer}"][head]
        x = torch.relu(x) if layer < 2 else x
    return x


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def known(offline: float, fresh: float, slopes: tuple[float, float], std: float) -> PEX:
    """One-dimensional actions: both modes, the fresh deviation and two heads Q = slope * a are given."""
    iql = IQL(1, 1, replace(SMALL, hidden=(1,), log_std_range=(-25.0, 2.0)), seeds=(0, 1))
    agent = PEX(iql)
    with torch.no_grad():
        for policy, mode in ((iql.policy, offline), (agent.policy, fresh)):
            policy.network.weights[-1].zero_()
            policy.network.biases[-1].fill_(math.atanh(mode))
        agent.policy.free_log_std.fill_(math.log(std))
        first, last = iql.critics.weights  # heads first: (2 R, in, out)
        first.copy_(torch.tensor([[0.0], [1.0]]).expand_as(first))
        iql.critics.biases[0].fill_(2.0)  # relu(a + 2) = a + 2
        slope = torch.tensor(slopes).repeat_interleave(2)[:, None, None]
        last.copy_(slope)
        iql.critics.biases[-1].copy_(-2 * slope)
    return agent


def test_selection_probabilities_in_closed_form():
    q = torch.tensor([[0.0, 1.0, -0.05], [0.0, 0.9, 0.15]])
    probabilities = selection_probabilities(q, KAPPA)
    expected = [0.5, math.exp(-1) / (1 + math.exp(-1)), math.exp(2) / (1 + math.exp(2))]
    assert probabilities[1].tolist() == pytest.approx(expected, rel=1e-5)
    assert probabilities.sum(0).tolist() == pytest.approx([1.0] * 3)


def test_the_defaults_are_the_repositorys():
    assert (PEXSettings().selection_temperature, PEXSettings().epsilon) == (KAPPA, 0.1)
    with pytest.raises(ValueError, match="epsilon"):
        PEXSettings(epsilon=1.5)


@pytest.mark.parametrize("slopes", [(0.1, 0.1), (-0.2, -0.2), (0.1, 0.02), (2.0, -2.0)])
def test_training_chooses_as_often_as_the_softmax_of_the_least_q(slopes):
    """The frequencies of the fresh action against softmax(10 min Q) of both proposals, per replica."""
    agent = known(-0.4, 0.3, slopes, std=1e-9)
    n = 20_000
    action, fresh = agent.compose(torch.zeros(2, n, 1), Streams((0, 1), "test"), explore=True)
    offline_q, fresh_q = (min(slope * a for slope in slopes) for a in (-0.4, 0.3))
    expected = 1 / (1 + math.exp(KAPPA * (offline_q - fresh_q)))
    deviation = math.sqrt(expected * (1 - expected) / n)
    assert fresh.float().mean(1).tolist() == pytest.approx([expected] * 2, abs=4 * deviation)
    assert torch.allclose(action[..., 0], torch.where(fresh, 0.3, -0.4), atol=1e-6)


def test_in_training_the_offline_proposal_is_the_mode_and_the_fresh_one_a_sample():
    agent = known(-0.4, 0.3, (1e-4, 1e-4), std=0.1)
    action, fresh = agent.compose(torch.zeros(2, 5000, 1), Streams((0, 1), "test"), explore=True)
    assert torch.allclose(action[~fresh], torch.tensor(-0.4), atol=1e-6)
    assert action[fresh].std().item() == pytest.approx(0.1, rel=0.05)
    assert action[fresh].mean().item() == pytest.approx(0.3, abs=0.01)
    assert agent.iql.policy.log_std().exp().min() == 1, "the offline policy could have been sampled visibly"


@pytest.mark.parametrize(("slope", "greedy_is_fresh"), [(1e-5, True), (-1e-5, False)])
def test_evaluation_is_greedy_nine_times_of_ten_in_both_respects(slope, greedy_is_fresh):
    """Q is so flat that a random choice is a fair coin: the better one has 0.9 + 0.05, independently of the mode."""
    n = 40_000
    agent = known(-0.4, 0.3, (slope, slope), std=0.05)
    action, fresh = agent.compose(torch.zeros(2, n, 1), Streams((0, 1), "test"), explore=False)
    greedy = (fresh if greedy_is_fresh else ~fresh).float().mean().item()
    assert greedy == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / (2 * n)))
    mode = (action[fresh] - 0.3).abs() < 1e-6
    assert mode.float().mean().item() == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / mode.numel()))
    assert torch.allclose(action[~fresh], torch.tensor(-0.4), atol=1e-6)


def test_evaluation_without_epsilon_is_the_better_of_two_modes():
    offline = IQL(3, 2, SMALL, seeds=(0, 1))
    agent = PEX(offline, PEXSettings(epsilon=0.0))
    obs = torch.randn(2, 200, 3)
    action = agent.act(obs, explore=False)
    modes = torch.stack([offline.policy.mean(obs), agent.policy.mean(obs)])
    q = torch.stack([offline.critics(torch.cat([obs, mode], -1))[..., 0].amin(0) for mode in modes])
    better = q.argmax(0)
    assert torch.equal(action, torch.where(better.bool()[..., None], modes[1], modes[0]))
    assert 0 < better.float().mean() < 1


def test_the_fresh_policy_starts_untrained_beside_the_offline_one():
    offline = IQL(3, 2, SMALL, seeds=(0, 1))
    with torch.no_grad():
        offline.policy.free_log_std.fill_(-2.0)
    agent = PEX(offline)
    assert (agent.policy.log_std().exp() == 1).all()
    assert not torch.equal(agent.policy.network.weights[0], offline.policy.network.weights[0])
    assert same(weights(agent.iql.policy), weights(offline.policy))


def test_value_and_critics_are_taken_over_with_fresh_moments():
    offline, reference = (IQL(3, 2, SMALL, seeds=(0,)) for _ in range(2))
    for agent in (offline, reference):
        agent.update(batch())
    expanded = PEX(offline)
    for name in ("value", "critics", "target"):
        assert same(weights(getattr(expanded.iql, name)), weights(getattr(reference, name)))
    assert not any(optimiser.state for optimiser in expanded.optimisers.values())


def test_the_offline_policy_never_changes_and_is_in_no_optimiser():
    agent = expand((0, 1))
    frozen = list(agent.iql.policy.parameters())
    before = weights(agent.iql.policy)
    for step in range(5):
        agent.update(batch(2, seed=step))
    assert same(before, weights(agent.iql.policy))
    trained = {id(p) for o in agent.optimisers.values() for group in o.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in frozen}
    assert not any(p.requires_grad for p in frozen)
    everything = {id(p) for p in agent.parameters()}
    target = {id(p) for p in agent.iql.target.parameters()}
    assert trained == everything - target - {id(p) for p in frozen}


def test_only_the_states_of_a_batch_reach_the_policy():
    """With Q and V held still, neither actions nor rewards, next states nor terminals change its step."""

    def stepped(data: Transitions) -> list[torch.Tensor]:
        agent = expand()
        set_rate(agent.optimisers["critics"], 0.0)
        for _ in range(3):
            agent.update(Batch(data, torch.zeros(32)))
        return weights(agent.policy)

    one = batch(seed=0).data
    other = batch(seed=1).data
    assert same(stepped(one), stepped(replace(other, obs=one.obs)))
    assert not same(stepped(one), stepped(replace(one, obs=other.obs)))


def test_evaluation_disturbs_neither_exploration_nor_updates():
    quiet = expand((0, 1))
    watched = expand((0, 1))
    obs = torch.randn(2, 4, 3)
    for step in range(4):
        watched.act(torch.randn(2, 7, 3), explore=False)
        assert torch.equal(quiet.act(obs, True), watched.act(obs, True))
        for agent in (quiet, watched):
            agent.update(batch(2, seed=step))
    assert same(weights(quiet), weights(watched))


RATE = 3e-2
EMA = 0.3  # large, so that values before and after the step cannot be confused


def first_draws() -> tuple[torch.Tensor, torch.Tensor]:
    """The coins ``(32,)`` and normals ``(32, 2)`` of the first update of seed 5."""
    noise = Streams((5,), "expansion update")
    return noise.uniform(3, 32)[0, 0], noise.normal(32, 2)[0]


def test_one_update_equals_a_hand_computation_in_float64():
    """V and Q as in IQL; then the fresh policy on composite actions, with critics, V and targets after that step."""
    settings = replace(SMALL, online_learning_rate=RATE, polyak_rate=EMA)
    agent = expand((5,), settings).double()
    whole = batch(dtype=torch.float64)
    before = {name: value.detach().clone() for name, value in agent.named_parameters()}
    leaves = {name: value.clone().requires_grad_() for name, value in before.items()}
    s, a, r, s2, d = (getattr(whole.data, f)[0] for f in ("obs", "action", "reward", "next_obs", "terminal"))

    def least_q(values: dict[str, torch.Tensor], name: str, action: torch.Tensor) -> torch.Tensor:
        return torch.minimum(*(net(values, name, torch.cat([s, action], -1), head)[:, 0] for head in range(2)))

    def adam_step(name: str) -> torch.Tensor:  # Adam's first step is lr * g / (|g| + eps)
        gradient = leaves[name].grad
        return before[name] - RATE * gradient / (gradient.abs() + 1e-8)

    u = least_q(before, "iql.target", a) - net(leaves, "iql.value", s)[:, 0]
    loss_v = ((u > 0) * 0.9 * u**2 + (u <= 0) * 0.1 * u**2).mean()
    y = r + 0.99 * (1 - d) * net(before, "iql.value", s2)[:, 0]
    sa = torch.cat([s, a], -1)
    loss_q = sum(((net(leaves, "iql.critics", sa, head)[:, 0] - y) ** 2).mean() for head in range(2)) / 2
    (loss_v + loss_q).backward()
    after = {name: adam_step(name) for name in before if name.startswith(("iql.value", "iql.critics"))}
    for name in [name for name in before if name.startswith("iql.target")]:
        after[name] = (1 - EMA) * before[name] + EMA * after[name.replace("target", "critics")]

    coin, z = first_draws()
    mean = torch.tanh(net(leaves, "policy.network", s))
    std = leaves["policy.free_log_std"][0].exp()
    proposals = [torch.tanh(net(before, "iql.policy.network", s)), (mean + std * z).clamp(-1, 1).detach()]
    q = [least_q(after, "iql.critics", action) for action in proposals]
    chosen = coin < 1 / (1 + torch.exp(KAPPA * (q[0] - q[1])))
    action = torch.where(chosen[:, None], proposals[1], proposals[0])
    log_prob = (-0.5 * ((action - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def policy_loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        advantage = least_q(values, "iql.target", action) - net(values, "iql.value", s)[:, 0]
        return -(torch.exp(10 * advantage).clamp(max=100) * log_prob).mean()

    policy_loss(after).backward()
    after |= {name: adam_step(name) for name in before if name.startswith("policy")}

    assert 0.2 < chosen.double().mean() < 0.8
    metrics = agent.update(whole)
    assert metrics["loss/value"].item() == pytest.approx(loss_v.item(), rel=1e-12)
    assert metrics["loss/critic"].item() == pytest.approx(loss_q.item(), rel=1e-12)
    assert metrics["loss/policy"].item() == pytest.approx(policy_loss(after).item(), rel=1e-10)
    assert metrics["loss/policy"].item() != pytest.approx(policy_loss(before).item(), rel=1e-2)
    assert metrics["policy/fresh_share"].item() == pytest.approx(chosen.double().mean().item())
    for name, parameter in agent.named_parameters():
        expected = before[name] if name.startswith("iql.policy") else after[name]
        assert torch.allclose(parameter, expected, rtol=0, atol=1e-10), name
