"""Transform of rows around any model: s' - s in the place of s' in columns where that is narrower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion


class Deltas:
    """A model of rows (s, a, r, s', d) whose inner one sees s' - s in columns where that varies less than s'.

    Args:
        inner: learns and generates the transformed rows.
        obs_dim: S.
        action_dim: A.
    """

    def __init__(self, inner: ConditionalDiffusion, obs_dim: int, action_dim: int) -> None:
        self.inner = inner
        self._obs_dim = obs_dim
        self._after = slice(obs_dim + action_dim + 1, 2 * obs_dim + action_dim + 1)
        self._narrower = torch.zeros(1, 1, obs_dim, device=inner.device)

    def fit(self, rows: Tensor, labels: Tensor, *, steps: int | None = None) -> object:
        """Learn rows ``(R, N, D)`` with labels ``(R, N)``; return the inner model's report."""
        obs = rows[..., : self._obs_dim]
        after = rows[..., self._after]
        self._narrower = ((after - obs).std(1, keepdim=True) < after.std(1, keepdim=True)).to(rows)
        return self.inner.fit(self._shifted(rows, -1.0), labels, steps=steps)

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` for each label ``(R, n)``."""
        return self._shifted(self.inner.sample(labels), 1.0)

    def reset(self) -> None:
        """Forget all that the inner model learnt."""
        self.inner.reset()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as nested dictionaries of tensors."""
        return {"inner": self.inner.state_dict(), "narrower": self._narrower.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was called."""
        self.inner.load_state_dict(state["inner"])
        self._narrower = state["narrower"].to(self.inner.device)

    def _shifted(self, rows: Tensor, sign: float) -> Tensor:
        """Rows with s added to s' (sign 1), or taken from it (-1), in the narrower columns."""
        changed = rows.clone()
        changed[..., self._after] += sign * self._narrower * rows[..., : self._obs_dim]
        return changed
