"""Datasets by name: ``recorded:hopper-medium`` is made on this machine, ``d4rl:hopper-medium-v2`` is a file of D4RL."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfdg_rl.datasets import d4rl, recorded
from cfdg_rl.datasets.scores import FAMILIES, normalised_score
from cfdg_rl.transitions import Transitions

__all__ = ["Dataset", "dataset_names", "load_dataset", "resolve_name"]


@dataclass(frozen=True)
class Dataset:
    """Transitions with what is needed to evaluate on their task.

    Attributes:
        name: full name with its source, such as "recorded:hopper-medium".
        env_id: Gymnasium id of the environment to evaluate in.
        transitions: ``(N,)`` float32 on the CPU; raw rewards; rows on which the time limit fell are left out.
        episode_returns: ``(episodes,)`` undiscounted raw returns of the file's complete episodes.
    """

    name: str
    env_id: str
    transitions: Transitions
    episode_returns: np.ndarray

    @property
    def obs_dim(self) -> int:
        """Width S of an observation."""
        return self.transitions.obs.shape[-1]

    @property
    def action_dim(self) -> int:
        """Width A of an action."""
        return self.transitions.action.shape[-1]

    @property
    def behaviour_score(self) -> float:
        """Mean normalised score of the complete episodes; NaN if there are none."""
        if len(self.episode_returns) == 0:
            return float("nan")
        return float(self.normalised_score(self.episode_returns).mean())

    def normalised_score(self, returns: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns of any shape on D4RL's scale: 0 random, 100 expert."""
        return normalised_score(self.name.partition(":")[2].partition("-")[0], returns)


def dataset_names() -> list[str]:
    """Every name that :func:`load_dataset` knows."""
    return [f"recorded:{name}" for name in recorded.NAMES] + [f"d4rl:{name}" for name in d4rl.NAMES]


def resolve_name(name: str) -> str:
    """The full name; one without a source is a recorded one.

    Raises:
        ValueError: if there is no such dataset; the sentence offers near names.
    """
    full = name if ":" in name else f"recorded:{name}"
    if full not in dataset_names():
        near = difflib.get_close_matches(full, dataset_names(), n=3)
        raise ValueError(
            f"no dataset {name!r}; {'near names' if near else 'known'}: {', '.join(near or dataset_names())}"
        )
    return full


def load_dataset(
    name: str,
    *,
    rows: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
    progress: bool = False,
    jobs: int = 1,
) -> Dataset:
    """Load a dataset; a recorded one is rolled out on first use, which takes half a minute, and kept.

    Args:
        name: one of :func:`dataset_names`; ``recorded:`` may be left out.
        rows: of a recorded set, rows to roll out (None: 200,000); of a replay and of a D4RL file, at most so many are
            taken from its beginning (None: all).
        seed: of the rollout; a replay and a D4RL file have none.
        cache: cache folder instead of $CFDG_CACHE, $XDG_CACHE_HOME/cfdg or ~/.cache/cfdg.
        progress: draw a bar during a rollout.
        jobs: processes for a rollout; with more than one, a calling script needs the ``__main__`` guard.

    Raises:
        ValueError: if the name is unknown, the rows do not fit, or the file is not what it should be.
        FileNotFoundError: if a D4RL file is not there; nothing is downloaded.
    """
    full = resolve_name(name)
    if rows is not None and rows < 1:
        raise ValueError(f"rows must be at least 1, found {rows}")
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, found {jobs}")
    source, _, short = full.partition(":")
    if source == "d4rl":
        return _load_d4rl(full, short, rows)
    recording = recorded.plan_recording(short, rows, seed)
    path = recorded.ensure_recorded(recording, recorded.cache_folder(cache), jobs=jobs, progress=progress)
    return Dataset(full, recording.env_id, *d4rl.read_hdf5(path, recording.robot))


def _load_d4rl(full: str, short: str, rows: int | None) -> Dataset:
    family = FAMILIES[short.partition("-")[0]]
    transitions, returns = d4rl.read_hdf5(d4rl.find_file(short), family)
    return Dataset(full, f"{family.env}-v4", transitions.map(lambda column: column[:rows]), returns)
