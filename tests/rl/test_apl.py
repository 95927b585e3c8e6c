"""APL's conservative learner: targets, the conservative term in closed form, lambda, and a hand-computed update."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from cfdg_rl.agents.apl import APL, APLSettings, conservative_term
from cfdg_rl.agents.networks import StackedMLP
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions

SMALL = APLSettings(hidden=(16, 16, 16))
LABELS = torch.tensor([OFFLINE, ONLINE]).repeat(16)


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
    """A ReLU network of four layers, written out."""
    for layer in range(4):
        x = x @ values[f"{name}.weights.{layer}"][head] + values[f"{name}.biases.{layer}"][head]
        x = torch.relu(x) if layer < 3 else x
    return x


def constant(network: StackedMLP, *outputs: float) -> None:
    """Make a network answer the same everywhere."""
    with torch.no_grad():
        network.weights[-1].zero_()
        network.biases[-1].copy_(torch.tensor(outputs))


def linear(network: StackedMLP, *slopes: float) -> None:
    """Make networks with one hidden layer answer ``sum_i slopes_i x_i``, for every input above -10 in each column."""
    with torch.no_grad():
        network.weights[0].copy_(torch.eye(len(slopes)).expand_as(network.weights[0]))
        network.biases[0].fill_(10.0)
        network.weights[-1].copy_(torch.tensor(slopes)[:, None].expand_as(network.weights[-1]))
        network.biases[-1].fill_(-10.0 * sum(slopes))


def test_targets_equal_critics_before_the_first_update():
    agent = APL(3, 2, SMALL, seeds=(0, 1))
    assert len(agent.target.weights[0]) == 2 * 5
    assert same(weights(agent.target), weights(agent.critics))
    assert not any(p.requires_grad for p in agent.target.parameters())


def test_the_five_critics_begin_different():
    first = APL(3, 2, SMALL).critics.weights[0]
    assert all(not torch.equal(first[i], first[j]) for i, j in itertools.combinations(range(5), 2))


def pairs_drawn(agent: APL, replicas: int) -> list[int]:
    """For each replica the sum of 2^i over the two targets drawn: at row b, head i answers -2^(b/2) if i = b else 0."""
    eye = torch.eye(5)
    data = Transitions(
        obs=eye.expand(replicas, -1, -1),
        action=torch.zeros(replicas, 5, 1),
        reward=torch.zeros(replicas, 5),
        next_obs=eye.expand(replicas, -1, -1),
        terminal=torch.zeros(replicas, 5),
    )
    loss = agent.critic_loss(data)  # the mean over rows of the squared target, since the critics answer 0
    assert loss.shape == (5, replicas)
    assert torch.allclose(loss, loss[:1])
    return (5 * loss[0]).round().int().tolist()


def test_two_of_five_targets_are_drawn_each_pair_equally_often():
    replicas = 500
    calls = 8
    agent = APL(5, 1, replace(SMALL, hidden=(5,), discount=1.0), seeds=tuple(range(replicas)))
    constant(agent.critics, 0.0)
    with torch.no_grad():
        agent.target.weights[0].copy_(torch.eye(6, 5).expand_as(agent.target.weights[0]))
        agent.target.biases[0].zero_()
        heads = torch.diag(-torch.tensor(2.0).pow(torch.arange(5) / 2))
        agent.target.weights[1].copy_(heads.repeat_interleave(replicas, 0)[..., None])
        agent.target.biases[1].zero_()
    sums = [total for _ in range(calls) for total in pairs_drawn(agent, replicas)]
    counts = {2**i + 2**j: 0 for i, j in itertools.combinations(range(5), 2)}
    for total in sums:
        counts[total] += 1  # a KeyError if one target or three were drawn
    expected = len(sums) / 10
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 27.9  # chi-square, 9 dof, 0.999


def test_the_target_has_no_entropy():
    """Neither alpha nor the policy's density matters: with discount 1 the target is r + min Q' exactly."""
    agent = APL(3, 2, replace(SMALL, discount=1.0))
    data = batch()
    for network, value in ((agent.critics, 0.0), (agent.target, 3.0)):
        constant(network, value)
    with torch.no_grad():
        agent.log_alpha.fill_(4.0)
    expected = (data.reward + 3.0 * (1 - data.terminal)).square().mean()
    assert torch.allclose(agent.critic_loss(data), expected.expand(5, 1))


def test_the_conservative_term_weighs_by_density_in_closed_form():
    """Two actions, the second proposed three times as often: the sum over both of exp Q, whatever the proposal."""
    q = torch.tensor([0.7, -0.4, -0.4, -0.4])
    log_density = torch.tensor([0.25, 0.75, 0.75, 0.75]).log()
    term = conservative_term(q, log_density, torch.tensor(0.2))
    assert term.item() == pytest.approx(math.log(4) + math.log(math.exp(0.7) + math.exp(-0.4)) - 0.2, rel=1e-6)


def test_the_conservative_term_of_many_actions_is_the_log_integral_of_exp_q():
    """Each of the three kinds of proposals, weighted by its density at its own state, estimates the same integral.

    Q = 1.2 a + 0.5 s, so log int exp Q da = log(2 sinh(1.2) / 1.2) + 0.5 s: proposals from s' are valued at s.
    """
    count = 20_000
    agent = APL(1, 1, replace(SMALL, hidden=(2,), sampled_actions=count, conservatism=3.0), seeds=(0, 1))
    linear(agent.critics, 0.5, 1.2)
    with torch.no_grad():  # the policy's mean follows the state, so that densities at s and s' differ
        agent.policy.network.weights[0].copy_(torch.eye(1, 2).expand(2, -1, -1))
        agent.policy.network.weights[1].copy_(torch.tensor([[0.3, 0.0], [0.0, 0.0]]).expand(2, -1, -1))
        agent.policy.network.biases[1].copy_(torch.tensor([0.0, -0.2]))
    obs = torch.tensor([[[0.2], [1.0]]] * 2)
    action = torch.tensor([[[0.5], [-0.3]]] * 2)
    data = Transitions(obs, action, torch.zeros(2, 2), torch.tensor([[[2.5], [-1.0]]] * 2), torch.zeros(2, 2))
    term = agent.conservative_loss(data, torch.ones(2)) / 3.0
    integral = math.log(3 * count) + math.log(2 * math.sinh(1.2) / 1.2) - 1.2 * action[0].mean().item()
    assert term.shape == (5, 2)
    assert term.flatten().tolist() == pytest.approx([integral] * 10, abs=0.01)


def test_proposals_are_ten_of_each_kind_with_their_own_densities():
    agent = APL(3, 2, SMALL, seeds=(0, 1))
    data = batch(2)
    constant(agent.policy.network, 0.5, -0.5, -1.0, -2.0)
    action, log_density = agent.propose(data)
    assert action.shape == (2, 32, 30, 2)
    assert torch.allclose(log_density[..., :10], torch.tensor(-2 * math.log(2)))
    assert not action.requires_grad
    assert not log_density.requires_grad
    normal = torch.distributions.Normal(torch.tensor([0.5, -0.5]), torch.tensor([-1.0, -2.0]).exp())
    squashed = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    drawn = action[..., 10:, :].double()
    assert torch.allclose(squashed.log_prob(drawn).sum(-1).float(), log_density[..., 10:], atol=1e-3)
    assert action[..., :10, :].abs().mean().item() == pytest.approx(0.5, abs=0.02)


def test_an_online_batch_is_learnt_without_conservatism():
    """Label ONLINE with the term skipped, or with lambda 0, or conservatism 0: the critics take the same step."""
    data = batch(2)
    online = torch.full((32,), ONLINE)
    steps = []
    for settings, whole in (
        (SMALL, Batch(data, online, ONLINE)),
        (SMALL, Batch(data, online)),
        (replace(SMALL, conservatism=0.0), Batch(data, torch.full((32,), OFFLINE), OFFLINE)),
        (SMALL, Batch(data, torch.full((32,), OFFLINE), OFFLINE)),
    ):
        agent = APL(3, 2, settings, seeds=(0, 1))
        agent.update(whole)
        steps.append(weights(agent.critics))
    assert same(steps[0], steps[1])
    assert same(steps[0], steps[2])
    assert not same(steps[0], steps[3])


def test_of_a_mixed_batch_only_offline_rows_are_conservative():
    """The loss is the mean over all rows of the offline rows' terms, and its gradient forgets the online rows."""
    agent = APL(3, 2, SMALL, seeds=(0, 1))
    data = batch(2)
    start = agent.streams["update"].state()

    def loss(lam: torch.Tensor, rows: Transitions = data) -> torch.Tensor:
        agent.streams["update"].restore(start)
        return agent.conservative_loss(rows, lam)

    offline = (LABELS == OFFLINE).float()
    online = (LABELS == ONLINE).float()
    assert torch.allclose(loss(offline) + loss(online), loss(torch.ones(32)), rtol=1e-5)
    other = batch(2, seed=1)
    swapped = data.map(torch.Tensor.clone)
    for field in ("obs", "action", "next_obs"):
        getattr(swapped, field)[:, LABELS == ONLINE] = getattr(other, field)[:, LABELS == ONLINE]
    gradients = [
        torch.autograd.grad(loss(offline, rows).sum(), agent.critics.weights[0])[0] for rows in (data, swapped)
    ]
    assert torch.allclose(*gradients, atol=1e-6)
    assert not torch.allclose(loss(online), loss(online, swapped))


