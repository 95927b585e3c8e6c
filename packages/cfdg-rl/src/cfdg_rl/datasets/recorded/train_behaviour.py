"""Training of the behaviour policies, whose raw files ``python -m cfdg_rl.datasets.recorded.pack`` packs.

Soft actor-critic (Haarnoja et al., 2018) from Stable-Baselines3 (``pip install 'cfdg-rl[behaviour]'``) in Gymnasium's
``-v5`` environments, with a snapshot of the actor every 20,000 steps. It writes

    ENV.npz         ``STEP/LAYER/weight`` (in, out) and ``STEP/LAYER/bias``, LAYER in hidden0, hidden1, mean, log_std
    ENV.json        per snapshot, mean and standard deviation of the returns of 5 deterministic episodes
    ENV-replay.npz  every row from the first step to the medium stage: obs, action, reward, terminal, timeout; the next
                    observation of row i is obs[i + 1], except for the rows end_row, where it is end_next_obs

The medium stage is the snapshot whose return is nearest a third of the last one's, as in D4RL, or ``--medium-step``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cfdg_rl.datasets.recorded.actor import Actor
from cfdg_rl.envs.make import make_env
from cfdg_rl.envs.stack import EnvStack
from cfdg_rl.files import atomic_write, save_arrays

if TYPE_CHECKING:
    from stable_baselines3 import SAC  # pyrefly: ignore[missing-import]
    from stable_baselines3.common.buffers import ReplayBuffer  # pyrefly: ignore[missing-import]

DEFAULT_STEPS = {"Hopper-v5": 400_000, "HalfCheetah-v5": 300_000, "Walker2d-v5": 500_000}
_EPISODES = 5


@dataclass(frozen=True)
class Training:
    """One training run.

    Attributes:
        env_id: a key of ``DEFAULT_STEPS``.
        steps: environment steps.
        seed: of the run.
        snapshot_every: steps between snapshots of the actor.
        width: of the two hidden layers of actor and critics; half the usual 256, so that actors ship small.
        batch_size: rows of an update.
        learning_rate: of Adam; above the usual 3e-4, because the run is short.
        random_steps: uniform actions before the first update.
    """

    env_id: str
    steps: int
    seed: int = 0
    snapshot_every: int = 20_000
    width: int = 128
    batch_size: int = 128
    learning_rate: float = 7e-4
    random_steps: int = 5_000

    def __post_init__(self) -> None:
        """Refuse runs without a snapshot."""
        if self.steps < self.snapshot_every or self.steps % self.snapshot_every:
            raise ValueError(f"steps is {self.steps:,}, expected a multiple of {self.snapshot_every:,} (a snapshot)")


def train(training: Training, out: Path, *, medium_step: int | None = None, progress: bool = False) -> list[Path]:
    """Train one policy and write its three files into ``out``.

    Args:
        training: settings of the run.
        out: folder of the files.
        medium_step: where the replay ends; None takes the stage nearest a third of the last one's return.
        progress: print a line per snapshot to standard error.

    Returns:
        ENV.npz, ENV.json and ENV-replay.npz.

    Raises:
        ImportError: if Stable-Baselines3 is not installed.
        ValueError: if ``medium_step`` is no snapshot.
    """
    stages = range(training.snapshot_every, training.steps + 1, training.snapshot_every)
    if medium_step is not None and medium_step not in stages:
        raise ValueError(f"medium step {medium_step:,} is not a snapshot, expected one of {list(stages)}")
    learner = _learner(training)
    actors: dict[int, Actor] = {}
    scores: list[dict[str, float]] = []
    for step in stages:
        learner.learn(training.snapshot_every, reset_num_timesteps=False)
        actors[step] = extract_actor(learner)
        returns = deterministic_returns(actors[step], training.env_id, training.seed)
        scores.append({"step": step, "mean_return": round(returns.mean(), 1), "std_return": round(returns.std(), 1)})
        if progress:
            sys.stderr.write(f"{training.env_id} step {step:,} return {returns.mean():,.1f}\n")
    medium = medium_step or nearest_a_third(scores)
    return _write(training.env_id, out, actors, scores, replay_arrays(learner.replay_buffer, medium))


def _learner(training: Training) -> SAC:
    try:
        from stable_baselines3 import SAC  # pyrefly: ignore[missing-import]
    except ImportError as error:
        message = "training behaviour policies needs Stable-Baselines3: pip install 'cfdg-rl[behaviour]'"
        raise ImportError(message) from error
    return SAC(
        "MlpPolicy",
        make_env(training.env_id),
        learning_rate=training.learning_rate,
        buffer_size=training.steps,
        learning_starts=training.random_steps,
        batch_size=training.batch_size,
        policy_kwargs={"net_arch": [training.width, training.width]},
        seed=training.seed,
        device="cpu",
    )


def extract_actor(learner: SAC) -> Actor:
    """Copy the actor of a Stable-Baselines3 SAC with two hidden layers."""
    policy = learner.policy.actor
    layers = {
        "hidden0": policy.latent_pi[0],
        "hidden1": policy.latent_pi[2],
        "mean": policy.mu,
        "log_std": policy.log_std,
    }
    weights = {}
    for name, layer in layers.items():
        weights[f"{name}/weight"] = layer.weight.detach().cpu().numpy().T.copy()
        weights[f"{name}/bias"] = layer.bias.detach().cpu().numpy().copy()
    return Actor(weights)


def deterministic_returns(actor: Actor, env_id: str, seed: int, episodes: int = _EPISODES) -> np.ndarray:
    """Play tanh(mean); undiscounted returns ``(episodes,)``."""
    stack = EnvStack(env_id, [seed * episodes + i for i in range(episodes)])
    silence = np.zeros((episodes, *(stack.envs[0].action_space.shape or ())), np.float32)
    total = np.zeros(episodes)
    active = np.arange(episodes)
    while len(active):
        reward, terminated, truncated = stack.step(actor.act(stack.obs, silence)[active], active)
        total[active] += reward
        active = active[~(terminated | truncated)]
    stack.close()
    return total


def nearest_a_third(scores: Sequence[dict[str, float]]) -> int:
    """Find the step of the snapshot whose mean return is nearest a third of the last one's."""
    target = scores[-1]["mean_return"] / 3.0
    return int(min(scores, key=lambda score: abs(score["mean_return"] - target))["step"])


