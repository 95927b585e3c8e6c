"""On-policyness of generated rows: the effective share against its closed form."""

import math

import pytest
import torch

from cfdg_experiments.generators.on_policy import OnPolicy, OnPolicySettings, effective_share
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.mixing import Pools

SEEDS = (0, 1)
SETTINGS = OnPolicySettings(width=32, steps=400, rows=4000, learning_rate=3e-3)


def normal_pairs(mean, seed, count=4000):
    noise = torch.randn(len(SEEDS), count, 3, generator=torch.Generator().manual_seed(seed))
    noise[..., 0] += mean
    return noise


def test_the_effective_share_is_one_for_equal_weights_and_one_nth_for_a_single_one():
    assert effective_share(torch.full((2, 50), 7.0)).tolist() == pytest.approx([1, 1])
    single = torch.full((1, 50), -1e3)
    single[0, 3] = 1e3
    assert float(effective_share(single)) == pytest.approx(1 / 50)
    half = torch.tensor([[0.0, 0.0, -1e3, -1e3]])
    assert float(effective_share(half)) == pytest.approx(0.5)


def test_the_share_of_shifted_gaussians_with_the_exact_ratio_is_exp_of_minus_the_squared_shift():
    shift = 0.7
    x = torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0))
    exact = shift * x - shift**2 / 2  # ln N(x; shift, 1) / N(x; 0, 1)
    assert float(effective_share(exact)) == pytest.approx(math.exp(-(shift**2)), rel=0.02)


def test_the_classifier_finds_shares_near_those_of_the_exact_ratio():
    estimate = OnPolicy(2, 1, SEEDS, SETTINGS)
    assert (estimate.share(normal_pairs(0.0, 1), normal_pairs(0.0, 2)) > 0.85).all()
    near = estimate.share(normal_pairs(0.0, 3), normal_pairs(0.7, 4))
    assert (near - math.exp(-0.49)).abs().max() < 0.15
    assert (estimate.share(normal_pairs(0.0, 5), normal_pairs(4.0, 6)) < 0.1).all()


def test_two_draws_of_the_same_rows_are_worth_all_of_them_also_where_rows_are_few_and_wide():
    streams = torch.Generator().manual_seed(0)
    one, other = (torch.randn(4, 1000, 23, generator=streams) for _ in range(2))
    assert (OnPolicy(17, 6, (0, 1, 2, 3)).share(one, other) > 0.9).all()


def test_labels_are_judged_apart_and_an_empty_one_keeps_everything():
    rings = [Ring(len(SEEDS), 2000, 2 * 2 + 1 + 2) for _ in range(3)]
    for ring, mean in zip(rings[:2], (0.0, 4.0), strict=True):
        pairs = normal_pairs(mean, int(mean), 2000)
        ring.add(torch.cat([pairs, torch.zeros(len(SEEDS), 2000, 4)], dim=-1))
    online, off, on = rings
    pools = Pools(FixedRows(torch.zeros(5, 7)), online, off, on, obs_dim=2, action_dim=1)
    shares = OnPolicy(2, 1, SEEDS, SETTINGS)(pools)
    assert (shares[:, 0] < 0.1).all()
    assert (shares[:, 1] == 1).all()


def test_refusals():
    with pytest.raises(ValueError, match="steps is 0, expected"):
        OnPolicySettings(steps=0)
