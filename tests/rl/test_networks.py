"""Stacked networks, Polyak averaging and per-replica random streams."""

import math

import pytest
import torch

from cfdg_rl.agents.networks import (
    StackedMLP,
    Standardiser,
    adam,
    descend,
    polyak,
    q_values,
    rlkit_hidden,
    set_rate,
    torch_default,
    uniform_within,
    xavier_uniform,
)
from cfdg_rl.streams import Streams, derive_seed
from cfdg_rl.transitions import Transitions


def test_a_head_of_a_stack_equals_a_plain_network():
    net = StackedMLP([3, 8, 8, 2], Streams((0, 1), "w"), heads=4)
    x = torch.randn(2, 5, 3)
    out = net(x)
    assert out.shape == (4, 2, 5, 2)
    for head in range(4):
        for replica in range(2):
            y = x[replica]
            for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
                y = y @ weight[2 * head + replica] + bias[2 * head + replica]
                y = y.relu() if layer < 2 else y
            assert torch.allclose(out[head, replica], y, atol=1e-6)


def test_without_heads_there_is_no_head_axis():
    assert StackedMLP([3, 8, 2], Streams((0, 1, 2), "w"))(torch.randn(3, 5, 3)).shape == (3, 5, 2)


def test_gradients_of_replicas_are_independent():
    net = StackedMLP([2, 8, 1], Streams((0, 1), "w"))
    net(torch.randn(2, 4, 2))[0].sum().backward()
    assert net.weights[0].grad[0].abs().sum() > 0
    assert net.weights[0].grad[1].abs().sum() == 0


def test_initial_bounds_are_the_named_schemes():
    weight, bias = torch_default(Streams((0,), "w"), (), 400, 300)
    assert weight.abs().max() <= 1 / 20
    assert weight.std() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert bias.abs().max() <= 1 / 20
    weight, bias = xavier_uniform(Streams((0,), "w"), (), 400, 200)
    assert weight.abs().max() <= 0.1
    assert weight.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)
    assert bias.abs().max() == 0
    weight, bias = rlkit_hidden(Streams((0,), "w"), (5,), 30, 400)
    assert weight.shape == (1, 5, 30, 400)
    assert weight.abs().max() <= 1 / 20, "1 / sqrt of the fan-out"
    assert weight.std() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert bias.shape == (1, 5, 1, 400)
    assert (bias == 0.1).all()
    for tensor in uniform_within(3e-3)(Streams((0,), "w"), (), 100, 5000):
        assert 0.99 * 3e-3 < tensor.abs().max() <= 3e-3
        assert tensor.std() == pytest.approx(3e-3 / math.sqrt(3), rel=0.05)


def test_the_last_layer_may_begin_differently():
    net = StackedMLP([3, 64, 64, 2], Streams((0, 1), "w"), heads=5, init=rlkit_hidden, last_init=uniform_within(3e-3))
    assert [tuple(weight.shape) for weight in net.weights] == [(10, 3, 64), (10, 64, 64), (10, 64, 2)]
    assert [bias.eq(0.1).all().item() for bias in net.biases] == [True, True, False]
    assert net.weights[1].abs().max() > 0.1
    assert net.weights[2].abs().max() <= 3e-3


def test_q_values_are_the_critics_of_joined_state_and_action():
    net = StackedMLP([5, 8, 1], Streams((0, 1), "w"), heads=3)
    obs = torch.randn(2, 7, 3)
    action = torch.randn(2, 7, 2)
    q = q_values(net, obs, action)
    assert q.shape == (3, 2, 7)
    assert torch.equal(q, net(torch.cat([obs, action], -1))[..., 0])


def test_descend_moves_the_optimisers_weights_and_no_others():
    """Two losses that share a weight: Adam's first step is lr times the sign of the sum's gradient."""
    mine, other = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimiser = adam([mine], 0.1)
    descend(optimiser, mine.square() * other, 3 * mine)  # d/dm: 2 m o + 3 = 5 and 11
    assert mine.tolist() == pytest.approx([0.9, -2.1], rel=1e-5)
    assert other.tolist() == [1.0, -2.0]
    assert other.grad is None
    assert mine.grad.tolist() == [5.0, 11.0]


