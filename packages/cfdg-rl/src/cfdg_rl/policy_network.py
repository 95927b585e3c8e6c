"""Network of a trained policy alone: one replica, observations and actions in the environment's own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cfdg_rl.agents.apl import APL
from cfdg_rl.agents.capture import Captured
from cfdg_rl.agents.iql import IQL
from cfdg_rl.agents.networks import StackedMLP, Standardiser
from cfdg_rl.agents.pex import PEX
from cfdg_rl.agents.td3_bc import TD3BC
from cfdg_rl.protocols import Agent

SCALING = ("obs_mean", "obs_std", "action_low", "action_high")

Layer = tuple[Tensor, Tensor]  # weight (out, in) and bias (out,)


class PolicyNetwork(nn.Module):
    """The mean action of an agent, its observation statistics and action scaling baked in.

    Several actors are PEX's: the action with the greater minimum over the critics is taken (Zhang, Xu and Yu, 2023,
    with epsilon = 0). Arithmetic is in double precision, so that every runtime gives the same action; inputs and
    outputs are float32. Actions are inside the box, as far as it holds a number of single precision.

    Args:
        actors: networks from standardised observations to pre-tanh actions; the second is PEX's fresh policy.
        critics: of PEX; empty for one actor.
        scaling: the four vectors of :data:`SCALING`, ``(S,)`` and ``(A,)``.
        whole: actions are whole numbers.
    """

    obs_mean: Tensor
    obs_std: Tensor
    action_low: Tensor
    action_high: Tensor
    least: Tensor  # bounds of what is put out, not stored
    most: Tensor

    def __init__(
        self, actors: Sequence[nn.Module], critics: Sequence[nn.Module], scaling: Mapping[str, Tensor], whole: bool
    ) -> None:
        super().__init__()
        self.actors = nn.ModuleList(actors)
        self.critics = nn.ModuleList(critics)
        self.whole = whole
        for name in SCALING:
            self.register_buffer(name, scaling[name])
        self.double().requires_grad_(False)
        for name, bound, inside in (("least", self.action_low, torch.inf), ("most", self.action_high, -torch.inf)):
            self.register_buffer(name, _single(bound, inside), persistent=False)

    @property
    def width(self) -> int:
        """Outputs of the first actor."""
        return len(list(self.actors[0].parameters())[-1])

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations ``(n, S)`` to actions ``(n, A)``, both in the environment's own units."""
        unit = self.unit_action((obs.double() - self.obs_mean) / self.obs_std)
        action = self.action_low + 0.5 * (unit + 1.0) * (self.action_high - self.action_low)
        return (action.round() if self.whole else action).clamp(self.least, self.most).float()

    def unit_action(self, obs: Tensor) -> Tensor:
        """Compute actions ``(n, A)`` in [-1, 1] at standardised observations ``(n, S)``."""
        proposals = [torch.tanh(actor(obs)) for actor in self.actors]
        if len(proposals) == 1:
            return proposals[0]
        offline, fresh = (self._value(obs, action) for action in proposals)
        return torch.where(fresh > offline, proposals[1], proposals[0])

    def _value(self, obs: Tensor, action: Tensor) -> Tensor:
        inputs = torch.cat([obs, action], dim=-1)
        return torch.cat([critic(inputs) for critic in self.critics], dim=-1).amin(-1, keepdim=True)


def extract_network(agent: Agent, replica: int, low: Tensor, high: Tensor, *, whole: bool = False) -> PolicyNetwork:
    """Take the policy of one replica out of an agent.

    Args:
        agent: an IQL, PEX, APL or TD3BC, captured or not.
        replica: index of the seed.
        low: ``(A,)`` smallest actions in the environment's own units.
        high: ``(A,)`` largest ones.
        whole: actions are whole numbers.

    Raises:
        TypeError: if the agent is none of the four.
        ValueError: if there is no such replica.
    """
    agent = agent.agent if isinstance(agent, Captured) else agent
    actors, critics, scale = _parts(agent)
    replicas = actors[0].stack[-1]
    if not 0 <= replica < replicas:
        raise ValueError(f"replica is {replica}, expected 0 to {replicas - 1}")
    keep = len(low) if isinstance(agent, APL) else None  # its network gives log standard deviations besides
    networks = [_sequential(_layers(actor, replica, keep)) for actor in actors]
    members = [(stack, head * replicas + replica) for stack in critics for head in range(stack.stack[0])]
    values = [_sequential(_layers(*member)) for member in members]
    scaling = {"obs_mean": scale.mean, "obs_std": scale.std, "action_low": low, "action_high": high}
    vectors = {name: vector.detach().cpu().clone() for name, vector in scaling.items()}
    return PolicyNetwork(networks, values, vectors, whole)


def network_from(state: Mapping[str, Tensor], *, whole: bool) -> PolicyNetwork:
    """Rebuild a network from its ``state_dict``.

    Raises:
        ValueError: if tensors are missing.
    """
    missing = [name for name in (*SCALING, "actors.0.0.weight") if name not in state]
    if missing:
        raise ValueError(f"the tensors are {', '.join(sorted(state)) or 'none'}, expected {missing[0]!r} among them")
    actors, critics = (_stored(state, kind) for kind in ("actors", "critics"))
    return PolicyNetwork(actors, critics, {name: state[name] for name in SCALING}, whole)


def _single(bound: Tensor, inside: float) -> Tensor:
    """Round bounds ``(A,)`` to single precision, never away from ``inside``; the result is in double precision."""
    nearest = bound.float()
    beyond = nearest.double() < bound if inside > 0 else nearest.double() > bound
    return torch.where(beyond, torch.nextafter(nearest, torch.full_like(nearest, inside)), nearest).double()


def _stored(state: Mapping[str, Tensor], kind: str) -> list[nn.Sequential]:
    """Rebuild the networks of a kind from keys such as "actors.0.2.weight": network, module of the sequence."""
    keys = [key.split(".") for key in state if key.startswith(f"{kind}.")]
    layers = sorted({(int(network), int(module)) for _, network, module, _ in keys})
    numbers = sorted({network for network, _ in layers})
    names = [[f"{kind}.{k}.{module}" for k, module in layers if k == number] for number in numbers]
    return [_sequential([(state[f"{name}.weight"], state[f"{name}.bias"]) for name in own]) for own in names]


def _parts(agent: Agent) -> tuple[list[StackedMLP], list[StackedMLP], Standardiser]:
    """Return the networks of actors and, for PEX, critics, and the scaler of observations."""
    if isinstance(agent, PEX):
        return [agent.iql.policy.network, agent.policy.network], [agent.iql.critics], agent.iql.scale
    if isinstance(agent, (IQL, APL)):
        return [agent.policy.network], [], agent.scale
    if isinstance(agent, TD3BC):
        return [agent.policy], [], agent.scale
    raise TypeError(f"the agent is a {type(agent).__name__}, expected an IQL, PEX, APL or TD3BC")


def _layers(stack: StackedMLP, member: int, keep: int | None = None) -> list[Layer]:
    """Copy the layers of one member; of the last layer the first ``keep`` outputs (None: all)."""
    pairs = zip(stack.weights, stack.biases, strict=True)
    layers = [(weight[member].detach().cpu().T, bias[member, 0].detach().cpu()) for weight, bias in pairs]
    weight, bias = layers[-1]
    return [*layers[:-1], (weight[:keep], bias[:keep])]


def _sequential(layers: Sequence[Layer]) -> nn.Sequential:
    """Make a ReLU network of the given layers."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [cast("nn.Module", linear), nn.ReLU()]
    return nn.Sequential(*modules[:-1])
