"""An own environment and an own generator of 20 lines in the fine-tuning loop.

    python examples/own_generator.py

The generator is an arm of the experiments too: in this folder,

    cfdg table1 --datasets hopper-medium --algorithms iql --arms base own_generator:LinearDynamics

A drone is to hover at the origin. The offline data are four episodes of random pushes. The generator is a linear
model of the dynamics: it takes states of the buffer, tries other actions and says what they would have led to.

Prints the mean return of three seeds after pre-training, and after fine-tuning without and with the generator: -79.1,
-47.9 and -13.9 in about 40 seconds of one core.
"""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import torch
from torch import Tensor

from cfdg_rl import (
    IQL,
    Concatenated,
    EnvCollector,
    Evaluator,
    FinetunePlan,
    FixedRows,
    IQLSettings,
    Pools,
    RewardMap,
    Ring,
    Streams,
    Transitions,
    finetune,
    from_rows,
    pretrain,
    row_width,
    to_rows,
)

QUICK = "--quick" in sys.argv
SEEDS = (0, 1, 2)  # trained side by side; every tensor has their axis first
OBS = 6
ACTIONS = 3
ENV_ID = "Drone-v0"
EPISODES = 4  # of 50 steps, offline


class Drone(gymnasium.Env):
    """State: position and speed in three dimensions; action: a push; reward: minus the mean squared distance."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Begin near the origin, at rest."""
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-2, 2, ACTIONS)
        self.speed = np.zeros(ACTIONS)
        return self._observation(), {}

    def step(self, action):
        """Push once; the task itself never ends, only the time limit does."""
        self.speed = 0.8 * self.speed + 0.3 * np.clip(action, -1, 1)
        self.position = self.position + 0.3 * self.speed
        return self._observation(), -float(np.mean(self.position**2)), False, False, {}

    def _observation(self):
        return np.concatenate([self.position, self.speed]).astype(np.float32)


class LinearDynamics:
    """A generator: next state and reward are least squares in the state, the action and their products.

    ``cfdg`` makes it from the sizes of observations and actions, one seed per replica, and the device.
    """

    def __init__(self, obs_dim: int, action_dim: int, seeds: tuple[int, ...], device: str) -> None:
        self.dims = (obs_dim, action_dim)
        self.streams = Streams(seeds, "generator", device)

    def features(self, obs: Tensor, action: Tensor) -> Tensor:
        """Map ``(R, N, S)`` and ``(R, N, A)`` to ``(R, N, F)``."""
        inputs = torch.cat([torch.ones_like(obs[..., :1]), obs, action], dim=-1)
        return (inputs[..., :, None] * inputs[..., None, :]).flatten(-2)

    def fit(self, rows: Tensor, labels: Tensor) -> None:
        """Fit each replica to its rows ``(R, N, D)``; labels ``(R, N)`` are 0 for offline and 1 for online rows."""
        data = from_rows(rows, *self.dims)
        some = data.map(lambda column: column[:, :: max(1, column.shape[1] // 4_000)])  # enough for least squares
        targets = torch.cat([some.reward[..., None], some.next_obs], dim=-1)
        self.weights = torch.linalg.pinv(self.features(some.obs, some.action)) @ targets
        self.states = [data.obs[:, labels[0] == label] for label in (0, 1)]

    def sample(self, labels: Tensor) -> Tensor:
        """Invent a row ``(R, n, D)`` for each label ``(R, n)``: a known state, another action, what follows."""
        offline, online = (self._draw(states, labels.shape[1]) for states in self.states)
        obs = torch.where(labels[..., None] == 1, online, offline)
        action = 2 * self.streams.uniform(labels.shape[1], self.dims[1]) - 1
        reward, next_obs = (self.features(obs, action) @ self.weights).split([1, self.dims[0]], dim=-1)
        return to_rows(Transitions(obs, action, reward[..., 0], next_obs, torch.zeros_like(reward[..., 0])))

    def _draw(self, states: Tensor, count: int) -> Tensor:
        """Draw ``count`` of the states ``(R, n, S)`` of each replica with replacement."""
        index = self.streams.integers(states.shape[1], count)
        return states.gather(1, index[..., None].expand(-1, -1, self.dims[0]))


def random_episodes(count: int) -> Transitions:
    """Record episodes of random pushes."""
    env = gymnasium.make(ENV_ID)
    env.action_space.seed(0)
    found = []
    for episode in range(count):
        obs, _ = env.reset(seed=episode)
        for _ in range(50):
            action = env.action_space.sample()
            next_obs, reward, terminated, _, _ = env.step(action)
            found.append((obs, action, reward, next_obs, terminated))
            obs = next_obs
    columns = (torch.as_tensor(np.array(column), dtype=torch.float32) for column in zip(*found, strict=True))
    return Transitions(*columns)


def run(data: Transitions, generator: LinearDynamics | None) -> tuple[float, float]:
    """Pre-train and fine-tune; returns the mean return before and after fine-tuning."""
    updates = 1 if QUICK else 20  # after each step in the environment
    plan = FinetunePlan(steps=60, refresh_every=20, warm_up=0, updates_per_round=updates, synthetic_rows=2_000)
    sizes = (plan.steps, plan.synthetic_rows, plan.synthetic_rows)
    rings = [Ring(len(SEEDS), size, row_width(OBS, ACTIONS)) for size in sizes]
    pools = Pools(FixedRows(to_rows(data)), *rings, obs_dim=OBS, action_dim=ACTIONS)
    agent = IQL(OBS, ACTIONS, IQLSettings(hidden=(64, 64), discount=0.95), seeds=SEEDS)
    evaluator = Evaluator(ENV_ID, SEEDS, episodes=10)
    for _ in pretrain(agent, pools, Streams(SEEDS, "pretrain"), steps=20 if QUICK else 500, batch_size=256):
        pass
    before = evaluator.returns(agent).mean(1)
    agent.go_online()
    collector = EnvCollector(ENV_ID, SEEDS, RewardMap())
    for _ in finetune(agent, collector, pools, Concatenated(Streams(SEEDS, "mix")), generator, plan):
        pass
    after = evaluator.returns(agent).mean(1)
    return before.mean(), after.mean()


def main() -> None:
    """Compare fine-tuning without and with the generator."""
    gymnasium.register(ENV_ID, entry_point=Drone, max_episode_steps=50)
    data = random_episodes(EPISODES)
    before, without = run(data, None)
    _, with_generator = run(data, LinearDynamics(OBS, ACTIONS, SEEDS, "cpu"))
    print(f"mean return of {len(SEEDS)} seeds after pre-training: {before:8.1f}")
    print(f"after fine-tuning without a generator: {without:12.1f}")
    print(f"after fine-tuning with linear dynamics: {with_generator:11.1f}")


if __name__ == "__main__":
    main()
