"""D4RL's HDF5 layout, checked and read with the semantics of ``d4rl.qlearning_dataset``, without the d4rl package.

The file is the flat record of whole trajectories. Row i becomes the transition (o_i, a_i, r_i, o_{i+1}, d_i), except

* rows on which the time limit fell, which are dropped, because o_{i+1} already belongs to the next episode;
* the last row of the file, which has no o_{i+1}, and is always lost;
* terminal rows, where o_{i+1} is the reset pose of the next episode. D4RL keeps it, which is harmless to TD learning
  and false to a model of the transitions; here s' is the stored ``next_observations`` or, without that key, o_i.

In the files of mazes a trajectory does not stop at the goal: it stays there, row after row with reward and terminal 1,
until its time is over. There o_{i+1} is the true next observation of a terminal row, and kept, unless the robot is
suddenly elsewhere; and the return of a trajectory is 1 if it ever succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch

from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.scores import Family
from cfdg_rl.files import atomic_write
from cfdg_rl.transitions import Transitions

NAMES = tuple(PUBLISHED)

_ACTION_SLACK = 1e-3  # float32 rounding of tanh leaves actions far nearer to [-1, 1]; more is another action scale


@dataclass(frozen=True)
class RawRows:
    """The checked columns of a file, all of N rows, before any row is dropped.

    Attributes:
        obs: ``(N, S)`` float32.
        action: ``(N, A)`` float32 in [-1, 1].
        reward: ``(N,)`` float32.
        terminal: ``(N,)`` bool, the MDP ended.
        timeout: ``(N,)`` bool, the time limit fell.
        terminal_next_obs: ``(K, S)`` float32, the stored next observation of each of the K terminal rows; None without
            the key ``next_observations``.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    timeout: np.ndarray
    terminal_next_obs: np.ndarray | None


def read_hdf5(path: Path, family: Family) -> tuple[Transitions, np.ndarray]:
    """Read the transitions of a file and the returns of its complete episodes.

    Args:
        path: a file in D4RL's layout.
        family: gives the widths and the time limit, and whether it is a maze.

    Returns:
        Transitions ``(N,)``, float32 on the CPU, and undiscounted returns ``(episodes,)``, float64.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not such a file; the sentence names the file and the key.
    """
    raw = read_rows(path, family)
    return to_transitions(raw, sparse=family.sparse), episode_returns(raw, sparse=family.sparse)


def read_rows(path: Path, family: Family, to_unit: Callable[[np.ndarray], np.ndarray] | None = None) -> RawRows:
    """Read and check the columns of a file; see :func:`read_hdf5` for the errors.

    Args:
        path: a file in D4RL's layout.
        family: gives the widths and the time limit.
        to_unit: maps stored actions ``(N, A)`` into [-1, 1]; None if they lie there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            raw = _read_columns(path, file, family)
    except OSError as error:
        raise ValueError(f"{path} is not a complete HDF5 file ({error}): download or record it again") from error
    return replace(raw, action=bounded_actions(path, to_unit(raw.action) if to_unit else raw.action))


def _read_columns(path: Path, file: h5py.File, family: Family) -> RawRows:
    obs = _column(path, file, "observations", family.obs_dim)
    if len(obs) == 0:
        raise ValueError(f"{path}: observations has 0 rows, expected at least 1")
    action = _column(path, file, "actions", family.action_dim)
    reward = _column(path, file, "rewards")
    terminal = _column(path, file, "terminals") != 0
    timeout = _column(path, file, "timeouts") != 0 if "timeouts" in file else None
    for key, column in (("actions", action), ("rewards", reward), ("terminals", terminal), ("timeouts", timeout)):
        if column is not None and len(column) != len(obs):
            raise ValueError(f"{path}: {key} has {len(column)} rows, expected {len(obs)} as observations has")
    timeout = implied_timeouts(terminal, family.max_episode_steps) if timeout is None else timeout
    stored = _terminal_next_obs(path, file, obs, terminal)
    return RawRows(obs, action, reward, terminal, timeout, terminal_next_obs=stored)


def _column(path: Path, file: h5py.File, key: str, width: int | None = None) -> np.ndarray:
    """Read a column as finite float32: ``(N, width)``, or ``(N,)`` from ``(N,)`` or ``(N, 1)`` without a width."""
    if not isinstance(file.get(key), h5py.Dataset):
        raise ValueError(f"{path}: the keys are {', '.join(sorted(file)) or 'none'}, expected {key!r} among them")
    dataset = file[key]
    if dataset.dtype.kind not in "fbiu":
        raise ValueError(f"{path}: {key} holds {dataset.dtype}, expected numbers")
    shape = tuple(dataset.shape)
    expected = "(N,)" if width is None else f"(N, {width})"
    flat = width is None and (len(shape) == 1 or shape[1:] == (1,))
    if not flat and not (width is not None and len(shape) == 2 and shape[1] == width):
        raise ValueError(f"{path}: {key} has shape {shape}, expected {expected}")
    with np.errstate(over="ignore"):  # float64 too large for float32 becomes infinite and is reported as such
        values = np.asarray(dataset[()], dtype=np.float32)
    return finite(path, key, values.reshape(-1) if flat else values)


def finite(where: Path | str, key: str, values: np.ndarray) -> np.ndarray:
    """Check that float32 values ``(N,)`` or ``(N, C)`` are finite, and return them.

    Raises:
        ValueError: if one is not finite; the sentence names ``where``, the key and the row.
    """
    with np.errstate(invalid="ignore"):
        total = values.sum(dtype=np.float64)  # finite exactly if all are: float32 values cannot overflow it
    if not np.isfinite(total):
        bad = ~np.isfinite(values)
        row = int(np.argmax(bad if bad.ndim == 1 else bad.any(axis=1)))
        raise ValueError(f"{where}: {key} is not finite at row {row}, expected finite numbers")
    return values


def bounded_actions(where: Path | str, action: np.ndarray) -> np.ndarray:
    """Clip actions ``(N, A)`` to [-1, 1].

    Raises:
        ValueError: if one is farther outside than rounding explains; the sentence names ``where`` and the row.
    """
    excess = max(float(action.max()), -float(action.min())) - 1.0
    if excess > _ACTION_SLACK:
        row = int(np.argmax((np.abs(action) > 1.0 + _ACTION_SLACK).any(axis=1)))
        largest = np.abs(action[row]).max()
        raise ValueError(f"{where}: an action is {largest:.4g} in absolute value at row {row}, expected at most 1")
    return np.clip(action, -1.0, 1.0) if excess > 0 else action


def _terminal_next_obs(path: Path, file: h5py.File, obs: np.ndarray, terminal: np.ndarray) -> np.ndarray | None:
    """Read the next observations ``(K, S)`` of the K terminal rows, if there are both."""
    if "next_observations" not in file:
        return None
    if not terminal.any():
        return obs[terminal]
    stored = _column(path, file, "next_observations", obs.shape[1])
    if len(stored) != len(obs):
        raise ValueError(f"{path}: next_observations has {len(stored)} rows, expected {len(obs)} as observations has")
    return stored[terminal]


def implied_timeouts(terminal: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Count off time limits ``(N,)`` for a file without ``timeouts``: every ``max_episode_steps`` rows of an episode.

    D4RL's own counter starts the episode after a terminal at 1 and so drops row 998 of it, then runs row 999 into the
    next episode; here both counts start at 0. Files of version 2 have the key.
    """
    row = np.arange(len(terminal))
    begins = np.concatenate([[True], terminal[:-1]])
    step = row - np.maximum.accumulate(np.where(begins, row, 0))
    return step % max_episode_steps == max_episode_steps - 1


