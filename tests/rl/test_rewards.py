"""The reward map."""

import numpy as np
import pytest
import torch

from cfdg_rl.agents.iql import IQLSettings
from cfdg_rl.rewards import REWARDS, RewardMap, by_return_range, check_choice


def test_the_same_map_serves_tensors_and_arrays():
    reward = RewardMap(2.0, -1.0)
    assert reward(torch.tensor([0.0, 3.0])).tolist() == reward(np.array([0.0, 3.0])).tolist() == [-1.0, 5.0]


def test_return_range_makes_the_spread_one_thousand():
    returns = np.array([100.0, 350.0, 600.0])
    assert np.ptp(by_return_range(returns)(returns)) == pytest.approx(1000)


@pytest.mark.parametrize("returns", [[], [5.0], [5.0, 5.0]])
def test_a_range_needs_two_different_returns(returns):
    with pytest.raises(ValueError, match="two episodes with different returns"):
        by_return_range(np.array(returns))


@pytest.mark.parametrize(("name", "expected"), [("raw", [0.0, 1.0]), ("minus-one", [-1.0, 0.0])])
def test_named_maps_do_not_need_returns(name, expected):
    assert REWARDS[name](np.array([]))(np.array([0.0, 1.0])).tolist() == expected


def test_choices_are_checked_by_name_and_reward_always():
    check_choice(IQLSettings(), precision=("fp32",))
    with pytest.raises(ValueError, match="precision is 'fp32', expected one of int8"):
        check_choice(IQLSettings(), precision=("int8",))
    with pytest.raises(ValueError, match="reward is 'clip', expected one of raw, return-range, minus-one"):
        IQLSettings(reward="clip")
