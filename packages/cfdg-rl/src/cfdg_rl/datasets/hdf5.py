"""Your own file in D4RL's HDF5 layout: ``hdf5:PATH@ENV_ID``."""

from __future__ import annotations

from pathlib import Path

from cfdg_rl.datasets.d4rl import episode_returns, looks_sparse, read_rows, to_transitions
from cfdg_rl.datasets.dataset import Dataset
from cfdg_rl.datasets.scores import MAZES, Family, family_of_environment, reference_of
from cfdg_rl.envs.make import inspect_env


def split_name(rest: str) -> tuple[Path, str]:
    """Absolute path and environment id of "PATH@ENV_ID".

    Raises:
        ValueError: if one of them is missing.
    """
    path, _, env_id = rest.rpartition("@")
    if not path or not env_id:
        raise ValueError(
            f"a file of your own is named hdf5:PATH@ENV_ID, such as hdf5:run.hdf5@Hopper-v5, found {rest!r}"
        )
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
    return Dataset(name, env_id, transitions, returns, reference_of(env_id, sparse=sparse), sparse)


def family_of(env_id: str) -> Family:
    """Widths and time limit of an environment; its reference returns are of no use.

    Raises:
        ValueError: if it cannot be made or has no time limit.
    """
    shape = inspect_env(env_id)
    if shape.max_episode_steps is None:
        raise ValueError(f"environment {env_id!r} has no time limit: register it with max_episode_steps")
    widths, maze = (shape.obs_dim, len(shape.action_low)), family_of_environment(env_id) in MAZES
    return Family(env_id, *widths, 0.0, 1.0, shape.max_episode_steps, sparse=maze)
