from dataclasses import replace

import pytest
import torch

from cfdg_diffusion import Streams
from cfdg_diffusion.edm.learner import Learner, clipped, ema_decay
from cfdg_diffusion.edm.network import ResidualMLP

NETWORK = ResidualMLP(columns=3, labels=2, width=16, blocks=2)


def random_weights(seeds=(0, 1)):
    """Weights without the zeros of a fresh network."""
    return Streams(seeds, "test").normal(NETWORK.size) * 0.3


def inputs(replicas=2, rows=5):
    streams = Streams(range(replicas), "inputs")
    return streams.normal(rows, 3), streams.normal(rows), torch.arange(rows).expand(replicas, -1) % 3


def layer_norm(h):
    return (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, correction=0) + 1e-5).sqrt()


def test_a_fresh_network_says_zero():
    weights = NETWORK.unpack(NETWORK.initial(Streams([0, 1], "test")), torch.float32)
    assert torch.equal(NETWORK(weights, *inputs()), torch.zeros(2, 5, 3))


@pytest.mark.parametrize("normed", [False, True])
def test_the_forward_pass_is_the_formula(normed):
    network = replace(NETWORK, normed=normed, outputs=4)
    flat = Streams((0,), "test").normal(network.size) * 0.3
    x, noise, labels = (part[:1] for part in inputs())
    weights = {name: value[0] for name, value in network.unpack(flat, torch.float32).items()}
    turns = torch.tensor([2.0 ** (-2 + 5 * i / 7) for i in range(8)])
    angles = 2 * torch.pi * noise[0][:, None] * turns
    features = torch.cat([noise[0][:, None], angles.sin(), angles.cos()], dim=1)
    silu = torch.nn.functional.silu
    h = x[0] @ weights["input"] + weights["input_bias"]
    h = h + silu(features @ weights["noise"] + weights["label"][labels[0]]) @ weights["condition"]
    for block in range(2):
        read = layer_norm(h) if normed else silu(h)
        inner = read @ weights[f"first{block}"] + weights[f"first{block}_bias"]
        h = h + silu(inner) @ weights[f"second{block}"] + weights[f"second{block}_bias"]
    expected = silu(layer_norm(h)) @ weights["output"] + weights["output_bias"]
    found = network(network.unpack(flat, torch.float32), x, noise, labels)
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


def test_one_shared_noise_level_equals_the_same_level_for_each_row():
    x, _, labels = inputs()
    weights = NETWORK.unpack(random_weights(), torch.float32)
    shared = NETWORK(weights, x, torch.full((1, 1), 0.3), labels)
    torch.testing.assert_close(shared, NETWORK(weights, x, torch.full((2, 5), 0.3), labels))


@pytest.mark.parametrize("change", ["x", "noise", "labels"])
def test_the_output_depends_on_every_input(change):
    x, noise, labels = inputs()
    weights = NETWORK.unpack(random_weights(), torch.float32)
    other = {"x": (x + 1, noise, labels), "noise": (x, noise + 1, labels), "labels": (x, noise, (labels + 1) % 3)}
    assert ((NETWORK(weights, x, noise, labels) - NETWORK(weights, *other[change])).abs() > 1e-4).all()


def test_the_output_is_bounded_however_far_the_input():
    x, noise, labels = inputs()
    weights = NETWORK.unpack(random_weights(), torch.float32)
    bound = 16**0.5 * weights["output"].norm(dim=1, keepdim=True) + weights["output_bias"].abs()
    for distance in (1.0, 1e3, 1e9):
        assert (NETWORK(weights, x * distance, noise, labels).abs() <= bound).all()


def test_replicas_have_weights_of_their_own():
    x, noise, labels = inputs()
    both = NETWORK(NETWORK.unpack(random_weights(), torch.float32), x, noise, labels)
    alone = NETWORK(NETWORK.unpack(random_weights((1,)), torch.float32), x[1:], noise[1:], labels[1:])
    torch.testing.assert_close(both[1:], alone)


def test_bfloat16_is_close_to_float32():
    x, noise, labels = inputs()
    full, half = (NETWORK(NETWORK.unpack(random_weights(), t), x, noise, labels) for t in (torch.float, torch.bfloat16))
    assert half.dtype == torch.float32
    assert float((full - half).norm() / full.norm()) < 0.02


def test_each_replica_is_clipped_by_its_own_norm():
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(clipped(gradient, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


def test_the_average_warms_up_and_then_keeps_its_decay():
    assert ema_decay(1, 0.999) == pytest.approx(1 - 2 ** (-2 / 3))
    assert ema_decay(10**6, 0.999) == 0.999
    learner = Learner(torch.zeros(1, 2), gradient_clip=1.0, ema_decay=0.0)
    learner.step(learner.weights.sum(dim=1), 0.1)
    assert torch.equal(learner.average, learner.weights)  # an average without memory is the weights
    torch.testing.assert_close(learner.weights.detach(), torch.full((1, 2), -0.1))  # Adam's first step is the rate
