"""User files in D4RL's HDF5 layout: ``hdf5:PATH@ENV_ID``."""

from __future__ import annotations

from pathlib import Path

from cfdg_rl.datasets.d4rl import episode_returns, looks_sparse, read_rows, to_transitions
from cfdg_rl.datasets.dataset import Dataset
from cfdg_rl.datasets.scores import MAZES, Family, family_of_environment, reference_of
from cfdg_rl.envs.make import inspect_env


def split_name(rest: str) -> tuple[Path, str]:
    """Split "PATH@ENV_ID" into an absolute path and an environment id.

    Raises:
        ValueError: if one of them is missing.
    """
    path, _, env_id = rest.rpartition("@")
    if not path or not env_id:
        raise ValueError(f"the name of a file is {rest!r}, expected hdf5:PATH@ENV_ID, such as hdf5:run.hdf5@Hopper-v5")
    return Path(path).expanduser().absolute(), env_id


def load(name: str, rows: int | None) -> Dataset:
    """Load "hdf5:PATH@ENV_ID"; actions of another box than [-1, 1] are mapped as the environment's are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the environment cannot be made or the file does not fit it.
    """
    path, env_id = split_name(name.partition(":")[2])
    family = family_of(env_id)
    raw = read_rows(path, family, inspect_env(env_id).unit_actions)
    sparse = family.sparse or looks_sparse(raw.reward, raw.terminal)
    goes_on = family.sparse or (sparse and raw.terminal_next_obs is not None)
    transitions = to_transitions(raw, sparse=goes_on).map(lambda column: column[:rows])
    returns = episode_returns(raw, sparse=goes_on)
    return Dataset(name, env_id, transitions, returns, reference=reference_of(env_id, sparse=sparse), sparse=sparse)


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