def test_update_takes_lambda_from_the_labels():
    data = batch()
    agents = [APL(3, 2, SMALL) for _ in range(2)]
    metrics = agents[0].update(Batch(data, LABELS))
    agents[1].critic_loss(data)
    expected = agents[1].conservative_loss(data, (LABELS == OFFLINE).float()).mean(0)
    assert torch.allclose(metrics["loss/conservative"], expected)


@pytest.mark.parametrize(("log_std", "rises"), [(-4.0, True), (-0.1, False)])
def test_alpha_rises_exactly_where_the_entropy_is_below_minus_the_action_count(log_std, rises):
    """Entropy of a narrow Gaussian: 1.42 + log_std per action, here -2.6; of the wide one about 0.6; the mark is -1."""
    agent = APL(3, 2, SMALL, seeds=(0, 1))
    constant(agent.policy.network, 0.0, 0.0, log_std, log_std)
    metrics = agent.update(Batch(batch(2), LABELS))
    assert ((metrics["policy/entropy"] < -2) == rises).all()
    assert ((agent.log_alpha > 0) == rises).all()
    assert torch.allclose(agent.log_alpha.detach().abs(), torch.tensor(SMALL.policy_learning_rate), rtol=1e-3)


def test_actions_explore_by_samples_and_evaluate_the_mode():
    agent = APL(3, 2, SMALL, seeds=(0, 1))
    obs = torch.randn(2, 50, 3)
    assert torch.equal(agent.act(obs, False), agent.policy.mode(obs))
    assert not torch.equal(agent.act(obs, True), agent.act(obs, True))


