"""Implicit Q-learning (Kostrikov, Nair and Levine, 2021), for R replicas at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfdg_rl.agents.networks import DTYPES, INITS, StackedMLP, Standardiser, adam, descend, polyak, q_values, set_rate
from cfdg_rl.agents.policies import GaussianPolicy
from cfdg_rl.mixing import Batch
from cfdg_rl.protocols import Metrics
from cfdg_rl.ranges import INSIDE, NOT_NEGATIVE, POSITIVE, POSITIVE_SHARE, RISING, SHARE, SIZES, SWITCH, check_ranges
from cfdg_rl.rewards import check_choice
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions


@dataclass(frozen=True)
class IQLSettings:
    """Hyper-parameters; the defaults are the PEX repository's, which the paper ran as "IQL".

    Raises:
        ValueError: if a value is outside its range.
    """

    expectile: float = 0.9  # tau; PEX README, both task families (official MuJoCo: 0.7)
    inverse_temperature: float = 10.0  # beta; PEX README (official MuJoCo: 3)
    maximum_weight: float = 100.0  # clip of exp(beta advantage), every implementation
    discount: float = 0.99
    polyak_rate: float = 0.005
    learning_rate: float = 3e-4  # every implementation; the policy's falls to 0 offline
    online_learning_rate: float = 3e-4  # constant
    hidden: tuple[int, ...] = (256, 256)
    policy_init: str = "xavier"  # "xavier": PEX; "torch": CORL
    log_std_range: tuple[float, float] = (-5.0, 2.0)  # PEX and official (CORL: -20, 2)
    normalise_obs: bool = False  # standardise observations by the offline data (CORL); PEX and official do not
    reward: str = "raw"  # a key of rewards.REWARDS; "raw": PEX, locomotion
    precision: str = "fp32"  # type of the hidden matrix products: "fp32" or "bf16"

    def __post_init__(self) -> None:
        check_choice(self, policy_init=INITS, precision=DTYPES)
        check_ranges(self, expectile=INSIDE, inverse_temperature=NOT_NEGATIVE, maximum_weight=POSITIVE, discount=SHARE)
        check_ranges(self, polyak_rate=POSITIVE_SHARE, learning_rate=POSITIVE, online_learning_rate=POSITIVE)
        check_ranges(self, hidden=SIZES, log_std_range=RISING, normalise_obs=SWITCH)


PEX_REPOSITORY = IQLSettings()
OFFICIAL = IQLSettings(  # official mujoco_config.py; initialisation, log-std range and observations as in CORL
    expectile=0.7,
    inverse_temperature=3.0,
    policy_init="torch",
    log_std_range=(-20.0, 2.0),
    normalise_obs=True,
    reward="return-range",
)
PRESETS = {"pex-repository": PEX_REPOSITORY, "official": OFFICIAL}


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Compute IQL's equation 5, the asymmetric square ``|tau - 1(u < 0)| u^2``, elementwise."""
    return torch.where(difference > 0, expectile, 1 - expectile) * difference.square()


def advantage_weight(advantage: Tensor, inverse_temperature: float, maximum: float) -> Tensor:
    """Compute IQL's equation 7, the weight ``min(exp(beta u), maximum)``, elementwise."""
    return (inverse_temperature * advantage).clamp(max=math.log(maximum)).exp()


def new_policy(obs_dim: int, action_dim: int, settings: IQLSettings, weights: Streams) -> GaussianPolicy:
    """Make an untrained policy, for IQL and for policy expansion."""
    sizes = [obs_dim, *settings.hidden, action_dim]
    init = INITS[settings.policy_init]
    return GaussianPolicy(
        StackedMLP(sizes, weights, init=init, dtype=DTYPES[settings.precision]), settings.log_std_range
    )