def test_the_rate_of_an_optimiser_can_be_changed():
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = adam([weight], 0.1)
    set_rate(optimiser, 0.0)
    descend(optimiser, weight.square())
    assert (weight == 1).all()
    set_rate(optimiser, 0.5)
    descend(optimiser, weight.square())
    assert weight.tolist() == pytest.approx([0.5, 0.5], rel=1e-5)


def test_observations_are_standardised_where_enabled():
    obs = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 0.1]) + 7
    scale = Standardiser(2, enabled=True)
    assert torch.equal(scale(obs), obs), "nothing is changed before any data were seen"
    scale.fit_scaler(obs)
    mapped = scale(obs)
    assert mapped.mean(0).tolist() == pytest.approx([0, 0], abs=1e-4)
    expected = [deviation / (deviation + 1e-3) for deviation in obs.std(0, correction=0).tolist()]
    assert mapped.std(0, correction=0).tolist() == pytest.approx(expected, rel=1e-4)
    assert set(scale.state_dict()) == {"mean", "std"}
    reward = torch.zeros(5000)
    both = scale.both(Transitions(obs, obs, reward, obs + 1, reward))
    assert torch.equal(both.obs, mapped)
    assert torch.equal(both.next_obs, scale(obs + 1))
    assert torch.equal(both.action, obs)


def test_observations_pass_unchanged_where_not_enabled():
    scale = Standardiser(2, enabled=False)
    obs = torch.randn(10, 2)
    scale.fit_scaler(5 * obs + 3)
    assert torch.equal(scale(obs), obs)


def test_polyak_moves_by_the_rate():
    source, target = (StackedMLP([2, 4, 1], Streams((s,), "w")) for s in (0, 1))
    expected = [0.9 * t + 0.1 * s for t, s in zip(target.parameters(), source.parameters(), strict=True)]
    polyak(target, source, 0.1)
    for got, want in zip(target.parameters(), expected, strict=True):
        assert torch.allclose(got, want)


def test_a_seed_draws_the_same_in_any_company():
    alone = Streams((7,), "x")
    company = Streams((3, 7, 9), "x")
    for draw in ("normal", "uniform"):
        assert torch.equal(getattr(alone, draw)(4, 2)[0], getattr(company, draw)(4, 2)[1])
    assert torch.equal(alone.integers(100, 6)[0], company.integers(100, 6)[1])


def test_purposes_and_seeds_are_independent():
    draws = [Streams((seed,), purpose).normal(8) for seed in (0, 1) for purpose in ("a", "b")]
    assert len({tuple(draw[0].tolist()) for draw in draws}) == 4
    assert 0 <= derive_seed(0, "a") < 2**63


def test_a_restored_stream_continues():
    streams = Streams((0, 1), "x")
    streams.normal(3)
    state = streams.state()
    expected = streams.normal(5)
    streams.restore(state)
    assert torch.equal(streams.normal(5), expected)


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="at least one seed"):
        Streams((), "x")


def test_descending_heeds_expanded_gradients():
    """The gradient of a sum is one number seen twice; Adam's first step moves every weight by the rate."""
    weight = torch.nn.Parameter(torch.ones(2))
    descend(adam([weight], 0.5), weight)
    assert weight.tolist() == pytest.approx([0.5, 0.5])


def test_weights_of_standardised_observations_are_refused_without_them():
    trained = Standardiser(2, True)
    trained.fit_scaler(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    Standardiser(2, True).load_state_dict(trained.state_dict())
    Standardiser(2, False).load_state_dict(Standardiser(2, False).state_dict())
    with pytest.raises(ValueError, match="normalise_obs is False, expected True: the weights were trained"):
        Standardiser(2, False).load_state_dict(trained.state_dict())
