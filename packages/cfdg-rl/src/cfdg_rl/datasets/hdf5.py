"""User data in D4RL's layout: files, ``hdf5:PATH@ENV_ID``, and arrays."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfdg_rl.datasets.d4rl import read_rows, rows_of
from cfdg_rl.datasets.dataset import Dataset, DataWarning, split_option
from cfdg_rl.datasets.scores import MAZES, Family, family_of_environment, reference_of
from cfdg_rl.datasets.trajectories import RawRows, episode_returns, looks_sparse, to_transitions, with_own_ends
from cfdg_rl.envs.make import inspect_env


class OwnFile(NamedTuple):
    """The parts of a name "PATH@ENV_ID" or "PATH@ENV_ID?actions=normalised".

    Attributes:
        path: absolute.
        env_id: of its environment.
        option: "?actions=normalised" if its actions lie in [-1, 1] whatever the environment's box is, else "".
    """

    path: Path
    env_id: str
    option: str = ""

    @property
    def name(self) -> str:
        """The whole name, without the source."""
        return f"{self.path}@{self.env_id}{self.option}"


def split_name(rest: str) -> OwnFile:
    """Split "PATH@ENV_ID", with or without an option.

    Raises:
        ValueError: if a part is missing or the option is unknown.
    """
    plain, option = split_option(rest)
    path, _, env_id = plain.rpartition("@")
    if not path or not env_id:
        raise ValueError(f"the name of a file is {rest!r}, expected hdf5:PATH@ENV_ID, such as hdf5:run.hdf5@Hopper-v5")
    return OwnFile(Path(path).expanduser().absolute(), env_id, option)


def load(name: str, rows: int | None) -> Dataset:
    """Load "hdf5:PATH@ENV_ID"; actions of another box than [-1, 1] are mapped as the environment's are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the environment cannot be made or the file does not fit it.
    """
    own = split_name(name.partition(":")[2])
    return own_dataset(name, own.env_id, *read_own(own), rows=rows)


def read_own(own: OwnFile) -> tuple[RawRows, Family]:
    """Read the checked raw rows of a file, actions in [-1, 1], and its family; see :func:`load` for the errors."""
    family = family_of(own.env_id)
    to_unit = None if own.option else inspect_env(own.env_id).unit_actions
    raw = read_rows(own.path, family, to_unit)
    return with_own_ends(raw, is_maze=family.sparse), family


def own_dataset(name: str, env_id: str, raw: RawRows, family: Family, *, rows: int | None = None) -> Dataset:
    """Make a dataset of the first ``rows`` transitions (None: all) of raw rows, and warn of their faults."""
    sparse = family.sparse or looks_sparse(raw.reward, raw.terminal)
    goes_on = family.sparse or (sparse and raw.next_obs is not None)
    whole = to_transitions(raw, sparse=goes_on)
    returns = episode_returns(raw, sparse=goes_on, rows=rows)
    reference = reference_of(env_id, sparse=sparse)
    notes = tuple(f"{name}: {note}" for note in raw.notes)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=4)
    return Dataset(name, env_id, whole, returns, reference=reference, sparse=sparse, notes=notes).first(rows)


def from_arrays(  # noqa: PLR0913 - the columns of a transition
    observations: Any,  # noqa: ANN401 - an array, or what numpy makes one of
    actions: Any,  # noqa: ANN401
    rewards: Any,  # noqa: ANN401
    next_observations: Any,  # noqa: ANN401
    terminals: Any,  # noqa: ANN401
    timeouts: Any = None,  # noqa: ANN401
    *,
    env_id: str,
    name: str = "arrays",
    actions_normalised: bool = False,
) -> Dataset:
    """Make a dataset of transitions in memory, such as those of a replay buffer, in any order.

    Every row is kept but the rows on which a vector environment was reset, of which the dataset's notes tell.

    Args:
        observations: ``(N, S)``.
        actions: ``(N, A)`` in the environment's own units.
        rewards: ``(N,)`` or ``(N, 1)``, raw.
        next_observations: ``(N, S)``, of a terminal or time-out row the last one of its episode.
        terminals: ``(N,)`` or ``(N, 1)``, true where the MDP ended.
        timeouts: ``(N,)`` or ``(N, 1)``, true where a time limit ended the episode; None if that is not known.
        env_id: Gymnasium id of the environment to evaluate in.
        name: for messages.
        actions_normalised: actions lie in [-1, 1] whatever the environment's box is, as in Stable-Baselines3's buffers.

    Raises:
        ValueError: if the environment cannot be made, or a column is missing, not finite or does not fit it.
    """
    columns = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "next_observations": next_observations,
        "terminals": terminals,
        "timeouts": timeouts,
    }
    arrays = {key: np.asarray(column) for key, column in columns.items() if column is not None}
    family = family_of(env_id)
    to_unit = None if actions_normalised else inspect_env(env_id).unit_actions
    raw = rows_of(name, arrays, family, to_unit)
    return own_dataset(name, env_id, with_own_ends(raw, is_maze=family.sparse), family)


def family_of(env_id: str) -> Family:
    """Read widths and time limit of an environment; the reference returns are placeholders.

    Raises:
        ValueError: if it cannot be made or has no time limit.
    """
    shape = inspect_env(env_id)
    if shape.max_episode_steps is None:
        raise ValueError(f"environment {env_id!r} has no time limit, expected one registered with max_episode_steps")
    maze = family_of_environment(env_id) in MAZES
    steps = shape.max_episode_steps
    return Family(env_id, shape.obs_dim, len(shape.action_low), 0.0, 1.0, max_episode_steps=steps, sparse=maze)
