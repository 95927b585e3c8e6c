"""TD3 with behaviour cloning: the normalised Q, lambda, the delay, smoothing, and two hand-computed updates."""

from dataclasses import replace

import pytest
import torch

from cfdg_rl.agents.networks import StackedMLP
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions

SMALL = TD3BCSettings(hidden=(16, 16))
LABELS = torch.tensor([OFFLINE, ONLINE]).repeat(16)


class Given:
    """Noise that is known: every draw is this number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.full((1, *shape), self.value)


def batch(replicas: int = 1, size: int = 32, seed: int = 0, dtype: torch.dtype = torch.float32) -> Transitions:
    rng = torch.Generator().manual_seed(seed)
    data = Transitions(
        obs=torch.randn(replicas, size, 3, generator=rng),
        action=torch.rand(replicas, size, 2, generator=rng) * 2 - 1,
        reward=torch.randn(replicas, size, generator=rng),
        next_obs=torch.randn(replicas, size, 3, generator=rng),
        terminal=(torch.rand(replicas, size, generator=rng) < 0.2).float(),
    )
    return data.map(lambda tensor: tensor.to(dtype))


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def net(values: dict[str, torch.Tensor], name: str, x: torch.Tensor, head: int = 0) -> torch.Tensor:
    """A ReLU network of three layers, written out."""
    for layer in range(3):
        x = x @ values[f"{name}.weights.{layer}"][head] + values[f"{name}.biases.{layer}"][head]
        x = torch.relu(x) if layer < 2 else x
    return x


def constant(network: StackedMLP, *outputs: float) -> None:
    """Make a network answer the same everywhere."""
    with torch.no_grad():
        network.weights[-1].zero_()
        network.biases[-1].copy_(torch.tensor(outputs))


def test_targets_equal_their_sources_before_the_first_update():
    agent = TD3BC(3, 2, SMALL, seeds=(0, 1))
    assert same(weights(agent.target), weights(agent.critics))
    assert same(weights(agent.target_policy), weights(agent.policy))
    assert not any(p.requires_grad for net in (agent.target, agent.target_policy) for p in net.parameters())


@pytest.mark.parametrize("scale", [0.01, -3.0, 500.0])
def test_the_policy_loss_does_not_depend_on_the_scale_of_q(scale):
    """With Q1 constant the normalised term is -alpha sign(Q), and cloning adds the mean square of pi - a."""
    agent = TD3BC(3, 2, SMALL, seeds=(0, 1))
    data = batch(2)
    constant(agent.critics, scale)
    constant(agent.policy, 0.0)
    squares = data.action.square().mean((1, 2))
    assert torch.allclose(agent.policy_loss(data, torch.ones(32)), squares - 2.5 * torch.tensor(scale).sign())


def test_the_coefficient_is_alpha_over_the_mean_absolute_first_q_of_each_replica():
    """The gradient of the normalised term is that of -mean Q1, scaled by alpha / mean |Q1|, replica by replica."""
    agent = TD3BC(3, 2, SMALL, seeds=(0, 1))
    data = batch(2)
    with torch.no_grad():
        agent.critics.weights[-1][1].mul_(40)  # the first head of the second replica

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss.sum(), agent.policy.weights[0])[0]

    q = agent.critics(torch.cat([data.obs, agent.policy(data.obs).tanh()], -1))[0, ..., 0]
    coefficient = 2.5 / q.detach().abs().mean(1)
    assert coefficient[0] / coefficient[1] > 5
    expected = gradient(-coefficient * q.mean(1))
    assert torch.allclose(gradient(agent.policy_loss(data, torch.zeros(32))), expected, rtol=1e-4, atol=1e-7)


def test_cloning_is_where_lambda_is_one():
    agent = TD3BC(3, 2, SMALL, seeds=(0, 1))
    data = batch(2)
    error = (agent.policy(data.obs).tanh() - data.action).square().mean(-1)
    without = agent.policy_loss(data, torch.zeros(32))
    lam = (LABELS == OFFLINE).float()
    assert torch.allclose(agent.policy_loss(data, lam) - without, error[:, LABELS == OFFLINE].sum(1) / 32, atol=1e-6)


def test_the_policy_step_takes_lambda_from_the_labels():
    """Moving the actions of online rows leaves the policy's step alone, moving those of offline rows does not."""

    def stepped(data: Transitions) -> list[torch.Tensor]:
        agent = TD3BC(3, 2, replace(SMALL, policy_delay=1, discount=0.0), seeds=(0, 1))
        agent.optimisers["critics"].param_groups[0]["lr"] = 0.0
        agent.update(Batch(data, LABELS))
        return weights(agent.policy)

    data = batch(2)
    moved = {}
    for label in (OFFLINE, ONLINE):
        moved[label] = replace(data, action=torch.where((label == LABELS)[:, None], -data.action, data.action))
    assert same(stepped(data), stepped(moved[ONLINE]))
    assert not same(stepped(data), stepped(moved[OFFLINE]))


@pytest.mark.parametrize(
    ("z", "mode", "expected"), [(1.0, 0.3, 0.5), (10.0, 0.3, 0.8), (-10.0, 0.3, -0.2), (9.0, 0.7, 1)]
)
def test_target_actions_are_smoothed_by_noise_clipped_twice(z, mode, expected):
    """a' = clip(pi' + clip(0.2 z, 0.5), 1), read off from target critics that answer a'."""
    agent = TD3BC(1, 1, replace(SMALL, hidden=(2, 2), discount=0.5))
    constant(agent.critics, 0.0)
    constant(agent.target_policy, torch.tensor(mode).atanh().item())
    with torch.no_grad():
        for weight in agent.target.weights[:2]:
            weight.copy_(torch.eye(2).expand_as(weight))
        agent.target.biases[0].fill_(10.0)
        agent.target.biases[1].zero_()
        agent.target.weights[2].copy_(torch.tensor([[0.0], [1.0]]).expand(2, -1, -1))
        agent.target.biases[2].fill_(-10.0)
    agent.streams["update"] = Given(z)
    data = Transitions(
        *(torch.ones(1, 4, 1), torch.zeros(1, 4, 1), torch.ones(1, 4), torch.zeros(1, 4, 1)), torch.zeros(1, 4)
    )
    assert agent.critic_loss(data).item() == pytest.approx(2 * (1 + 0.5 * expected) ** 2, rel=1e-5)


