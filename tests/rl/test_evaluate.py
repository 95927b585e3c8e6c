"""Evaluation: whole episodes in environments of its own, the same in any company and for any number of workers."""

import gymnasium
import numpy as np
import pytest
import torch

from cfdg_rl.collect import EnvCollector
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.rewards import RewardMap

GOAL = "CfdgTestGoal-v0"


class Constant:
    """An agent that always does the same."""

    def __init__(self, action: float) -> None:
        self.action = action

    def act(self, obs, explore):
        return torch.full((*obs.shape[:2], 1), self.action)

    def update(self, batch):
        raise NotImplementedError


class Drawing:
    """Draws from one stream per replica even when it does not explore, as PEX does."""

    def __init__(self, seeds, action_dim):
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.action_dim = action_dim

    def act(self, obs, explore):
        assert not explore
        return torch.stack([torch.rand(obs.shape[1], self.action_dim, generator=s) * 2 - 1 for s in self.streams])


class Goal(gymnasium.Env):
    """A sparse task: walk to a goal, which is in the observation; pays 1 there, ends, and must then rest."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        self.goal = self.np_random.uniform(-2, 8)
        self.over = False
        return np.array([self.x, self.goal], np.float32), {}

    def step(self, action):
        assert not self.over, "a finished episode was stepped"
        self.x += float(action[0])
        self.over = abs(self.x - self.goal) <= 0.5
        return np.array([self.x, self.goal], np.float32), float(self.over), self.over, False, {}


@pytest.fixture(scope="module", autouse=True)
def registered():
    if GOAL not in gymnasium.registry:
        gymnasium.register(GOAL, entry_point=Goal, max_episode_steps=6)


def test_evaluation_returns_are_undiscounted_sums_of_whole_episodes(point):
    returns = Evaluator(point, (0, 1), episodes=4).returns(Constant(0.0))
    assert returns.shape == (2, 4)
    assert np.all(returns <= 0)
    assert np.all(returns >= -1.5 * 20)
    assert len(np.unique(returns)) == 8, "every episode has a start of its own"


def test_evaluation_repeats_for_a_round_and_differs_between_rounds(point):
    evaluator = Evaluator(point, (0,), episodes=3)
    first = evaluator.returns(Constant(0.0), 0)
    assert np.array_equal(first, evaluator.returns(Constant(0.0), 0))
    assert not np.array_equal(first, evaluator.returns(Constant(0.0), 1))


def test_evaluation_leaves_the_training_environments_alone(point):
    collectors = [EnvCollector(point, (0,), RewardMap()) for _ in range(2)]
    evaluator = Evaluator(point, (0,), episodes=2)
    for step in range(25):
        rows = [collector.step(Constant(0.2)) for collector in collectors]
        assert torch.equal(*rows)
        if step % 5 == 0:
            before = collectors[1].stack.obs.copy()
            evaluator.returns(Constant(1.0), step)
            assert np.array_equal(before, collectors[1].stack.obs)


def test_a_sparse_task_scores_the_share_of_goals_reached():
    evaluator = Evaluator(GOAL, (0, 1), episodes=40)
    returns = evaluator.returns(Constant(1.0))
    goals = np.array([env.unwrapped.goal for env in evaluator.stack.envs]).reshape(2, 40)
    assert np.array_equal(returns, (goals >= 0.5) & (goals <= 6.5)), "six steps of 1 reach these"
    assert 0 < returns.mean() < 1


@pytest.mark.parametrize(("env_id", "width"), [("Hopper-v5", 3), (GOAL, 1), ("InvertedPendulum-v5", 1)])
def test_workers_change_nothing(env_id, width):
    results = []
    for workers in (1, 2, 5):
        evaluator = Evaluator(env_id, (0, 1), episodes=4, workers=workers)
        agent = Drawing((5, 6), width)
        results.append([evaluator.returns(agent, number) for number in range(2)])
        evaluator.stack.close()
    assert np.ptp(results[0]) > 0
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_a_replica_scores_the_same_in_any_company():
    together = Evaluator("Hopper-v5", (0, 1, 2), episodes=4).returns(Drawing((5, 6, 7), 3))
    alone = Evaluator("Hopper-v5", (1,), episodes=4).returns(Drawing((6,), 3))
    np.testing.assert_array_equal(together[1], alone[0])


def test_an_evaluation_without_episodes_is_refused(point):
    with pytest.raises(ValueError, match="episodes is 0, expected at least 1"):
        Evaluator(point, (0,), episodes=0)
