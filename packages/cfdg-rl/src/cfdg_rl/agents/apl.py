"""APL (Zheng et al., 2023) with its repository's default learner: five conservative critics, R replicas at once.

The other learner is in ``td3_bc.py``. Both take lambda of the paper's equation 4 from the labels of the batch: offline
rows are learnt conservatively (lambda = 1), near-on-policy rows are not (lambda = 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfdg_rl.agents.networks import (
    DTYPES,
    StackedMLP,
    Standardiser,
    adam,
    descend,
    polyak,
    q_values,
    rlkit_hidden,
    uniform_within,
)
from cfdg_rl.agents.policies import TanhGaussian
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch
from cfdg_rl.protocols import Metrics
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, POSITIVE, POSITIVE_SHARE, RISING, SHARE, SIZES, SWITCH, check_ranges
from cfdg_rl.rewards import check_choice
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions


@dataclass(frozen=True)
class APLSettings:
    """Hyper-parameters; the defaults are the APL repository's (its engine GCQL).

    Raises:
        ValueError: if ``target_critics``, ``reward`` or ``precision`` is outside its range.
    """

    critics: int = 5
    target_critics: int = 2  # of them, drawn anew for every update, form the target
    conservatism: float = 5.0  # weight of the conservative term where lambda is 1
    sampled_actions: int = 10  # of each of three kinds for the conservative term
    discount: float = 0.99
    polyak_rate: float = 0.005
    learning_rate: float = 3e-4  # critics
    policy_learning_rate: float = 1e-4  # policy and entropy temperature
    hidden: tuple[int, ...] = (256, 256, 256)
    log_std_range: tuple[float, float] = (-5.0, 2.0)
    normalise_obs: bool = False  # standardise observations by the offline data; the repository does not
    reward: str = "raw"  # a key of rewards.REWARDS
    precision: str = "fp32"  # type of the hidden matrix products: "fp32" or "bf16"

    def __post_init__(self) -> None:
        check_choice(self, precision=DTYPES)
        check_ranges(self, critics=COUNT, target_critics=COUNT, conservatism=NOT_NEGATIVE, sampled_actions=COUNT)
        check_ranges(self, discount=SHARE, polyak_rate=POSITIVE_SHARE, learning_rate=POSITIVE)
        check_ranges(self, policy_learning_rate=POSITIVE, hidden=SIZES, log_std_range=RISING, normalise_obs=SWITCH)
        if not 1 <= self.target_critics <= self.critics:
            raise ValueError(f"target_critics is {self.target_critics}, expected 1 to {self.critics} (critics)")


def conservative_term(q: Tensor, log_density: Tensor, q_data: Tensor) -> Tensor:
    """Compute ``logsumexp_k(Q(s, a_k) - log density(a_k)) - Q(s, a)`` (Kumar et al., 2020).

    Args:
        q: values ``(..., K)`` of K proposed actions.
        log_density: ``(..., K)`` log densities they were drawn with.
        q_data: values ``(...)`` of the data's actions.

    Returns:
        The term ``(...)``.
    """
    return (q - log_density).logsumexp(-1) - q_data


class APL(nn.Module):
    """Critics that are conservative on offline rows only, and a soft actor.

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
        settings: APLSettings | None = None,
        *,
        seeds: tuple[int, ...] = (0,),
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.settings = settings = settings or APLSettings()
        self.streams = {name: Streams(seeds, name, device) for name in ("exploration", "update")}
        weights = Streams(seeds, "weights", device)
        dtype = DTYPES[settings.precision]
        sizes = [obs_dim + action_dim, *settings.hidden, 1]
        last = uniform_within(3e-3)
        actor = [obs_dim, *settings.hidden, 2 * action_dim]
        network = StackedMLP(actor, weights, init=rlkit_hidden, last_init=uniform_within(1e-3), dtype=dtype)
        self.policy = TanhGaussian(network, settings.log_std_range)
        self.critics, self.target = (
            StackedMLP(sizes, weights, heads=settings.critics, init=rlkit_hidden, last_init=last, dtype=dtype)
            for _ in range(2)
        )
        self.target.load_state_dict(self.critics.state_dict())  # the repository never synchronises them
        self.target.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(len(seeds), device=device))
        self.target_entropy = -float(action_dim)
        self.scale = Standardiser(obs_dim, settings.normalise_obs, device)
        policy_rate = settings.policy_learning_rate
        self.optimisers = {
            "critics": adam(list(self.critics.parameters()), settings.learning_rate),
            "policy": adam(list(self.policy.parameters()), policy_rate),
            "temperature": adam([self.log_alpha], policy_rate),
        }

    def critic_loss(self, data: Transitions) -> Tensor:
        """Compute the squared error to r + discount min Q'(s', a'), Q' two targets drawn at random; ``(H, R)``."""
        with torch.no_grad():
            action = self.policy.sample(data.next_obs, self.streams["update"])[0].squeeze(2)
            q = q_values(self.target, data.next_obs, action)
            drawn = self.streams["update"].uniform(len(q)).argsort(1)[:, : self.settings.target_critics].T
            next_q = q.gather(0, drawn[..., None].expand(-1, -1, q.shape[-1])).amin(0)
            target = data.reward + self.settings.discount * (1 - data.terminal) * next_q
        return (q_values(self.critics, data.obs, data.action) - target).square().mean(-1)

    def conservative_loss(self, data: Transitions, lam: Tensor) -> Tensor:
        """Weight CQL's term by equation 4's lambda, over uniform actions and the policy's at s and s'; ``(H, R)``."""
        action, log_density = self.propose(data)
        obs = data.obs.unsqueeze(2).expand(*action.shape[:3], -1)
        q = q_values(self.critics, obs.flatten(1, 2), action.flatten(1, 2)).unflatten(-1, action.shape[1:3])
        term = conservative_term(q, log_density, q_values(self.critics, data.obs, data.action))
        return self.settings.conservatism * (lam * term).mean(-1)

    def policy_loss(self, log_prob: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the soft actor's loss alpha log pi - mean Q, of the critics after their step; ``(R,)``."""
        alpha = self.log_alpha.detach().exp()[:, None]
        return (alpha * log_prob - q_values(self.critics, obs, action).mean(0)).mean(-1)

    def temperature_loss(self, log_prob: Tensor) -> Tensor:
        """Compute the loss that raises alpha where the policy's entropy is below -A; ``(R,)``."""
        return -self.log_alpha * (log_prob.detach().mean(-1) + self.target_entropy)

    def update(self, batch: Batch) -> Metrics:
        """Step critics, then entropy temperature and policy, then targets; metrics ``(R,)``.

        The conservative term applies where lambda is 1 (equation 4).
        """
        data = self.scale.both(batch.data)
        losses = {"loss/critic": self.critic_loss(data)}
        if batch.label != ONLINE:  # else lambda is 0 for every row
            losses["loss/conservative"] = self.conservative_loss(data, (batch.labels == OFFLINE).to(data.reward))
        descend(self.optimisers["critics"], *(loss.sum(0) for loss in losses.values()))
        action, log_prob = (part.squeeze(2) for part in self.policy.sample(data.obs, self.streams["update"]))
        losses["loss/temperature"] = self.temperature_loss(log_prob)
        descend(self.optimisers["temperature"], losses["loss/temperature"])
        losses["loss/policy"] = self.policy_loss(log_prob, data.obs, action)
        descend(self.optimisers["policy"], losses["loss/policy"])
        polyak(self.target, self.critics, self.settings.polyak_rate)
        metrics = {name: loss.detach().reshape(-1, loss.shape[-1]).mean(0) for name, loss in losses.items()}
        return metrics | {"policy/entropy": -log_prob.detach().mean(-1), "policy/alpha": self.log_alpha.detach().exp()}

    @torch.no_grad()
    def propose(self, data: Transitions) -> tuple[Tensor, Tensor]:
        """Draw the conservative term's actions ``(R, B, 3 n, A)`` and compute their log densities ``(R, B, 3 n)``."""
        count = self.settings.sampled_actions
        noise = self.streams["update"]
        (size, action_dim) = data.action.shape[1:]
        uniform = 2 * noise.uniform(size, count, action_dim) - 1
        flat = uniform.new_full(uniform.shape[:-1], action_dim * math.log(0.5))
        drawn = [(uniform, flat), *(self.policy.sample(obs, noise, count) for obs in (data.next_obs, data.obs))]
        actions, log_densities = zip(*drawn, strict=True)
        return torch.cat(actions, 2), torch.cat(log_densities, 2)

    @torch.no_grad()
    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Sample actions (``explore``) or take the mode: ``(R, E, S)`` to ``(R, E, A)`` in [-1, 1]."""
        obs = self.scale(obs)
        if not explore:
            return self.policy.mode(obs)
        return self.policy.sample(obs, self.streams["exploration"])[0].squeeze(2)

    def fit_scaler(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``, where the settings ask for them."""
        self.scale.fit_scaler(obs)

    def schedule(self, progress: float) -> None:
        """Do nothing: the rates are constant."""

    def go_online(self) -> None:
        """Do nothing: the repository continues with the optimisers' moments."""
