"""Implicit Q-learning (Kostrikov, Nair and Levine, 2021), for R replicas at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cfdg_rl.mixing import Batch
from cfdg_rl.networks import StackedMLP, polyak, torch_default, xavier_uniform
from cfdg_rl.protocols import Metrics
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions


@dataclass(frozen=True)
class IQLSettings:
    """Hyper-parameters; the defaults are the PEX repository's, which the paper ran as "IQL"."""

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
    reward: str = "raw"  # "raw": PEX, locomotion; "return-range": official, r * 1000 / (max - min return)
    precision: str = "fp32"  # type of the hidden matrix products: "fp32" or "bf16"

    def __post_init__(self) -> None:
        choices = {"policy_init": _INITS, "precision": _DTYPES, "reward": ("raw", "return-range")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, found {getattr(self, name)!r}")
        if not 0 < self.expectile < 1:
            raise ValueError(f"expectile must lie in (0, 1), found {self.expectile}")


_INITS = {"xavier": xavier_uniform, "torch": torch_default}
_DTYPES = {"fp32": None, "bf16": torch.bfloat16}

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
    """Equation 5's asymmetric square ``|tau - 1(u < 0)| u^2``, elementwise."""
    return torch.where(difference > 0, expectile, 1 - expectile) * difference.square()


def advantage_weight(advantage: Tensor, inverse_temperature: float, maximum: float) -> Tensor:
    """Equation 7's weight ``min(exp(beta u), maximum)``, elementwise."""
    return (inverse_temperature * advantage).clamp(max=math.log(maximum)).exp()


def gaussian_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density of a diagonal Gaussian: ``(..., A)`` to ``(...)``."""
    z = (action - mean) * (-log_std).exp()
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


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
        self.exploration = Streams(seeds, "exploration", device)
        weights, dtype = Streams(seeds, "weights", device), _DTYPES[settings.precision]
        init = _INITS[settings.policy_init]
        self.value = StackedMLP([obs_dim, *settings.hidden, 1], weights, dtype=dtype)
        self.critics = StackedMLP([obs_dim + action_dim, *settings.hidden, 1], weights, heads=2, dtype=dtype)
        self.policy = StackedMLP([obs_dim, *settings.hidden, action_dim], weights, init=init, dtype=dtype)
        self.log_std = nn.Parameter(torch.zeros(len(seeds), 1, action_dim, device=device))
        self.target = StackedMLP([obs_dim + action_dim, *settings.hidden, 1], weights, heads=2, dtype=dtype)
        self.target.load_state_dict(self.critics.state_dict())
        self.target.requires_grad_(False)
        self.register_buffer("obs_mean", torch.zeros(obs_dim, device=device))
        self.register_buffer("obs_std", torch.ones(obs_dim, device=device))
        self.reset_optimiser(settings.learning_rate)

    def value_loss(self, advantage: Tensor) -> Tensor:
        """Equation 5: V regresses on the target critics' expectile; ``(R, B)`` to ``(R,)``."""
        return expectile_loss(advantage, self.settings.expectile).mean(-1)

    def critic_loss(self, data: Transitions, next_value: Tensor) -> Tensor:
        """Equation 6: Q regresses on r + discount V(s'), no policy action is queried; ``(R,)``."""
        target = data.reward + self.settings.discount * (1 - data.terminal) * next_value
        return (_q(self.critics, data) - target).square().mean((0, -1))

    def policy_loss(self, data: Transitions, advantage: Tensor) -> Tensor:
        """Equation 7: regression on the batch's actions, weighted by exponentiated advantage; ``(R,)``."""
        weight = advantage_weight(advantage, self.settings.inverse_temperature, self.settings.maximum_weight)
        return -(weight * gaussian_log_prob(data.action, self.mean(data.obs), self.bounded_log_std())).mean(-1)

    def update(self, batch: Batch) -> Metrics:
        """One step of all three networks on a batch ``(R, B)``, from the values before the step as in PEX and CORL."""
        data = replace(batch.data, obs=self.scale(batch.data.obs), next_obs=self.scale(batch.data.next_obs))
        with torch.no_grad():
            q = _q(self.target, data).amin(0)
            next_value = self.value(data.next_obs).squeeze(-1)
        advantage = q - self.value(data.obs).squeeze(-1)
        losses = {
            "loss/value": self.value_loss(advantage),
            "loss/critic": self.critic_loss(data, next_value),
            "loss/policy": self.policy_loss(data, advantage.detach()),
        }
        self.step(losses)
        polyak(self.target, self.critics, self.settings.polyak_rate)
        metrics = {name: loss.detach() for name, loss in losses.items()}
        return metrics | {"value/q": q.mean(-1), "value/advantage": advantage.detach().mean(-1)}

    def step(self, losses: dict[str, Tensor]) -> None:
        """Descend the sum of the losses; their gradients touch disjoint weights, so one step serves all."""
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimiser.step()

    @torch.no_grad()
    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Sampled (``explore``) or mean actions ``(R, E, A)`` for ``(R, E, S)``, clipped to [-1, 1]."""
        mean = self.mean(self.scale(obs))
        if not explore:
            return mean
        noise = self.exploration.normal(*mean.shape[1:])
        return (mean + self.bounded_log_std().exp() * noise).clamp(-1, 1)

    def see(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``, where the settings ask for them."""
        if self.settings.normalise_obs:
            self.obs_mean.copy_(obs.mean(0))
            self.obs_std.copy_(obs.std(0, correction=0) + 1e-3)  # CORL's epsilon

    def scale(self, obs: Tensor) -> Tensor:
        """Observations as the networks see them; unchanged unless :meth:`see` took statistics."""
        return (obs - self.obs_mean) / self.obs_std if self.settings.normalise_obs else obs

    def mean(self, obs: Tensor) -> Tensor:
        """The policy's mean ``(R, B, A)`` at scaled observations: a tanh; the Gaussian itself is not squashed."""
        return self.policy(obs).tanh()

    def bounded_log_std(self) -> Tensor:
        """State-independent log standard deviation ``(R, 1, A)``."""
        return self.log_std.clamp(*self.settings.log_std_range)

    def go_online(self) -> None:
        """Begin fine-tuning: fresh optimiser moments and a constant learning rate, as in PEX."""
        self.reset_optimiser(self.settings.online_learning_rate)

    def reset_optimiser(self, learning_rate: float) -> None:
        """Forget the moments of Adam and set the learning rate of all networks."""
        critics = [*self.value.parameters(), *self.critics.parameters()]
        groups = [{"params": critics}, {"params": [*self.policy.parameters(), self.log_std]}]
        self.optimiser = torch.optim.Adam(groups, lr=learning_rate, fused=True)

    def decay_policy_rate(self, progress: float) -> None:
        """Cosine schedule of the policy's learning rate offline; ``progress`` runs from 0 to 1."""
        rate = self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimiser.param_groups[1]["lr"] = rate


def _q(critics: StackedMLP, data: Transitions) -> Tensor:
    """All heads' action values ``(H, R, B)``."""
    return critics(torch.cat([data.obs, data.action], -1)).squeeze(-1)
