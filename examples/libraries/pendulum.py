"""The task of the examples: Pendulum-v1, offline rows of random pushes, and the mean return of a policy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
import torch

from cfdg_rl import Transitions

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUICK = "--quick" in sys.argv
ENV_ID = "Pendulum-v1"  # actions in [-2, 2]; an episode has 200 steps and no end but the time limit
LARGEST = 2.0  # action
OFFLINE_ROWS = 2_000
STEPS = 600 if QUICK else 4_000  # online
FIRST_REFRESH = 300 if QUICK else 1_000
REFRESH_EVERY = 1_000


def offline_rows() -> Transitions:
    """Record random pushes."""
    env = gymnasium.make(ENV_ID)
    env.action_space.seed(0)
    found = []
    obs, _ = env.reset(seed=0)
    for _ in range(OFFLINE_ROWS):
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        found.append((obs, action / LARGEST, reward, after, terminated))
        obs = env.reset()[0] if terminated or truncated else after
    return to_transitions(*zip(*found, strict=True))


def to_transitions(*columns: object) -> Transitions:
    """Make transitions of five columns: obs, action in [-1, 1], reward, next obs, terminal."""
    return Transitions(*(torch.as_tensor(np.asarray(column), dtype=torch.float32) for column in columns))


def refreshes_at(step: int) -> bool:
    """Tell if the rows are generated anew after this step."""
    return step >= FIRST_REFRESH and (step - FIRST_REFRESH) % REFRESH_EVERY == 0


def mean_return(act: Callable[[NDArray[np.float32]], NDArray[np.float32]], episodes: int = 10) -> float:
    """Play with a policy of single observations, whose actions are in [-2, 2]."""
    env = gymnasium.make(ENV_ID)
    total = 0.0
    for episode in range(episodes):
        obs, _ = env.reset(seed=1_000 + episode)
        over = False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(act(obs))
            total += float(reward)
            over = terminated or truncated
    return total / episodes