@pytest.mark.parametrize("target_critics", [0, 6])
def test_more_targets_than_critics_are_refused(target_critics):
    with pytest.raises(ValueError, match=r"target_critics is \d+, expected (1 to 5|at least 1)"):
        APLSettings(target_critics=target_critics)


def drawn(noise: Streams, mean: torch.Tensor, log_std: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Squashed actions ``(B, count, A)`` and log densities by the change of variables, written out."""
    u = mean[:, None] + log_std[:, None].exp() * noise.normal(len(mean), count, mean.shape[1])[0]
    log_normal = -0.5 * ((u - mean[:, None]) / log_std[:, None].exp()) ** 2 - log_std[:, None]
    return u.tanh(), (log_normal - 0.5 * math.log(2 * math.pi) - torch.log(1 - u.tanh() ** 2)).sum(-1)


RATE = 3e-2
SLOW = 2e-2
EMA = 0.3  # large, so that before and after cannot be confused


def test_one_update_equals_a_hand_computation_in_float64():
    """Critics with the conservative term, alpha, then the policy with the new critics and alpha, then the targets."""
    settings = replace(SMALL, learning_rate=RATE, policy_learning_rate=SLOW, polyak_rate=EMA, sampled_actions=4)
    agent = APL(3, 2, settings, seeds=(5,)).double()
    data = batch(dtype=torch.float64)
    with torch.no_grad():  # outputs far from 0, which they start at
        for network in (agent.policy.network, agent.critics, agent.target):
            network.weights[-1].mul_(100)
    before = {name: value.detach().clone() for name, value in agent.named_parameters()}
    leaves = {name: value.clone().requires_grad_() for name, value in before.items()}
    s, a, r, s2, d = (getattr(data, f)[0] for f in ("obs", "action", "reward", "next_obs", "terminal"))
    noise = Streams((5,), "update")

    def q_of(values: dict[str, torch.Tensor], name: str, actions: torch.Tensor) -> torch.Tensor:
        inputs = torch.cat([s if name == "critics" else s2, actions], -1)
        return torch.stack([net(values, name, inputs, head)[:, 0] for head in range(5)])

    def propose(values: dict[str, torch.Tensor], states: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = net(values, "policy.network", states).chunk(2, -1)
        return drawn(noise, mean, log_std.clamp(-5, 2), count)

    def step(name: str, RATE: float) -> torch.Tensor:  # Adam's first step is lr * g / (|g| + eps)
        return before[name] - RATE * leaves[name].grad / (leaves[name].grad.abs() + 1e-8)

    next_action = propose(before, s2, 1)[0][:, 0]
    pair = noise.uniform(5)[0].argsort()[:2]
    y = r + 0.99 * (1 - d) * q_of(before, "target", next_action)[pair].amin(0)
    q_data = q_of(leaves, "critics", a)
    bellman = ((q_data - y) ** 2).mean(1)
    uniform = 2 * noise.uniform(32, 4, 2)[0].double() - 1
    kinds = [(uniform, torch.full((32, 4), 2 * math.log(0.5))), *(propose(before, states, 4) for states in (s2, s))]
    z = [q_of(leaves, "critics", actions[:, k]) - density[:, k] for actions, density in kinds for k in range(4)]
    lam = (LABELS == OFFLINE).double()
    conservative = 5 * (lam * (torch.stack(z).exp().sum(0).log() - q_data)).mean(1)
    (bellman + conservative).sum().backward()
    after = {name: step(name, RATE) for name in before if name.startswith("critics")}

    action, log_prob = (part[:, 0] for part in propose(leaves, s, 1))
    (-leaves["log_alpha"] * (log_prob.detach().mean() - 2)).sum().backward()
    after["log_alpha"] = step("log_alpha", SLOW)
    losses = [(v["log_alpha"].exp() * log_prob - q_of(v, "critics", action).mean(0)).mean() for v in (after, before)]
    losses[0].backward()
    after |= {name: step(name, SLOW) for name in before if name.startswith("policy")}
    for name in [name for name in before if name.startswith("target")]:
        after[name] = (1 - EMA) * before[name] + EMA * after[name.replace("target", "critics")]

    metrics = agent.update(Batch(data, LABELS))
    expected = {"loss/critic": bellman.mean(), "loss/conservative": conservative.mean(), "loss/policy": losses[0]}
    assert {name: metrics[name].item() for name in expected} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-10
    )
    assert metrics["loss/policy"].item() != pytest.approx(losses[1].item(), rel=1e-2)
    for name, parameter in agent.named_parameters():
        assert torch.allclose(parameter, after[name], rtol=0, atol=1e-9), name
