"""d3rlpy: SAC whose replay buffer mixes offline, online and generated rows.

    pip install d3rlpy safetensors pandas && pip install --no-deps cfdg-rl cfdg-diffusion
    python examples/libraries/d3rlpy_sac.py

d3rlpy 2.8 is tied to gymnasium 1.0.0, and cfdg-rl asks for 1.1 or newer: what is used here of it runs with either.

d3rlpy stores episodes. ``MixedReplayBuffer`` joins two buffers of them, and generated rows belong to no episode; so the
buffer here completes the batches themselves, whose rows need none. Without the other rows: ``--plain``.
"""

from __future__ import annotations

import sys

import d3rlpy
import gymnasium
import numpy as np
from d3rlpy.dataset import FIFOBuffer, ReplayBuffer, TransitionMiniBatch
from d3rlpy.logging import NoopAdapterFactory
from mixed_replay import MixedReplay
from pendulum import ENV_ID, LARGEST, STEPS, mean_return, offline_rows, refreshes_at, to_transitions

from cfdg_rl import Transitions

FIELDS = ("observations", "actions", "rewards", "next_observations", "next_actions", "terminals", "intervals")


class MixedBuffer(ReplayBuffer):
    """A replay buffer of online episodes whose batches hold offline and generated rows too."""

    replay: MixedReplay | None = None

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        """Draw a batch with the exact number of rows of each kind."""
        if self.replay is None:
            return super().sample_transition_batch(batch_size)
        counts = self.replay.counts(batch_size)
        online = super().sample_transition_batch(counts.online)
        others = _columns(self.replay.others(counts))
        joined = {name: np.concatenate([getattr(online, name), others[name]]) for name in FIELDS}
        return TransitionMiniBatch(**joined, transitions=online.transitions)

    def online_rows(self) -> Transitions:
        """Return every stored row; actions are mapped to [-1, 1]."""
        places = (self.buffer[index] for index in range(self.transition_count))
        found = [self.transition_picker(*place) for place in places]
        rows = [(t.observation, t.action / LARGEST, t.reward[0], t.next_observation, t.terminal) for t in found]
        return to_transitions(*(np.array(column) for column in zip(*rows, strict=True)))


def _columns(rows: Transitions) -> dict[str, np.ndarray]:
    """Write rows as the columns of a batch; the next actions are for algorithms of SARSA's kind only."""
    action = LARGEST * rows.action.numpy()
    one = np.ones((len(rows), 1), np.float32)
    columns = (rows.obs.numpy(), action, rows.reward.numpy()[:, None], rows.next_obs.numpy(), np.zeros_like(action))
    return dict(zip(FIELDS, (*columns, rows.terminal.numpy()[:, None], one), strict=True))


def main() -> None:
    """Train for about a minute and print the mean return."""
    d3rlpy.seed(0)
    env = gymnasium.make(ENV_ID)
    buffer = MixedBuffer(FIFOBuffer(STEPS), env=env)
    buffer.replay = None if "--plain" in sys.argv else MixedReplay(offline_rows())
    layers = d3rlpy.models.VectorEncoderFactory([64, 64])
    config = d3rlpy.algos.SACConfig(
        actor_encoder_factory=layers,
        critic_encoder_factory=layers,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(),
    )
    sac = config.create(device=False)

    def refresh(algorithm: object, epoch: int, step: int) -> None:
        if buffer.replay is not None and refreshes_at(step):
            buffer.replay.refresh(buffer.online_rows())

    options = {"update_start_step": 200, "random_steps": 200, "n_steps_per_epoch": STEPS, "show_progress": False}
    sac.fit_online(env, buffer, n_steps=STEPS, callback=refresh, logger_adapter=NoopAdapterFactory(), **options)
    print(f"mean return after {STEPS:,} steps: {mean_return(lambda obs: sac.predict(obs[None])[0]):.1f}")


if __name__ == "__main__":
    main()
