"""Files of trained policies: all that is needed to act in the environment, in one safetensors file.

Three lines act::

    policy = load_policy("hopper.safetensors")
    obs, _ = env.reset(seed=0)
    action = policy(obs)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cfdg_rl.agents.capture import Captured
from cfdg_rl.agents.pex import PEX
from cfdg_rl.policy_network import PolicyNetwork, extract_network, network_from
from cfdg_rl.protocols import Agent
from cfdg_rl.tensor_files import CHECKSUM, read_tensors, write_tensors

if TYPE_CHECKING:
    from cfdg_rl.envs.make import EnvShape

FORMAT = 2  # 1 had no checksum
METADATA = "cfdg_policy"  # the key of the facts in the file's metadata


@dataclass(frozen=True)
class PolicyFacts:
    """Origin of a policy, and the form of what it sees and does.

    Attributes:
        algorithm: "IQL", "PEX", "APL" or "TD3BC".
        env_id: Gymnasium id of its environment; "cfdg-minari/..." is known once its dataset is loaded.
        settings: hyper-parameters of the agent.
        obs_keys: of a dict observation the keys in the order of the columns, "a/b" for a dict within; else None.
        action_dtype: type of the environment's actions, such as "float32".
        dataset: name of the offline data; None where it is not known.
        seed: of the replica; None where it is not known.
        step: online environment steps; None where it is not known.
        score: normalised score of the evaluation at that step; None without one.
        arm: name of the augmentation that it was trained with, such as "cfdg"; None where it is not known.
        one_hot: of a dict observation's discrete parts, by key, the least value and the count of values of each number.
        reference: raw returns that score 0 and 100; None where there are none, or they are not known.
    """

    algorithm: str
    env_id: str
    settings: Mapping[str, Any]
    obs_keys: tuple[str, ...] | None
    action_dtype: str
    dataset: str | None = None
    seed: int | None = None
    step: int | None = None
    score: float | None = None
    arm: str | None = None
    one_hot: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    reference: tuple[float, float] | None = None


class Policy:
    """A trained policy that acts by its mean action, the same for the same observation.

    Args:
        network: observations to actions, in the environment's own units.
        facts: its origin.
    """

    def __init__(self, network: PolicyNetwork, facts: PolicyFacts) -> None:
        self.network = network
        self.facts = facts

    def __call__(self, obs: np.ndarray | Mapping[str, Any]) -> np.ndarray:
        """Choose the action ``(A,)`` for an observation ``(S,)``, or actions ``(n, A)`` for ``(n, S)``.

        Observations are as the environment gives them, also dicts; actions are what it takes, of its own type and
        inside its box.

        Raises:
            ValueError: if the observation has another width.
        """
        rows = np.asarray(self._flat(obs) if isinstance(obs, Mapping) else obs, dtype=np.float32)
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.obs_dim:
            raise ValueError(
                f"the observation has shape {rows.shape}, expected ({self.obs_dim},) or (n, {self.obs_dim})"
            )
        with torch.no_grad():
            action = self.network(torch.from_numpy(np.atleast_2d(rows))).numpy()
        # A box of double precision may hold no number of single precision, as where a column has one value only
        action = np.clip(action, self.network.action_low.numpy(), self.network.action_high.numpy())
        return (action if rows.ndim == 2 else action[0]).astype(self.facts.action_dtype)

    @property
    def obs_dim(self) -> int:
        """Width S of an observation."""
        return len(self.network.obs_mean)

    @property
    def action_dim(self) -> int:
        """Width A of an action."""
        return len(self.network.action_low)

    def _flat(self, obs: Mapping[str, Any]) -> np.ndarray:
        """Put the parts of a dict observation side by side, in the order of training."""
        if self.facts.obs_keys is None:
            raise ValueError(f"the observation is a dict, expected an array ({self.obs_dim},)")
        one_hot = self.facts.one_hot
        return np.concatenate([_flat_part(_part(obs, key.split("/")), one_hot.get(key)) for key in self.facts.obs_keys])


def save_policy(path: Path | str, agent: Agent, replica: int, env_id: str, **origin: Any) -> Policy:  # noqa: ANN401
    """Write the policy of one replica of an agent, for its environment.

    Args:
        path: of the safetensors file; a kill leaves the old file or the new one.
        agent: an IQL, PEX, APL or TD3BC.
        replica: index of the seed.
        env_id: Gymnasium id; it gives the action box.
        **origin: ``dataset``, ``seed``, ``step``, ``score``, ``arm`` and ``reference`` of :class:`PolicyFacts`.

    Raises:
        TypeError: if the agent is none of the four.
        ValueError: if there is no such replica, or the environment does not fit the agent.
    """
    from cfdg_rl.envs.make import inspect_env  # loads MuJoCo, which a policy that is only loaded does not need

    policy = make_policy(agent, replica, env_id, inspect_env(env_id), **origin)
    write_policy(policy, Path(path))
    return policy


def make_policy(agent: Agent, replica: int, env_id: str, shape: EnvShape, **origin: Any) -> Policy:  # noqa: ANN401
    """Take the policy of one replica out of an agent; ``shape`` is the environment's, see :func:`save_policy`."""
    dtype = shape.action_low.dtype
    low, high = (torch.from_numpy(bound.astype(np.float64)) for bound in (shape.action_low, shape.action_high))
    network = extract_network(agent, replica, low, high, whole=dtype.kind in "iu")
    widths = (len(network.obs_mean), network.width)
    if widths != (shape.obs_dim, len(low)):
        expected = f"expected {(shape.obs_dim, len(low))} as {env_id!r} has"
        raise ValueError(f"the agent has observations and actions of width {widths}, {expected}")
    inner = agent.agent if isinstance(agent, Captured) else agent
    own: dict[str, Any] = {"obs_keys": shape.obs_keys, "one_hot": shape.one_hot, "action_dtype": str(dtype), **origin}
    return Policy(network, PolicyFacts(type(inner).__name__, env_id, _settings(inner), **own))


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy as tensors in single precision, action bounds in double, and its facts as JSON metadata."""
    bounds = ("action_low", "action_high")
    state = policy.network.state_dict()
    tensors = {name: (tensor if name in bounds else tensor.float()).contiguous() for name, tensor in state.items()}
    facts = {"format": FORMAT, **asdict(policy.facts)}
    write_tensors(path, tensors, {METADATA: json.dumps(facts)})


def load_policy(path: Path | str) -> Policy:
    """Read what :func:`save_policy` wrote; neither Gymnasium nor MuJoCo is loaded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, foreign or of a newer format.
    """
    found, tensors = _read(Path(path))
    try:
        network = network_from(tensors, whole=np.dtype(found.action_dtype).kind in "iu")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"policy {path} is damaged: {error}") from error
    return Policy(network, found)


def read_facts(path: Path | str) -> PolicyFacts:
    """Read the origin of a policy; see :func:`load_policy` for the errors."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[PolicyFacts, dict[str, torch.Tensor]]:
    tensors, metadata = read_tensors(path, "policy")
    if METADATA not in metadata:
        raise ValueError(f"{path} holds no policy, expected a file that save_policy or 'cfdg table1' wrote")
    try:
        facts = dict(json.loads(metadata[METADATA]))
        version = facts.pop("format", None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"policy {path} is damaged: {METADATA} of its header cannot be read: {error}") from error
    if version not in (1, FORMAT):
        raise ValueError(f"policy {path} is of format {version!r}, expected 1 to {FORMAT}: update cfdg-rl")
    if version != 1 and CHECKSUM not in metadata:
        raise ValueError(f"policy {path} has no checksum, expected one in a file of this format")
    return _facts(path, facts), tensors


