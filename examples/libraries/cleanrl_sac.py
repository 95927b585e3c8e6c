"""CleanRL's style: SAC in one file, two lines of which mix in offline and generated rows.

    pip install stable-baselines3 cfdg-rl cfdg-diffusion
    python examples/libraries/cleanrl_sac.py

CleanRL is no package but single files to copy. Their buffer has the interface of Stable-Baselines3's, which is used
here; it stores actions as the environment takes them. The two lines are marked; ``--plain`` leaves them out.
"""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import torch
from mixed_replay import MixedReplay
from pendulum import ENV_ID, LARGEST, STEPS, mean_return, offline_rows, refreshes_at, to_transitions
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from cfdg_rl import Transitions

SEED = 0
BATCH = 256
GAMMA = 0.99
TAU = 0.005
LEARNING_STARTS = 200
ALPHA = 0.2


def network(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 64."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


class Actor(nn.Module):
    """A squashed Gaussian with actions in [-2, 2]."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        super().__init__()
        self.body = network(obs_dim, 2 * action_dim)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a drawn action ``(N, A)``, its log-probability ``(N,)`` and the mean action."""
        mean, spread = self.body(obs).chunk(2, dim=-1)
        normal = torch.distributions.Normal(mean, spread.clamp(-5, 2).exp())
        raw = normal.rsample()
        log_prob = normal.log_prob(raw) - torch.log(LARGEST * (1 - raw.tanh() ** 2) + 1e-6)
        return LARGEST * raw.tanh(), log_prob.sum(-1), LARGEST * mean.tanh()


def rows(buffer: ReplayBuffer) -> Transitions:
    """Return the stored rows; actions are mapped to [-1, 1]."""
    count = buffer.buffer_size if buffer.full else buffer.pos
    columns = (buffer.observations, buffer.actions / LARGEST, buffer.rewards, buffer.next_observations, buffer.dones)
    return to_transitions(*(column[:count, 0] for column in columns))


def mix(online: ReplayBufferSamples, others: Transitions) -> ReplayBufferSamples:
    """Join the rows of the buffer with others, whose actions are mapped back."""
    parts = (others.obs, LARGEST * others.action, others.next_obs, others.terminal[:, None], others.reward[:, None])
    return ReplayBufferSamples(*(torch.cat(pair) for pair in zip(online, parts, strict=False)))


class SAC:
    """Actor, critics and their update."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        self.actor = Actor(obs_dim, action_dim)
        self.critics, self.targets = (
            nn.ModuleList(network(obs_dim + action_dim, 1) for _ in range(2)) for _ in ("own", "slow")
        )
        self.targets.load_state_dict(self.critics.state_dict())
        self.q_optimizer = torch.optim.Adam(self.critics.parameters(), lr=1e-3)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)

    def least(self, critics: nn.ModuleList, obs: Tensor, action: Tensor) -> Tensor:
        """Return the smaller of two values ``(N, 1)``."""
        return torch.minimum(*(q(torch.cat([obs, action], -1)) for q in critics))

    def update(self, data: ReplayBufferSamples) -> None:
        """Take one gradient step of critics and actor."""
        with torch.no_grad():
            action_after, log_prob, _ = self.actor(data.next_observations)
            q_after = self.least(self.targets, data.next_observations, action_after) - ALPHA * log_prob[:, None]
            goal = data.rewards + GAMMA * (1 - data.dones) * q_after
        both = torch.cat([data.observations, data.actions], -1)
        q_loss = sum(mse_loss(q(both), goal) for q in self.critics)
        self.q_optimizer.zero_grad()
        q_loss.backward()
        self.q_optimizer.step()
        action, log_prob, _ = self.actor(data.observations)
        actor_loss = (ALPHA * log_prob[:, None] - self.least(self.critics, data.observations, action)).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        with torch.no_grad():
            for own, target in zip(self.critics.parameters(), self.targets.parameters(), strict=True):
                target.lerp_(own, TAU)

    @torch.no_grad()
    def act(self, obs: np.ndarray, *, explore: bool = False) -> np.ndarray:
        """Choose an action for one observation."""
        drawn, _, mean = self.actor(torch.as_tensor(obs[None]))
        return (drawn if explore else mean)[0].numpy()


def main() -> None:
    """Train for about a minute and print the mean return."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the buffer draws from it
    env = gymnasium.make(ENV_ID)
    env.action_space.seed(SEED)
    agent = SAC(env.observation_space.shape[0], env.action_space.shape[0])
    rb = ReplayBuffer(STEPS, env.observation_space, env.action_space, "cpu", handle_timeout_termination=False)
    replay = None if "--plain" in sys.argv else MixedReplay(offline_rows())

    obs, _ = env.reset(seed=SEED)
    for global_step in range(1, STEPS + 1):
        learns = global_step >= LEARNING_STARTS
        action = agent.act(obs, explore=True) if learns else env.action_space.sample()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, np.array([reward]), np.array([terminated]), [{}])
        obs = env.reset()[0] if terminated or truncated else next_obs
        if not learns:
            continue
        if replay and refreshes_at(global_step):
            replay.refresh(rows(rb))  # the first line
        counts = replay.counts(BATCH) if replay else None
        data = mix(rb.sample(counts.online), replay.others(counts)) if counts else rb.sample(BATCH)  # and the second
        agent.update(data)
    print(f"mean return after {STEPS:,} steps: {mean_return(agent.act):.1f}")


if __name__ == "__main__":
    main()
