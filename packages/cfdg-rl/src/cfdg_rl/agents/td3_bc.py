"""APL's other learner: TD3 with behaviour cloning (Fujimoto and Gu, 2021) on offline rows only, R replicas at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfdg_rl.agents.networks import DTYPES, StackedMLP, Standardiser, adam, descend, polyak, q_values
from cfdg_rl.mixing import OFFLINE, Batch
from cfdg_rl.protocols import Metrics
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, POSITIVE, POSITIVE_SHARE, SHARE, SIZES, SWITCH, check_ranges
from cfdg_rl.rewards import check_choice
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions


@dataclass(frozen=True)
class TD3BCSettings:
    """Hyper-parameters; the defaults are the APL repository's (its engine GCTD3BC).

    Raises:
        ValueError: if ``policy_delay``, ``reward`` or ``precision`` is outside its range.
    """

    alpha: float = 2.5  # weight of the normalised Q against behaviour cloning
    target_noise: float = 0.2
    noise_clip: float = 0.5
    policy_delay: int = 2  # critic steps per step of the policy and the targets
    exploration_noise: float = 0.1
    discount: float = 0.99
    polyak_rate: float = 0.005
    learning_rate: float = 3e-4
    hidden: tuple[int, ...] = (256, 256)
    normalise_obs: bool = False  # TD3+BC standardises observations by the offline data; APL's repository does not
    reward: str = "raw"  # a key of rewards.REWARDS
    precision: str = "fp32"  # type of the hidden matrix products: "fp32" or "bf16"

    def __post_init__(self) -> None:
        check_choice(self, precision=DTYPES)
        check_ranges(self, alpha=NOT_NEGATIVE, target_noise=NOT_NEGATIVE, noise_clip=NOT_NEGATIVE, policy_delay=COUNT)
        check_ranges(self, exploration_noise=NOT_NEGATIVE, discount=SHARE, polyak_rate=POSITIVE_SHARE)
        check_ranges(self, learning_rate=POSITIVE, hidden=SIZES, normalise_obs=SWITCH)


class TD3BC(nn.Module):
    """Twin critics and a deterministic policy that imitates the batch's actions where lambda is 1.

    Args:
        obs_dim: S.
        action_dim: A.
        settings: hyper-parameters.
        seeds: one seed per replica.
        device: where weights live and updates run.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        settings: TD3BCSettings | None = None,
        *,
        seeds: tuple[int, ...] = (0,),
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.settings = settings = settings or TD3BCSettings()
        self.streams = {name: Streams(seeds, name, device) for name in ("exploration", "update")}
        weights = Streams(seeds, "weights", device)
        dtype = DTYPES[settings.precision]
        actor = [obs_dim, *settings.hidden, action_dim]
        critic = [obs_dim + action_dim, *settings.hidden, 1]
        self.policy, self.target_policy = (StackedMLP(actor, weights, dtype=dtype) for _ in range(2))
        self.critics, self.target = (StackedMLP(critic, weights, heads=2, dtype=dtype) for _ in range(2))
        for copy, source in ((self.target_policy, self.policy), (self.target, self.critics)):
            copy.load_state_dict(source.state_dict())
            copy.requires_grad_(False)
        self.scale = Standardiser(obs_dim, settings.normalise_obs, device)
        self.updates = 0
        self.optimisers = {
            "critics": adam(list(self.critics.parameters()), settings.learning_rate),
            "policy": adam(list(self.policy.parameters()), settings.learning_rate),
        }

    def critic_loss(self, data: Transitions) -> Tensor:
        """Sum both critics' squared errors to r + discount min Q'(s', pi'(s') + clipped noise); ``(R,)``."""
        settings = self.settings
        with torch.no_grad():
            noise = settings.target_noise * self.streams["update"].normal(*data.action.shape[1:])
            smoothed = self.target_policy(data.next_obs).tanh() + noise.clamp(-settings.noise_clip, settings.noise_clip)
            next_q = q_values(self.target, data.next_obs, smoothed.clamp(-1, 1)).amin(0)
            target = data.reward + settings.discount * (1 - data.terminal) * next_q
        return (q_values(self.critics, data.obs, data.action) - target).square().mean(-1).sum(0)

    def policy_loss(self, data: Transitions, lam: Tensor) -> Tensor:
        """Compute equation 3 with equation 4: lambda (pi - a)^2 - (alpha / mean |Q1|) mean Q1(s, pi); ``(R,)``."""
        action = self.policy(data.obs).tanh()
        q = q_values(self.critics, data.obs, action)[0]
        coefficient = self.settings.alpha / q.detach().abs().mean(-1)
        return (lam * (action - data.action).square().mean(-1)).mean(-1) - coefficient * q.mean(-1)

    def update(self, batch: Batch) -> Metrics:
        """Step the critics and, every ``policy_delay`` updates, the policy and all targets; metrics ``(R,)``."""
        data = self.scale.both(batch.data)
        losses = {"loss/critic": self.critic_loss(data)}
        descend(self.optimisers["critics"], losses["loss/critic"])
        self.updates += 1
        if self.updates % self.settings.policy_delay == 0:
            losses["loss/policy"] = self.policy_loss(data, (batch.labels == OFFLINE).to(data.reward))
            descend(self.optimisers["policy"], losses["loss/policy"])
            polyak(self.target, self.critics, self.settings.polyak_rate)
            polyak(self.target_policy, self.policy, self.settings.polyak_rate)
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Compute the policy's actions, with noise to ``explore``: ``(R, E, S)`` to ``(R, E, A)`` in [-1, 1]."""
        action = self.policy(self.scale(obs)).tanh()
        if not explore:
            return action
        noise = self.streams["exploration"].normal(*action.shape[1:])
        return (action + self.settings.exploration_noise * noise).clamp(-1, 1)

    def fit_scaler(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``, where the settings ask for them."""
        self.scale.fit_scaler(obs)

    def schedule(self, progress: float) -> None:
        """Do nothing: the rates are constant."""

    def go_online(self) -> None:
        """Do nothing: the repository continues with the optimisers' moments."""

    def get_extra_state(self) -> Tensor:
        """Return the count of updates, which the policy's delay depends on."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the count that :meth:`get_extra_state` returned."""
        self.updates = int(state)
