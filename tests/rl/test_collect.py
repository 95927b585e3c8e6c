"""Collection: end flags, returns, saved simulators."""

import gymnasium
import numpy as np
import pytest
import torch

from cfdg_rl.collect import EnvCollector
from cfdg_rl.envs import make_env
from cfdg_rl.rewards import RewardMap
from cfdg_rl.transitions import Transitions, from_rows


class Constant:
    """An agent that always does the same."""

    def __init__(self, action: float, action_dim: int = 1) -> None:
        self.action = action
        self.action_dim = action_dim

    def act(self, obs, explore):
        return torch.full((*obs.shape[:2], self.action_dim), self.action)

    def update(self, batch):
        raise NotImplementedError


class Wild:
    """Seeded random actions, so that two collectors can be compared."""

    def __init__(self, action_dim: int) -> None:
        self.rng = torch.Generator().manual_seed(0)
        self.action_dim = action_dim

    def act(self, obs, explore):
        return torch.rand(*obs.shape[:2], self.action_dim, generator=self.rng) * 2 - 1


def collect(env_id, agent, steps, obs_dim, action_dim, reward=None, seeds=(0, 1)) -> Transitions:
    collector = EnvCollector(env_id, seeds, reward or RewardMap())
    return from_rows(torch.cat([collector.step(agent) for _ in range(steps)], dim=1), obs_dim, action_dim)


def test_a_time_limit_is_never_a_terminal(point):
    data = collect(point, Constant(0.0), 65, 1, 1)
    assert data.terminal.sum() == 0
    moved = (data.obs[:, 1:] - data.next_obs[:, :-1]).abs()[..., 0] > 1e-6
    assert moved.sum(1).tolist() == [3, 3], "three episodes of 20 steps were truncated and restarted"


def test_a_real_end_is_a_terminal_with_its_own_last_observation(point):
    data = collect(point, Constant(1.0), 40, 1, 1)
    assert data.terminal.sum() > 2
    assert torch.equal(data.terminal.bool(), data.next_obs.abs()[..., 0] > 2)
    assert torch.allclose(data.next_obs, data.obs + 0.4), "next_obs is never the next episode's first state"


def test_no_reset_slips_in_as_a_transition(point):
    data = collect(point, Constant(1.0), 60, 1, 1)
    assert data.obs.abs().max() <= 2.0, "nothing is stepped from a state that had ended"


def test_rewards_go_through_the_map(point):
    raw, mapped = (
        collect(point, Constant(0.3), 10, 1, 1, reward=reward) for reward in (RewardMap(), RewardMap(10.0, -1.0))
    )
    assert torch.allclose(mapped.reward, 10 * raw.reward - 1)


def test_a_replica_sees_the_same_in_any_company(point):
    together, alone = (collect(point, Constant(0.3), 30, 1, 1, seeds=seeds) for seeds in ((4, 5), (5,)))
    assert torch.equal(together.obs[1], alone.obs[0])


def test_a_restored_mujoco_collector_continues_bit_for_bit():
    agent = Wild(3)
    first = EnvCollector("Hopper-v5", (0, 1), RewardMap())
    second = EnvCollector("Hopper-v5", (8, 9), RewardMap())
    for _ in range(60):
        first.step(agent)
    state = first.state()
    rng = agent.rng.get_state()
    expected = torch.cat([first.step(agent) for _ in range(80)], dim=1)
    second.restore(state)
    agent.rng.set_state(rng)
    continued = torch.cat([second.step(agent) for _ in range(80)], dim=1)
    assert expected[..., -1].sum() > 0, "the stretch has resets in it"
    assert torch.equal(continued, expected)


def test_another_kind_of_environment_begins_new_episodes_which_are_booked_alone(point):
    first = EnvCollector(point, (0, 1), RewardMap())
    second = EnvCollector(point, (0, 1), RewardMap())
    for _ in range(25):
        first.step(Constant(0.0))
    second.restore(first.state())
    assert np.array_equal(second.last_return, first.last_return)
    start = np.abs(second.stack.obs[:, 0])
    for _ in range(20):
        second.step(Constant(0.0))
    np.testing.assert_allclose(second.last_return, -20 * start, rtol=1e-6)


def test_a_restart_begins_episodes_and_books_nothing(point):
    collector = EnvCollector(point, (0, 1), RewardMap())
    first_steps = []
    for _ in range(2):
        first_steps.append(collector.step(Constant(0.0)))
        for _ in range(4):
            collector.step(Constant(0.0))
        collector.restart()
        assert np.isnan(collector.last_return).all()
        assert not collector.running.any()
    assert not torch.equal(first_steps[0][..., 0], first_steps[1][..., 0]), "a start of its own each time"
    start = np.abs(collector.stack.obs[:, 0])
    rows = torch.cat([collector.step(Constant(0.0)) for _ in range(20)], dim=1)
    assert torch.equal(rows[:, :1, 0].expand(-1, 20), rows[..., 0]), "whole episodes again"
    np.testing.assert_allclose(collector.last_return, -20 * start, rtol=1e-6)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "InvertedPendulum-v5"])
def test_workers_change_nothing(env_id):
    width = make_env(env_id).action_space.shape[0]
    runs = []
    for workers in (1, 3):
        collector = EnvCollector(env_id, (0, 1), RewardMap(), 2, workers=workers)
        agent = Wild(width)
        runs.append(torch.cat([collector.step(agent) for _ in range(60)], dim=1))
        collector.stack.close()
    assert runs[0][..., -1].sum() > 0
    assert torch.equal(*runs)


def test_v4_is_made_without_a_warning_and_unknown_ids_are_refused():
    make_env("Hopper-v4").close()
    with pytest.raises(ValueError, match="NoSuchEnv"):
        make_env("NoSuchEnv-v0")
    if "CfdgTestDiscrete-v0" not in gymnasium.registry:
        gymnasium.register("CfdgTestDiscrete-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    with pytest.raises(ValueError, match=r"CfdgTestDiscrete.* box"):
        make_env("CfdgTestDiscrete-v0")
