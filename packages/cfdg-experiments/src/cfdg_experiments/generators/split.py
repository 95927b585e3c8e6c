"""Model in two parts: diffusion draws states and actions of a label, a regression fills in what follows them.

Dynamics do not depend on who acts, so neither the label nor guidance reaches reward, next state and end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings, FitReport
from cfdg_diffusion.edm.parts import Part
from cfdg_experiments.generators.calls import calls_per_row
from cfdg_experiments.generators.outcomes import OutcomeModel, OutcomeSettings
from cfdg_experiments.generators.rows import rows_at
from cfdg_rl.finetune import join
from cfdg_rl.mixing import OFFLINE, ONLINE
from cfdg_rl.protocols import Parts

_SPARE_EVERY = 20  # one spare row for so many that are asked for


@dataclass(frozen=True)
class SplitReport:
    """Report of a fit.

    Attributes:
        pairs: the diffusion of states and actions.
        outcome_loss: ``(R,)`` mean squared error of the regression at the end, in units of what least squares leave.
    """

    pairs: FitReport
    outcome_loss: Tensor


class Split:
    """Generates rows (s, a, r, s', d): (s, a) by labelled diffusion, (r, s', d) by an :class:`OutcomeModel`.

    Rows whose state cannot be left, because it looks like the end of an episode, are replaced.

    Args:
        obs_dim: S.
        action_dim: A.
        seeds: one per replica.
        diffusion: of (s, a); its guidance weight is w of equation 7. None takes the defaults.
        outcomes: of (r, s', d). None takes the defaults.
        device: where everything lives.

    Attributes:
        pairs: the diffusion model of (s, a).
        outcomes: the regression.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        seeds: Sequence[int] = (0,),
        diffusion: DiffusionSettings | None = None,
        outcomes: OutcomeSettings | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self._dims = (obs_dim, action_dim)
        labels = len((OFFLINE, ONLINE))
        self.pairs = ConditionalDiffusion(
            obs_dim + action_dim, labels, seeds=seeds, settings=diffusion or DiffusionSettings(), device=device
        )
        self.outcomes = OutcomeModel(
            obs_dim, action_dim, seeds=tuple(seeds), settings=outcomes or OutcomeSettings(), device=device
        )

    def fit(self, rows: Tensor, labels: Tensor, *, steps: int | None = None) -> SplitReport:
        """Train both parts on rows ``(R, N, D)`` with labels ``(R, N)``; a further call starts from the weights.

        Args:
            rows: s, a, r, s', d in the learner's units.
            labels: OFFLINE or ONLINE.
            steps: gradient steps of the diffusion; None takes its settings'. The regression's are a share of them.
        """
        steps = self.pairs.settings.steps if steps is None else steps
        report = self.pairs.fit(rows[..., : sum(self._dims)], labels, steps=steps)
        return SplitReport(report, self.fit_outcomes(rows, labels, steps=steps))

    def fit_parts(self, parts: Parts, *, steps: int | None = None) -> SplitReport:
        """Train as :meth:`fit` does on parts of one label each, which are neither joined nor copied.

        A single part gives the bits of :meth:`fit`; with several, sums are added in another order. Gaussians of few
        rows are measured of joined ones.
        """
        held = [(rows, label) for rows, label in parts if rows.shape[-2]]
        if len(held) < 2 or self.pairs.settings.gaussian_rows:
            return self.fit(*join(held or parts), steps=steps)
        steps = self.pairs.settings.steps if steps is None else steps
        width = sum(self._dims)
        report = self.pairs.fit([Part(rows[..., :width], label) for rows, label in held], steps=steps)
        own = [Part(rows, label) for rows, label in held]
        return SplitReport(report, self.outcomes.fit_parts(own, steps=self._outcome_steps(steps)))

    def _outcome_steps(self, steps: int) -> int:
        return max(1, round(self.outcomes.settings.steps_share * steps))

    def fit_outcomes(
        self, rows: Tensor, labels: Tensor, *, steps: int, on_step: Callable[[], None] | None = None
    ) -> Tensor:
        """Train the regression alone, for its share of ``steps``; see :meth:`OutcomeModel.fit`."""
        return self.outcomes.fit(rows, labels, steps=self._outcome_steps(steps), on_step=on_step)

    def sample(self, labels: Tensor, *, guidance_weight: float | None = None) -> Tensor:
        """Generate one row ``(R, n, D)`` for each label ``(R, n)``; None takes the settings' guidance weight.

        Some more are drawn, and take the places of rows with an impossible state.
        """
        spares = labels[:, ::_SPARE_EVERY]
        asked = torch.cat([labels, spares], dim=1)
        drawn = self.pairs.sample(asked, guidance_weight=guidance_weight)
        obs, action = drawn.split(self._dims, dim=-1)
        pairs = torch.cat([obs, action.clamp(-1, 1)], dim=-1)
        chosen = choose_rows(self.outcomes.possible(obs), asked, labels.shape[1])
        return self.outcomes.complete(rows_at(pairs, chosen))

    def network_calls(self, rows: int) -> float:
        """Count the rows that go through a network to sample so many: those drawn, with spares, and their outcomes."""
        drawn = rows + math.ceil(rows / _SPARE_EVERY)
        return drawn * calls_per_row(self.pairs.settings) + rows

    def complete(self, rows: Tensor, known: int) -> Tensor:
        """Predict r, s' and d of rows ``(R, n, D)`` from their first ``known`` = S + A columns."""
        return self.outcomes.complete(rows[..., :known])

    def reset(self) -> None:
        """Forget all that was learnt: fresh weights from the seeds; the random streams run on."""
        self.pairs.reset()
        self.outcomes.reset()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as nested dictionaries: loading it continues bit for bit."""
        return {"pairs": self.pairs.state_dict(), "outcomes": self.outcomes.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was called."""
        self.pairs.load_state_dict(state["pairs"])
        self.outcomes.load_state_dict(state["outcomes"])


def choose_rows(valid: Tensor, labels: Tensor, count: int) -> Tensor:
    """Choose ``count`` of m drawn rows: those that are not valid give way to valid ones of the same label.

    Spare rows, which lie behind the first ``count``, go first; then valid rows are taken twice. A label without any
    valid row keeps what it has.

    Args:
        valid: ``(R, m)`` booleans.
        labels: ``(R, m)`` integers.
        count: n, rows that are wanted.

    Returns:
        ``(R, n)`` indices below m; row i has the label ``labels[:, i]``.
    """
    chosen = torch.arange(count, device=valid.device).repeat(len(valid), 1)
    order = torch.arange(valid.shape[1], device=valid.device).roll(-count)
    for replica, label in [(replica, label) for replica in range(len(valid)) for label in labels.unique().tolist()]:
        here = labels[replica] == label
        holes = (here & ~valid[replica])[:count].nonzero()[:, 0]
        sources = order[(here & valid[replica])[order]]
        if len(holes) and len(sources):
            chosen[replica, holes] = sources[torch.arange(len(holes), device=valid.device) % len(sources)]
    return chosen
