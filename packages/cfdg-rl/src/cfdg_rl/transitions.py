"""Transitions, and rows: the same five fields side by side in one tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Transitions:
    """Transitions with any leading axes: ``(N,)`` for a dataset, ``(R, B)`` for a batch of R replicas.

    Attributes:
        obs: ``(..., S)`` observation.
        action: ``(..., A)`` action in [-1, 1].
        reward: ``(...)`` reward, in the units the learner sees.
        next_obs: ``(..., S)`` next observation.
        terminal: ``(...)`` 1.0 where the MDP ended; a time limit is 0.0.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminal: Tensor

    def __len__(self) -> int:
        """Return the number of transitions along the last leading axis."""
        return self.reward.shape[-1]

    def map(self, function: Callable[[Tensor], Tensor]) -> Transitions:
        """Apply one tensor function to each of the five fields."""
        return Transitions(**{field.name: function(getattr(self, field.name)) for field in fields(self)})


def concatenate(parts: list[Transitions], dim: int = -1) -> Transitions:
    """Join transitions along a leading axis counted from ``reward``'s (-1 is the batch axis)."""
    return Transitions(
        **{
            field.name: torch.cat(
                [getattr(part, field.name) for part in parts], dim if field.name in _SCALAR_FIELDS else dim - 1
            )
            for field in fields(Transitions)
        }
    )


_SCALAR_FIELDS = ("reward", "terminal")


def row_width(obs_dim: int, action_dim: int) -> int:
    """Count the columns of a row: observation, action, reward, next observation, terminal; 2S + A + 2."""
    return 2 * obs_dim + action_dim + 2


def to_rows(data: Transitions) -> Tensor:
    """Encode transitions as rows ``(..., 2S + A + 2)``: s, a, r, s', d (terminal as 0.0 or 1.0)."""
    return torch.cat([data.obs, data.action, data.reward[..., None], data.next_obs, data.terminal[..., None]], dim=-1)


def from_rows(rows: Tensor, obs_dim: int, action_dim: int) -> Transitions:
    """Decode rows ``(..., 2S + A + 2)``, the inverse of :func:`to_rows`; terminal is thresholded at 0.5.

    Raises:
        ValueError: if the rows have another number of columns.
    """
    width = row_width(obs_dim, action_dim)
    if rows.shape[-1] != width:
        raise ValueError(f"rows have {rows.shape[-1]} columns, expected {width} (2 x {obs_dim} + {action_dim} + 2)")
    obs, action, reward, next_obs, terminal = rows.split([obs_dim, action_dim, 1, obs_dim, 1], dim=-1)
    return Transitions(obs, action, reward[..., 0], next_obs, (terminal[..., 0] > 0.5).to(rows.dtype))