def to_transitions(raw: RawRows, *, sparse: bool = False) -> Transitions:
    """Make transitions of the rows that D4RL keeps, terminal rows mended (module docstring)."""
    next_obs = np.roll(raw.obs, -1, axis=0)
    if raw.terminal_next_obs is not None:
        next_obs[raw.terminal] = raw.terminal_next_obs
    else:
        last = raw.terminal & ~continues(raw, sparse=sparse)
        next_obs[last] = raw.obs[last]
    keep = ~raw.timeout
    keep[-1] = False
    columns = (raw.obs, raw.action, raw.reward, next_obs, raw.terminal.astype(np.float32))
    return Transitions(*(torch.from_numpy(column[keep]) for column in columns))


def continues(raw: RawRows, *, sparse: bool) -> np.ndarray:
    """Find the terminal rows ``(N,)`` whose trajectory goes on in the next row; only mazes have some.

    Stored next observations decide. Without them, a maze's position (the first two columns, as in D4RL's
    observations) must not move farther than robots there do: twice the 99th percentile of the steps of ordinary rows.
    """
    goes_on = np.zeros(len(raw.terminal), dtype=bool)
    rows = np.flatnonzero(raw.terminal[:-1] & ~raw.timeout[:-1])
    if not sparse or len(rows) == 0:
        return goes_on
    if raw.terminal_next_obs is not None:
        stored = raw.terminal_next_obs[np.searchsorted(np.flatnonzero(raw.terminal), rows)]
        goes_on[rows] = (stored == raw.obs[rows + 1]).all(axis=1)
        return goes_on
    step = np.linalg.norm(np.diff(raw.obs[:, :2], axis=0), axis=1)
    ordinary = step[~(raw.terminal | raw.timeout)[:-1]]
    goes_on[rows] = step[rows] <= (2.0 * np.percentile(ordinary, 99) if len(ordinary) else 0.0)
    return goes_on


def episode_returns(raw: RawRows, *, sparse: bool = False) -> np.ndarray:
    """Sum undiscounted returns ``(episodes,)``, float64, of the episodes that a terminal or the time limit ended.

    Of a maze: 1 for a trajectory that was ever at the goal, 0 for another.
    """
    ends = np.flatnonzero(raw.timeout | raw.terminal & ~continues(raw, sparse=sparse))
    if len(ends) == 0:
        return np.zeros(0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    reduce = np.maximum if sparse else np.add
    return reduce.reduceat(raw.reward[: ends[-1] + 1].astype(np.float64), starts)


def looks_sparse(reward: np.ndarray, terminal: np.ndarray) -> bool:
    """Tell if rewards ``(N,)`` are a maze's: 1 exactly on the terminal rows, of which there are some, else 0."""
    return bool(terminal.any() and (reward == terminal.astype(reward.dtype)).all())


def write_hdf5(path: Path, columns: Mapping[str, np.ndarray], metadata: Mapping[str, str | int]) -> None:
    """Write columns such as ``observations`` or ``infos/qpos`` in D4RL's layout, metadata as root attributes.

    The file is written atomically.
    """
    with atomic_write(path) as draft, h5py.File(draft, "w") as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, compression="gzip", compression_opts=1, shuffle=True)
        for key, value in metadata.items():
            file.attrs[f"metadata/{key}"] = value
