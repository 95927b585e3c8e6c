"""A small real environment: push a point along a line to the origin."""

import gymnasium
import numpy as np

ENV_ID = "CfdgTestPoint-v0"


class Point(gymnasium.Env):
    """Reward minus the distance to the origin; terminates beyond 2, truncates after 20 steps."""

    observation_space = gymnasium.spaces.Box(-3, 3, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1.5, 1.5)
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x += 0.4 * float(np.clip(action[0], -1, 1))
        return np.array([self.x], np.float32), -abs(self.x), abs(self.x) > 2, False, {}


def register() -> None:
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(ENV_ID, entry_point=Point, max_episode_steps=20)
