"""Controls without a model: real rows again, as they are or jittered (tell generation from replay and smoothing)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from cfdg_experiments.generators.fitted import select_label
from cfdg_experiments.generators.interface import State
from cfdg_experiments.generators.rows import StoredRows, fitted_rows
from cfdg_rl.protocols import Parts
from cfdg_rl.ranges import NOT_NEGATIVE, check_ranges
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import from_rows, to_rows


class Repeat:
    """Real rows drawn again under the labels asked for: CFDG's mixing without a generator.

    Args:
        streams: randomness of the draws, one stream per replica.
    """

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self._real: StoredRows | None = None

    def fit(self, rows: Tensor, labels: Tensor) -> None:
        """Keep rows ``(R, N, D)`` with labels ``(R, N)``, of each label equally many in every replica.

        Raises:
            ValueError: if they are not equally many.
        """
        self.fit_parts([(select_label(rows, labels, label), label) for label in labels.unique().tolist()])

    def fit_parts(self, parts: Parts) -> None:
        """Keep parts without a copy; they have to stay as they are until the rows are drawn."""
        self._real = StoredRows(parts, len(self.streams))

    def spread(self) -> Tensor:
        """Return the standard deviations of the rows' columns, ``(R, 1, D)``.

        Raises:
            ValueError: if nothing was fitted.
        """
        return fitted_rows(self._real).spread()

    def sample(self, labels: Tensor) -> Tensor:
        """Draw one real row ``(R, n, D)`` for each label ``(R, n)``.

        Raises:
            ValueError: if nothing was fitted, or a label has no rows.
        """
        return fitted_rows(self._real).draw(labels, self.streams)

    def network_calls(self, rows: int) -> float:
        """Return 0: there is no network."""
        return 0.0

    def state(self) -> dict[str, Any]:
        """Return the random streams."""
        return {"streams": self.streams.state()}

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken; a fit comes first."""
        self.streams.restore(state["streams"])
        self._real = None


@dataclass(frozen=True)
class JitterSettings:
    """Noise of :class:`Jitter`.

    Raises:
        ValueError: if a value is negative.
    """

    noise: float = 0.01  # standard deviation, in standard deviations of each column

    def __post_init__(self) -> None:
        check_ranges(self, noise=NOT_NEGATIVE)


class Jitter:
    """Real rows with Gaussian noise on s and s'; action, reward and terminal stay.

    Args:
        obs_dim: S.
        action_dim: A.
        streams: randomness of the draws, one stream per replica.
        settings: size of the noise.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, streams: Streams, settings: JitterSettings = JitterSettings()
    ) -> None:
        self.dims = (obs_dim, action_dim)
        self.settings = settings
        self.repeat = Repeat(streams)

    def fit(self, rows: Tensor, labels: Tensor) -> None:
        """Keep rows ``(R, N, D)`` with labels ``(R, N)``."""
        self.repeat.fit(rows, labels)

    def fit_parts(self, parts: Parts) -> None:
        """Keep parts without a copy; see :meth:`Repeat.fit_parts`."""
        self.repeat.fit_parts(parts)

    def sample(self, labels: Tensor) -> Tensor:
        """Draw one jittered row ``(R, n, D)`` for each label ``(R, n)``.

        Raises:
            ValueError: if nothing was fitted, or a label has no rows.
        """
        data = from_rows(self.repeat.sample(labels), *self.dims)
        spread = from_rows(self.repeat.spread(), *self.dims)
        before = self._noise(data.obs) * spread.obs
        after = self._noise(data.next_obs) * spread.next_obs
        return to_rows(replace(data, obs=data.obs + before, next_obs=data.next_obs + after))

    def _noise(self, like: Tensor) -> Tensor:
        return self.settings.noise * self.repeat.streams.normal(*like.shape[1:])

    def network_calls(self, rows: int) -> float:
        """Return 0: there is no network."""
        return 0.0

    def state(self) -> dict[str, Any]:
        """Return the random streams."""
        return self.repeat.state()

    def restore(self, state: State) -> None:
        """Continue where :meth:`state` was taken; a fit comes first."""
        self.repeat.restore(state)
