"""Stacked networks, Polyak averaging and per-replica random streams."""

import math

import pytest
import torch

from cfdg_rl.networks import StackedMLP, polyak, torch_default, xavier_uniform
from cfdg_rl.streams import Streams, derive_seed


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


def test_polyak_moves_by_the_rate():
    source, target = (StackedMLP([2, 4, 1], Streams((s,), "w")) for s in (0, 1))
    expected = [0.9 * t + 0.1 * s for t, s in zip(target.parameters(), source.parameters(), strict=True)]
    polyak(target, source, 0.1)
    for got, want in zip(target.parameters(), expected, strict=True):
        assert torch.allclose(got, want)


def test_a_seed_draws_the_same_in_any_company():
    alone, company = Streams((7,), "x"), Streams((3, 7, 9), "x")
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