class IQL(nn.Module):
    """Expectile value, twin critics and an advantage-weighted Gaussian policy.

    Args:
        obs_dim: S.
        action_dim: A.
        settings: hyper-parameters, one of the presets or your own.
        seeds: one seed per replica.
        device: where weights live and updates run.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        settings: IQLSettings = PEX_REPOSITORY,
        *,
        seeds: tuple[int, ...] = (0,),
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.settings = settings
        self.seeds = seeds
        self.dims = (obs_dim, action_dim)
        self.streams = {"exploration": Streams(seeds, "exploration", device)}
        weights = Streams(seeds, "weights", device)
        dtype = DTYPES[settings.precision]
        critic_sizes = [obs_dim + action_dim, *settings.hidden, 1]
        self.value = StackedMLP([obs_dim, *settings.hidden, 1], weights, dtype=dtype)
        self.critics = StackedMLP(critic_sizes, weights, heads=2, dtype=dtype)
        self.policy = new_policy(obs_dim, action_dim, settings, weights)
        self.target = StackedMLP(critic_sizes, weights, heads=2, dtype=dtype)
        self.target.load_state_dict(self.critics.state_dict())
        self.target.requires_grad_(False)
        self.scale = Standardiser(obs_dim, settings.normalise_obs, device)
        self.reset_optimisers(settings.learning_rate)

    def value_loss(self, advantage: Tensor) -> Tensor:
        """Average equation 5: V regresses on the target critics' expectile; ``(R, B)`` to ``(R,)``."""
        return expectile_loss(advantage, self.settings.expectile).mean(-1)

    def critic_loss(self, data: Transitions, next_value: Tensor) -> Tensor:
        """Average equation 6: Q regresses on r + discount V(s'), no policy action is queried; ``(R,)``."""
        target = data.reward + self.settings.discount * (1 - data.terminal) * next_value
        return (q_values(self.critics, data.obs, data.action) - target).square().mean((0, -1))

    def policy_loss(self, data: Transitions, advantage: Tensor) -> Tensor:
        """Average equation 7: regression on the batch's actions, weighted by exponentiated advantage; ``(R,)``."""
        weight = advantage_weight(advantage, self.settings.inverse_temperature, self.settings.maximum_weight)
        return -(weight * self.policy.log_prob(data.obs, data.action)).mean(-1)

    def update(self, batch: Batch) -> Metrics:
        """Step all three networks on a batch ``(R, B)``; metrics ``(R,)``.

        All losses use the values before the step, as in PEX and CORL.
        """
        data = self.scale.both(batch.data)
        with torch.no_grad():
            next_value = self.value(data.next_obs).squeeze(-1)
        advantage = self.advantage(data.obs, data.action)
        losses = {
            "loss/value": self.value_loss(advantage),
            "loss/critic": self.critic_loss(data, next_value),
            "loss/policy": self.policy_loss(data, advantage.detach()),
        }
        descend(self.optimisers["critics"], losses["loss/value"], losses["loss/critic"])
        descend(self.optimisers["policy"], losses["loss/policy"])
        polyak(self.target, self.critics, self.settings.polyak_rate)
        metrics = {name: loss.detach() for name, loss in losses.items()}
        return metrics | {"value/advantage": advantage.detach().mean(-1), "value/next": next_value.mean(-1)}

    def advantage(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the least target Q(s, a) - V(s), ``(R, B)``; only V is differentiated."""
        with torch.no_grad():
            q = q_values(self.target, obs, action).amin(0)
        return q - self.value(obs).squeeze(-1)

    @torch.no_grad()
    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Sample actions (``explore``) or take the mean: ``(R, E, S)`` to ``(R, E, A)`` in [-1, 1]."""
        obs = self.scale(obs)
        return self.policy.sample(obs, self.streams["exploration"]) if explore else self.policy.mean(obs)

    def fit_scaler(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``, where the settings ask for them."""
        self.scale.fit_scaler(obs)

    def schedule(self, progress: float) -> None:
        """Set the policy's offline learning rate on a cosine; ``progress`` runs from 0 to 1."""
        set_rate(self.optimisers["policy"], self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress)))

    def go_online(self) -> None:
        """Begin fine-tuning as PEX's ``direct``: targets equal to the critics, fresh moments, a constant rate."""
        self.target.load_state_dict(self.critics.state_dict())
        self.reset_optimisers(self.settings.online_learning_rate)

    def reset_optimisers(self, learning_rate: float) -> None:
        """Forget the moments of Adam and set the learning rate of all networks."""
        critics = [*self.value.parameters(), *self.critics.parameters()]
        self.optimisers = {
            "critics": adam(critics, learning_rate),
            "policy": adam(list(self.policy.parameters()), learning_rate),
        }
