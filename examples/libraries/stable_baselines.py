"""Stable-Baselines3: SAC whose replay buffer mixes offline, online and generated rows.

    pip install stable-baselines3 cfdg-rl cfdg-diffusion
    python examples/libraries/stable_baselines.py

``replay_buffer_class`` is all that changes: the buffer's ``sample`` completes the online rows. Its own rows go the
other way in :meth:`MixedBuffer.online_rows`. Rows are stored as the environment gave them, so ``VecNormalize`` treats
all three kinds alike. Without the generator: ``--plain``.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from mixed_replay import MixedReplay
from pendulum import ENV_ID, STEPS, mean_return, offline_rows, refreshes_at, to_transitions
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from cfdg_rl import Transitions


class MixedBuffer(ReplayBuffer):
    """A replay buffer of online rows whose batches hold offline and generated rows too."""

    replay: MixedReplay | None = None

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw a batch with the exact number of rows of each kind."""
        if self.replay is None:
            return super().sample(batch_size, env)
        counts = self.replay.counts(batch_size)
        online = super().sample(counts.online, env)
        others = self._samples(self.replay.others(counts), env)
        fields = ("observations", "actions", "next_observations", "dones", "rewards")
        return ReplayBufferSamples(*(torch.cat([getattr(online, f), getattr(others, f)]) for f in fields))

    def online_rows(self) -> Transitions:
        """Return every stored row of all environments; actions are in [-1, 1] here already."""
        count = self.buffer_size if self.full else self.pos
        columns = (self.observations, self.actions, self.rewards, self.next_observations)
        obs, action, reward, after = (column[:count].reshape(-1, *column.shape[2:]) for column in columns)
        ends = self.dones[:count] * (1 - self.timeouts[:count])  # a time limit is no end
        return to_transitions(obs, action, reward.reshape(-1), after, ends.reshape(-1))

    def _samples(self, rows: Transitions, env: VecNormalize | None) -> ReplayBufferSamples:
        columns = (
            self._normalize_obs(rows.obs.numpy(), env),
            rows.action.numpy(),
            self._normalize_obs(rows.next_obs.numpy(), env),
            rows.terminal.numpy()[:, None],
            self._normalize_reward(rows.reward.numpy()[:, None], env),
        )
        return ReplayBufferSamples(*(self.to_torch(np.asarray(column, np.float32)) for column in columns))


class Refresh(BaseCallback):
    """Fit the generator and generate anew, now and then."""

    def _on_step(self) -> bool:
        buffer = self.model.replay_buffer
        if buffer.replay is not None and refreshes_at(self.num_timesteps):
            buffer.replay.refresh(buffer.online_rows())
        return True


def main() -> None:
    """Train for about a minute and print the mean return."""
    settings = {"policy_kwargs": {"net_arch": [64, 64]}, "learning_starts": 200, "learning_rate": 1e-3, "seed": 0}
    model = SAC("MlpPolicy", ENV_ID, replay_buffer_class=MixedBuffer, buffer_size=STEPS, device="cpu", **settings)
    if "--plain" not in sys.argv:
        model.replay_buffer.replay = MixedReplay(offline_rows())
    model.learn(STEPS, callback=Refresh())
    print(
        f"mean return after {STEPS:,} steps: {mean_return(lambda obs: model.predict(obs, deterministic=True)[0]):.1f}"
    )


if __name__ == "__main__":
    main()
