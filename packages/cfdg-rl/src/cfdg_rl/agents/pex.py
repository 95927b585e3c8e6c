"""Policy expansion (Zhang, Xu and Yu, 2023) around a pre-trained IQL, for R replicas at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfdg_rl.agents.iql import IQL, advantage_weight, new_policy
from cfdg_rl.agents.networks import adam, descend, polyak, q_values
from cfdg_rl.mixing import Batch
from cfdg_rl.protocols import Metrics
from cfdg_rl.ranges import NOT_NEGATIVE, SHARE, check_ranges
from cfdg_rl.streams import Streams


@dataclass(frozen=True)
class PEXSettings:
    """Settings that policy expansion adds to IQL's; the defaults are the PEX repository's.

    Raises:
        ValueError: if ``epsilon`` is outside [0, 1].
    """

    selection_temperature: float = 10.0  # kappa, an inverse temperature
    epsilon: float = 0.1  # evaluation: chance of sampling, of the fresh policy's action and of the choice each

    def __post_init__(self) -> None:
        check_ranges(self, selection_temperature=NOT_NEGATIVE, epsilon=SHARE)


def selection_probabilities(q: Tensor, selection_temperature: float) -> Tensor:
    """Compute the softmax of kappa Q over the first axis, the policies: ``(K, ...)`` to ``(K, ...)``."""
    return (selection_temperature * q).softmax(0)


class PEX(nn.Module):
    """An agent that keeps training IQL's critics, freezes its policy, and trains a new policy beside it.

    Args:
        offline: a pre-trained IQL, which this agent takes over.
        settings: selection and evaluation.
    """

    def __init__(self, offline: IQL, settings: PEXSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or PEXSettings()
        self.iql = offline
        self.streams = {
            purpose: Streams(offline.seeds, f"expansion {purpose}", offline.scale.mean.device)
            for purpose in ("weights", "exploration", "evaluation", "update")
        }
        self.policy = new_policy(*offline.dims, offline.settings, self.streams["weights"])
        offline.policy.requires_grad_(False)
        rate = offline.settings.online_learning_rate
        self.optimisers = {
            "critics": adam([*offline.value.parameters(), *offline.critics.parameters()], rate),
            "policy": adam(list(self.policy.parameters()), rate),
        }

    def policy_loss(self, obs: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
        """Average IQL's equation 7 for the fresh policy, on composite actions at the batch's states; ``(R,)``."""
        settings = self.iql.settings
        weight = advantage_weight(advantage, settings.inverse_temperature, settings.maximum_weight)
        return -(weight * self.policy.log_prob(obs, action)).mean(-1)

    def update(self, batch: Batch) -> Metrics:
        """Step V and Q as IQL does, then the fresh policy, which does not use the batch's actions; metrics ``(R,)``."""
        data = self.iql.scale.both(batch.data)
        with torch.no_grad():
            next_value = self.iql.value(data.next_obs).squeeze(-1)
        losses = {
            "loss/value": self.iql.value_loss(self.iql.advantage(data.obs, data.action)),
            "loss/critic": self.iql.critic_loss(data, next_value),
        }
        descend(self.optimisers["critics"], *losses.values())
        polyak(self.iql.target, self.iql.critics, self.iql.settings.polyak_rate)
        action, fresh = self.compose(data.obs, self.streams["update"], explore=True)
        advantage = self.iql.advantage(data.obs, action).detach()
        losses["loss/policy"] = self.policy_loss(data.obs, action, advantage)
        descend(self.optimisers["policy"], losses["loss/policy"])
        metrics = {name: loss.detach() for name, loss in losses.items()}
        means = {"value/advantage": advantage, "value/next": next_value, "policy/fresh_share": fresh.to(advantage)}
        return metrics | {name: value.mean(-1) for name, value in means.items()}

    @torch.no_grad()
    def compose(self, obs: Tensor, noise: Streams, explore: bool) -> tuple[Tensor, Tensor]:
        """Choose composite actions ``(R, B, A)`` at scaled ``(R, B, S)``, and tell which are fresh ``(R, B)``.

        The offline policy proposes its mode, the fresh one a sample; softmax(kappa min Q) chooses. Evaluation does
        so with probability epsilon, and takes the fresh mode and the better proposal otherwise, drawn for each state.
        """
        choice, sample_anyway, choose_anyway = noise.uniform(3, obs.shape[1]).unbind(1)
        fresh = self.policy.sample(obs, noise)
        if not explore:
            fresh = torch.where((sample_anyway < self.settings.epsilon)[..., None], fresh, self.policy.mean(obs))
        offline = self.iql.policy.mean(obs)
        q = torch.stack([q_values(self.iql.critics, obs, action).amin(0) for action in (offline, fresh)])
        takes_fresh = choice < selection_probabilities(q, self.settings.selection_temperature)[1]
        if not explore:
            takes_fresh = torch.where(choose_anyway < self.settings.epsilon, takes_fresh, q[1] > q[0])
        return torch.where(takes_fresh[..., None], fresh, offline), takes_fresh

    @torch.no_grad()
    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Choose composite actions: ``(R, E, S)`` to ``(R, E, A)`` in [-1, 1]; evaluation has its own stream."""
        noise = self.streams["exploration" if explore else "evaluation"]
        return self.compose(self.iql.scale(obs), noise, explore)[0]

    def fit_scaler(self, obs: Tensor) -> None:
        """Do nothing: the offline IQL has its statistics already."""

    def schedule(self, progress: float) -> None:
        """Do nothing: policy expansion begins online, with constant rates."""

    def go_online(self) -> None:
        """Do nothing: a new PEX is online already."""