def replay_arrays(buffer: ReplayBuffer, rows: int, max_episode_steps: int = 1000) -> dict[str, np.ndarray]:
    """Copy the first rows of a Stable-Baselines3 replay buffer of one environment, in the layout of ENV-replay.npz.

    An episode of ``max_episode_steps`` counts as ended by the time limit, even if it also terminated on its last step.
    """
    ended = buffer.dones[:rows, 0].astype(bool)
    last = np.flatnonzero(ended)
    length = np.diff(last, prepend=-1)
    timeout = np.zeros(rows, dtype=bool)
    timeout[last[length == max_episode_steps]] = True
    ends = np.union1d(last, [rows - 1])
    return {
        "obs": buffer.observations[:rows, 0].astype(np.float32),
        "action": buffer.actions[:rows, 0].astype(np.float32),
        "reward": buffer.rewards[:rows, 0].astype(np.float32),
        "terminal": ended & ~timeout,
        "timeout": timeout,
        "end_row": ends.astype(np.int32),
        "end_next_obs": buffer.next_observations[ends, 0].astype(np.float32),
    }


def _write(
    env_id: str, out: Path, actors: dict[int, Actor], scores: list[dict[str, float]], replay: dict[str, np.ndarray]
) -> list[Path]:
    paths = [out / f"{env_id}.npz", out / f"{env_id}.json", out / f"{env_id}-replay.npz"]
    named = {f"{step:07d}/{name}": array for step, actor in actors.items() for name, array in actor.weights.items()}
    save_arrays(paths[0], named)
    with atomic_write(paths[1]) as draft:
        draft.write_text(json.dumps(scores, indent=2) + "\n")
    save_arrays(paths[2], replay)
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 2 with one sentence on standard error if the settings cannot be run."""
    parser = argparse.ArgumentParser(
        prog="python -m cfdg_rl.datasets.recorded.train_behaviour",
        description="Train SAC, keeping its actors and its replay for python -m cfdg_rl.datasets.recorded.pack.",
        epilog="example: --env Hopper-v5 --out raw     about an hour on one core",
    )
    parser.add_argument("--env", choices=DEFAULT_STEPS, required=True)
    parser.add_argument("--steps", type=int, help="environment steps; default " + str(DEFAULT_STEPS).strip("{}"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for ENV.npz, ENV.json and ENV-replay.npz")
    parser.add_argument("--snapshot-every", type=int, default=20_000, help="default 20,000 steps")
    parser.add_argument("--learning-rate", type=float, default=7e-4, help="default 7e-4")
    parser.add_argument(
        "--medium-step", type=int, help="where the replay ends; default nearest a third of the last return"
    )
    arguments = parser.parse_args(argv)
    try:
        steps = arguments.steps if arguments.steps is not None else DEFAULT_STEPS[arguments.env]
        training = Training(
            arguments.env, steps, arguments.seed, arguments.snapshot_every, learning_rate=arguments.learning_rate
        )
        written = train(training, arguments.out, medium_step=arguments.medium_step, progress=True)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
