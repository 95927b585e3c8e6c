"""EDIS (Liu et al. 2024): an unconditional diffusion model, guided by three energies towards the present policy.

Rows are drawn from q(s, a, r, s') ~ p(s, a, r, s') exp(-E_s(s) - E_pi(s, a) - E_T(s, a, r, s')), where p is the model's
density and the energies are -log d(s)/p(s) of the online states, -log pi(a|s)/p(a|s) of the policy's actions and
-log T(s'|s, a)/p(s'|s, a) of the real transitions. Guidance is D_q = D - sigma^2 grad E.

This is the paper's intent. The released code differs: docs/arms.md says where and why it is not followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion
from cfdg_diffusion.edm.streams import Streams as WeightStreams
from cfdg_experiments.generators.energies import Contrast, Energy, EnergySettings, train_energy
from cfdg_experiments.generators.fitted import Fitted, select_label
from cfdg_experiments.generators.interface import State
from cfdg_experiments.generators.rows import as_one, draw_different
from cfdg_experiments.generators.schedule import Schedule
from cfdg_rl.mixing import OFFLINE, ONLINE
from cfdg_rl.protocols import Metrics, Parts
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, check_ranges
from cfdg_rl.streams import Streams

Policy = Callable[[Tensor], Tensor]  # observations (R, B, S) -> sampled actions (R, B, A)
_MOVED = 0.5  # of a column's mean, in its standard deviations: energies begin anew


@dataclass(frozen=True)
class EdisSettings:
    """Settings of EDIS beside those of its model.

    Raises:
        ValueError: if a value is unknown or outside its range.
    """

    source: Literal["merged", "offline"] = "merged"  # rows of the model; code: merged, abstract: offline
    negatives: Literal["pool", "clamped"] = "pool"  # "clamped" is the paper's, see :meth:`Edis.fit`
    pool_rows: int = 20_000  # unguided rows that negatives are drawn from
    recent: int = 20_000  # latest online rows, whose states are E_s' positives
    first_steps: int = 1_000  # gradient steps of each energy at the first fit; EDIS: 20
    steps: int = 200  # and at later ones
    state_weight: float = 1.0  # lambda of E_s; 0 switches an energy off
    action_weight: float = 1.0
    transition_weight: float = 1.0
    energy: EnergySettings = field(default_factory=EnergySettings)

    def __post_init__(self) -> None:
        for name, allowed in (("source", ("merged", "offline")), ("negatives", ("pool", "clamped"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        check_ranges(self, pool_rows=COUNT, recent=COUNT, first_steps=COUNT, steps=COUNT)
        check_ranges(self, state_weight=NOT_NEGATIVE, action_weight=NOT_NEGATIVE, transition_weight=NOT_NEGATIVE)


class Edis:
    """The model, its three energies and guided sampling.

    Args:
        model: an unconditional model of rows ``2S + A + 2``, one label; its seeds are those of the energies.
        schedule: gradient steps of the model at a fit.
        policy: draws actions of the present policy.
        obs_dim: S.
        action_dim: A.
        settings: of the energies and their guidance.

    Attributes:
        needs_order: the most recent online rows are the last ones.
    """

    needs_order = True

    def __init__(
        self,
        model: ConditionalDiffusion,
        schedule: Schedule,
        policy: Policy,
        obs_dim: int,
        action_dim: int,
        settings: EdisSettings | None = None,
    ) -> None:
        self.model = model
        self.fitted = Fitted(model, schedule)
        self.policy = policy
        self.settings = settings or EdisSettings()
        columns = range(obs_dim + action_dim + 1 + obs_dim)
        self._obs = columns[:obs_dim]
        self._action = columns[obs_dim : obs_dim + action_dim]
        self._next_obs = columns[-obs_dim:]
        reads = {"state": self._obs, "action": columns[: obs_dim + action_dim], "transition": columns}
        self.reads = {name: list(own) for name, own in reads.items()}
        self.energies = {
            name: Energy(
                len(own), WeightStreams(model.seeds, f"EDIS {name} energy", model.device), self.settings.energy
            )
            for name, own in self.reads.items()
        }
        self.streams = Streams(model.seeds, "EDIS contrasts", model.device)
        self._last: tuple[Tensor, Tensor] | None = None  # mean and std of the model's latest fit

    def fit(self, rows: Tensor, labels: Tensor) -> Metrics:
        """Fit the model, then the energies.

        With ``negatives="pool"`` all negatives are unguided rows of the model. Positives of E_pi are the pool's states
        with fresh actions, which have the pool's own distribution of states; positives of E_T are the model's real
        rows. With ``"clamped"`` the positives of E_pi and E_T are online rows, and their negatives share the condition:
        the model generates a given s, and (r, s') given (s, a).

        Args:
            rows: ``(R, N, D)``.
            labels: ``(R, N)``, OFFLINE and ONLINE.

        Returns:
            ``edis/NAME_accuracy``, the held-out accuracy of each energy, ``(R,)``; 0.5 where it found no difference.
        """
        return self.fit_parts([(select_label(rows, labels, label), label) for label in (OFFLINE, ONLINE)])

    def fit_parts(self, parts: Parts) -> Metrics:
        """Fit as :meth:`fit` does; one part of offline rows is read where it is stored."""
        merged = self.settings.source == "merged"
        source = as_one([(rows, 0) for rows, label in parts if merged or label == OFFLINE])
        self.fitted.fit_parts([(source, 0)])
        self._restart_moved_energies()
        online = as_one([part for part in parts if part[1] == ONLINE])[:, -self.settings.recent :]
        contrasts = self._pool_contrasts(source, online)
        if self.settings.negatives == "clamped":
            contrasts |= self._clamped_contrasts(online)
        steps = self.settings.first_steps if self.fitted.fits == 1 else self.settings.steps
        return {
            f"edis/{name}_accuracy": train_energy(energy, contrasts[name], self.streams, steps)
            for name, energy in self.energies.items()
        }

    def sample(self, labels: Tensor) -> Tensor:
        """Generate guided rows ``(R, n, D)``, whatever the labels ``(R, n)`` are."""
        zeros = torch.zeros_like(labels)
        return self.model.sample(zeros, guidance_weight=0.0, energy_gradient=self.energy_gradient)

    def energy_gradient(self, z: Tensor, sigma: Tensor) -> Tensor:
        """Compute the weighted gradient ``(R, n, D)`` of the energies at noised rows, in model space.

        Each energy moves its own columns alone: E_s those of s, E_pi those of a, E_T those of s'. A row's sigma grad E
        is shortened to sqrt(D) where it is longer.
        """
        settings = self.settings
        total = torch.zeros_like(z)
        parts = (
            ("state", settings.state_weight, self._obs),
            ("action", settings.action_weight, self._action),
            ("transition", settings.transition_weight, self._next_obs),
        )
        for name, weight, moved in parts:
            if weight:
                own = self.energies[name].gradient(z[..., self.reads[name]], sigma)
                total[..., moved.start : moved.stop] = weight * own[..., moved.start : moved.stop]
        length = sigma[..., None] * total.norm(dim=-1, keepdim=True)
        return total * (math.sqrt(z.shape[-1]) / length.clamp(min=1e-12)).clamp(max=1.0)

    def _pool_contrasts(self, source: Tensor, online: Tensor) -> dict[str, Contrast]:
        pool = self._unguided(self.settings.pool_rows)
        acted = pool.clone()
        acted[..., self._action.start : self._action.stop] = self.policy(pool[..., : len(self._obs)])
        real = self._shuffled(source, self.settings.pool_rows)
        negative = self._encode(pool)
        return {
            "state": Contrast(self.reads["state"], self._encode(self._shuffled(online, online.shape[1])), negative),
            "action": Contrast(self.reads["action"], self._encode(acted), negative),
            "transition": Contrast(self.reads["transition"], self._encode(real), negative),
        }

    def _clamped_contrasts(self, online: Tensor) -> dict[str, Contrast]:
        copies = self.settings.energy.negatives
        real = self._shuffled(online, max(2, self.settings.pool_rows // copies))
        acted = real.clone()
        acted[..., self._action.start : self._action.stop] = self.policy(real[..., : len(self._obs)])
        found = {}
        for name, given, positive in (("action", self._obs.stop, acted), ("transition", self._action.stop, real)):
            known = real.repeat_interleave(copies, dim=1)
            known[..., given:] = torch.nan
            zeros = torch.zeros(known.shape[:2], dtype=torch.long, device=known.device)
            negative = self._encode(self.model.sample(zeros, guidance_weight=0.0, known=known))
            found[name] = Contrast(
                self.reads[name], self._encode(positive), negative.unflatten(1, (real.shape[1], copies))
            )
        return found

    def _unguided(self, count: int) -> Tensor:
        zeros = torch.zeros(len(self.model.seeds), count, dtype=torch.long, device=self.model.device)
        return self.model.sample(zeros, guidance_weight=0.0)

    def _shuffled(self, rows: Tensor, count: int) -> Tensor:
        return draw_different(rows, count, self.streams)

    def _encode(self, rows: Tensor) -> Tensor:
        return self.model.normaliser.encode(rows)

    def _restart_moved_energies(self) -> None:
        """Begin the energies of a replica anew where some column of model space has moved or changed its unit."""
        now = self.model.normaliser
        if self._last is not None:
            unit = torch.where(now.std > 0, now.std, 1.0)
            moved = ((now.mean - self._last[0]) / unit).abs() > _MOVED
            moved |= ((self._last[1] - now.std) / unit).abs() > _MOVED
            for energy in self.energies.values():
                energy.restart(moved.any(1))
        self._last = (now.mean.clone(), now.std.clone())

    def network_calls(self, rows: int) -> float:
        """Count the rows that go through the model and the energies to sample so many, and for the negatives."""
        settings = self.settings
        weights = (settings.state_weight, settings.action_weight, settings.transition_weight)
        guided = self.fitted.network_calls(rows) * (1 + sum(weight > 0 for weight in weights))
        clamped = 2 * settings.pool_rows if settings.negatives == "clamped" else 0  # of E_pi and of E_T
        return guided + self.fitted.network_calls(settings.pool_rows + clamped)

    def state(self) -> dict[str, Any]:
        """Return the model, the energies, the random streams and the latest model space."""
        return {
            "fitted": self.fitted.state(),
            "energies": {name: energy.state() for name, energy in self.energies.items()},
            "streams": self.streams.state(),
            "last": None if self._last is None else list(self._last),
        }

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken."""
        self.fitted.restore(state["fitted"])
        for name, energy in self.energies.items():
            energy.restore(state["energies"][name])
        self.streams.restore(state["streams"])
        self._last = None if state["last"] is None else (state["last"][0], state["last"][1])
