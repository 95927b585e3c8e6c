"""References without model error: outcomes come from the simulator (tell what a perfect generator could give).

``SimulatedOutcomes`` minus its inner generator is the price of model error. ``SimulatedOutcomes`` minus an arm of real
rows with the same composition of the batch is the worth of generated states and actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfdg_experiments.generators.copies import Repeat
from cfdg_experiments.generators.interface import ResumableGenerator, State
from cfdg_rl.envs.simulate import Simulator
from cfdg_rl.finetune import fit_generator
from cfdg_rl.protocols import Parts
from cfdg_rl.ranges import NOT_NEGATIVE, check_ranges
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, from_rows, to_rows


@dataclass(frozen=True)
class SimulatedSettings:
    """Noise of :class:`Simulated`.

    Raises:
        ValueError: if a value is negative.
    """

    state_noise: float = 0.05  # standard deviation, in standard deviations of each column
    action_noise: float = 0.05

    def __post_init__(self) -> None:
        check_ranges(self, state_noise=NOT_NEGATIVE, action_noise=NOT_NEGATIVE)


class Outcomes:
    """The simulator's outcomes of (s, a), in the learner's units of reward.

    Args:
        simulator: see :func:`cfdg_rl.envs.simulate.make_simulator`, which refuses other environments.
        reward: maps raw rewards to those the learner sees.
    """

    def __init__(self, simulator: Simulator, reward: RewardMap) -> None:
        self.simulator = simulator
        self.reward = reward

    def __call__(self, obs: Tensor, action: Tensor) -> Transitions:
        """Step states ``(..., S)`` with actions ``(..., A)``; outcomes are NaN where a state cannot be simulated."""
        found = self.simulator.step_from(_flat(obs), _flat(action))
        shape = obs.shape[:-1]

        def back(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(obs).reshape(*shape, *values.shape[1:])

        return Transitions(
            obs, action, back(self.reward(found.reward)), back(found.next_obs), back(found.terminal.astype(np.float64))
        )

    def is_impossible(self, obs: Tensor) -> Tensor:
        """Tell the states ``(..., S)`` from which no step of an episode begins, ``(...)`` bool."""
        return self._told(self.simulator.is_impossible, obs)

    def hides(self, obs: Tensor) -> Tensor:
        """Tell the observations ``(..., S)`` that do not hold the whole state, ``(...)`` bool."""
        return self._told(self.simulator.hides, obs)

    def _told(self, question: Any, obs: Tensor) -> Tensor:  # noqa: ANN401 - a method of the simulator
        return torch.from_numpy(question(_flat(obs))).to(obs.device).reshape(obs.shape[:-1])


class Simulated:
    """Real rows with jittered s and a, stepped in the simulator: new rows without model error.

    A state that the jitter makes impossible stays as it was. A row whose observation hides a velocity (Hopper and
    Walker2d clip them) stays as it was recorded, for its outcome cannot be simulated from the observation.

    Args:
        obs_dim: S.
        action_dim: A.
        outcomes: the simulator in the learner's units.
        streams: randomness of the draws, one stream per replica.
        settings: size of the noise.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        outcomes: Outcomes,
        streams: Streams,
        settings: SimulatedSettings = SimulatedSettings(),
    ) -> None:
        self.dims = (obs_dim, action_dim)
        self.outcomes = outcomes
        self.settings = settings
        self.repeat = Repeat(streams)

    def fit(self, rows: Tensor, labels: Tensor) -> None:
        """Keep rows ``(R, N, D)`` with labels ``(R, N)``."""
        self.repeat.fit(rows, labels)

    def fit_parts(self, parts: Parts) -> None:
        """Keep parts without a copy; see :meth:`Repeat.fit_parts`."""
        self.repeat.fit_parts(parts)

    def sample(self, labels: Tensor) -> Tensor:
        """Draw and step one row ``(R, n, D)`` for each label ``(R, n)``.

        Raises:
            ValueError: if nothing was fitted, or a label has no rows.
        """
        recorded = self.repeat.sample(labels)
        obs, action = self._jittered(from_rows(recorded, *self.dims))
        stepped = to_rows(self.outcomes(obs, action))
        keep = self.outcomes.hides(from_rows(recorded, *self.dims).obs) | ~stepped.isfinite().all(-1)
        return torch.where(keep[..., None], recorded, stepped)

    def _jittered(self, data: Transitions) -> tuple[Tensor, Tensor]:
        spread = from_rows(self.repeat.spread(), *self.dims)
        noise = self.repeat.streams.normal(*data.obs.shape[1:])
        obs = data.obs + self.settings.state_noise * noise * spread.obs
        unusable = self.outcomes.is_impossible(obs) | self.outcomes.hides(obs)
        noise = self.repeat.streams.normal(*data.action.shape[1:])
        action = (data.action + self.settings.action_noise * noise * spread.action).clamp(-1, 1)
        return torch.where(unusable[..., None], data.obs, obs), action

    def network_calls(self, rows: int) -> float:
        """Return 0: there is no network."""
        return 0.0

    def state(self) -> dict[str, Any]:
        """Return the random streams."""
        return self.repeat.state()

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken; a fit comes first."""
        self.repeat.restore(state)


class SimulatedOutcomes:
    """A generator's own (s, a) with the simulator's (r, s', d).

    Rows with an impossible s become NaN, so that a refresh replaces and counts them.

    Args:
        generator: generates whole rows; only s and a are kept.
        obs_dim: S.
        action_dim: A.
        outcomes: the simulator in the learner's units.
    """

    def __init__(self, generator: ResumableGenerator, obs_dim: int, action_dim: int, outcomes: Outcomes) -> None:
        self.generator = generator
        self.dims = (obs_dim, action_dim)
        self.outcomes = outcomes

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Fit the generator on rows ``(R, N, D)`` with labels ``(R, N)``; return what it returns."""
        return self.generator.fit(rows, labels)

    def fit_parts(self, parts: Parts) -> object:
        """Fit the generator on parts; return what it returns."""
        return fit_generator(self.generator, parts)

    def sample(self, labels: Tensor) -> Tensor:
        """Generate (s, a) for each label ``(R, n)`` and step them: ``(R, n, D)``."""
        data = from_rows(self.generator.sample(labels), *self.dims)
        rows = to_rows(self.outcomes(data.obs, data.action.clamp(-1, 1)))
        return rows.masked_fill(self.outcomes.is_impossible(data.obs)[..., None], float("nan"))

    def network_calls(self, rows: int) -> float:
        """Count the generator's network calls for so many rows."""
        return self.generator.network_calls(rows)

    def state(self) -> dict[str, Any]:
        """Return the generator's state."""
        return self.generator.state()

    def restore(self, state: State) -> None:
        """Restore the generator's state."""
        self.generator.restore(state)


def _flat(values: Tensor) -> np.ndarray:
    return values.flatten(0, -2).double().cpu().numpy()