def _facts(path: Path, stored: Mapping[str, Any]) -> PolicyFacts:
    """Make the facts of what is stored; an older file lacks later ones."""
    known = {item.name for item in fields(PolicyFacts)}
    found = {name: value for name, value in stored.items() if name in known}
    try:
        keys = found.pop("obs_keys")
        pairs = {key: [(int(least), int(n)) for least, n in own] for key, own in found.pop("one_hot", {}).items()}
        low, high = found.pop("reference", None) or (None, None)
        reference = None if low is None or high is None else (float(low), float(high))
        keys = None if keys is None else tuple(keys)
        return PolicyFacts(obs_keys=keys, one_hot=pairs, reference=reference, **found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"policy {path} is damaged: its facts cannot be read: {error}") from error


def _settings(agent: Any) -> dict[str, Any]:  # noqa: ANN401 - one of four agents
    """Return the hyper-parameters as JSON values; those of PEX beside the ones of its IQL."""
    own = asdict(agent.settings)
    found = {**asdict(agent.iql.settings), **own} if isinstance(agent, PEX) else own
    return json.loads(json.dumps(found))


def _part(obs: Mapping[str, Any], keys: list[str]) -> Any:  # noqa: ANN401 - an array, or a dict on the way to one
    found: Any = obs
    for key in keys:
        found = found[key]
    return found


def _flat_part(part: Any, one_hot: Sequence[tuple[int, int]] | None) -> np.ndarray:  # noqa: ANN401 - as in an observation
    """Flatten a part as the training did: a number of a discrete space has a column of 0 or 1 for each value."""
    row = np.ravel(part)
    if one_hot is None:
        return row
    return np.concatenate([np.arange(least, least + n) == x for x, (least, n) in zip(row, one_hot, strict=True)])