def test_policy_and_targets_move_at_every_second_update_only():
    agent = TD3BC(3, 2, SMALL, seeds=(0, 1))
    critics_moved = []
    others_moved = []
    others = torch.nn.ModuleList([agent.policy, agent.target, agent.target_policy])
    for step in range(6):
        before = weights(agent.critics), [weights(part) for part in others]
        metrics = agent.update(Batch(batch(2, seed=step), LABELS))
        critics_moved.append(not same(before[0], weights(agent.critics)))
        others_moved.append([not same(old, weights(part)) for old, part in zip(before[1], others, strict=True)])
        assert ("loss/policy" in metrics) == (step % 2 == 1)
    assert critics_moved == [True] * 6
    assert others_moved == [[step % 2 == 1] * 3 for step in range(6)]


def test_the_delays_counter_is_part_of_the_state():
    agent = TD3BC(3, 2, SMALL)
    copy = TD3BC(3, 2, SMALL)
    for step in range(3):
        agent.update(Batch(batch(seed=step), LABELS))
    copy.load_state_dict(agent.state_dict())
    assert copy.updates == 3
    assert "loss/policy" in copy.update(Batch(batch(), LABELS))


def test_exploration_adds_clipped_noise_to_the_evaluated_action():
    agent = TD3BC(3, 2, SMALL, seeds=(0, 1))
    obs = torch.zeros(2, 20_000, 3)
    constant(agent.policy, 0.0, torch.tensor(0.95).atanh().item())
    assert torch.allclose(agent.act(obs, False), torch.tensor([0.0, 0.95]))
    explored = agent.act(obs, True)
    assert explored[..., 0].std().item() == pytest.approx(0.1, rel=0.02)
    beyond = 1 - torch.distributions.Normal(0.95, 0.1).cdf(torch.tensor(1.0)).item()
    assert (explored[..., 1] == 1).float().mean().item() == pytest.approx(beyond, abs=0.01)


def test_wrong_settings_name_the_key():
    with pytest.raises(ValueError, match="policy_delay is 0, expected at least 1"):
        TD3BCSettings(policy_delay=0)
    with pytest.raises(ValueError, match="precision"):
        TD3BCSettings(precision="fp8")


class Adam:
    """Kingma and Ba's algorithm 1, for one tensor."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.m = 0.0
        self.v = 0.0
        self.t = 0

    def step(self, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m = self.m / (1 - 0.9**self.t)
        v = self.v / (1 - 0.999**self.t)
        return value - self.rate * m / (v.sqrt() + 1e-8)


def test_two_updates_equal_a_hand_computation_in_float64():
    """Two steps of the critics with unmoved targets; then the policy with the new critics, and both targets."""
    rate = 3e-2
    ema = 0.3  # large, so that values before and after a step cannot be confused
    agent = TD3BC(3, 2, replace(SMALL, learning_rate=rate, polyak_rate=ema), seeds=(5,)).double()
    values = {name: value.detach().clone().requires_grad_() for name, value in agent.named_parameters()}
    optimisers = {name: Adam(rate) for name in values}
    noise = Streams((5,), "update")

    def descend(loss: torch.Tensor, network: str) -> None:
        names = [name for name in values if name.startswith(f"{network}.")]
        gradients = torch.autograd.grad(loss, [values[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            values[name] = optimisers[name].step(values[name].detach(), gradient).requires_grad_()

    def q_of(name: str, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([net(values, name, torch.cat(inputs, -1), head)[:, 0] for head in range(2)])

    for step in range(2):
        data = batch(seed=step, dtype=torch.float64)
        s, a, r, s2, d = (getattr(data, f)[0] for f in ("obs", "action", "reward", "next_obs", "terminal"))
        shift = (0.2 * noise.normal(32, 2)[0]).clamp(-0.5, 0.5)
        next_action = (net(values, "target_policy", s2).tanh() + shift).clamp(-1, 1)
        y = r + 0.99 * (1 - d) * q_of("target", s2, next_action).amin(0).detach()
        critic_loss = ((q_of("critics", s, a) - y) ** 2).mean(1).sum()
        descend(critic_loss, "critics")
        metrics = agent.update(Batch(data, LABELS))
        assert metrics["loss/critic"].item() == pytest.approx(critic_loss.item(), rel=1e-10)

    action = net(values, "policy", s).tanh()
    q = q_of("critics", s, action)[0]
    cloning = ((LABELS == OFFLINE).double()[:, None] * (action - a) ** 2).mean()
    policy_loss = cloning - 2.5 * q.mean() / q.detach().abs().mean()
    descend(policy_loss, "policy")
    for name in [name for name in values if name.startswith("target")]:
        source = name.replace("target_policy", "policy").replace("target.", "critics.")
        values[name] = (1 - ema) * values[name] + ema * values[source]
    assert metrics["loss/policy"].item() == pytest.approx(policy_loss.item(), rel=1e-10)
    for name, parameter in agent.named_parameters():
        assert torch.allclose(parameter, values[name], rtol=0, atol=1e-9), name
