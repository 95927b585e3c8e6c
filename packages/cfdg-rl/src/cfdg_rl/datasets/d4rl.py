"""D4RL's HDF5 layout, checked and read with the semantics of ``d4rl.qlearning_dataset``, without the d4rl package.

The file is the flat record of whole trajectories. Row i becomes the transition (o_i, a_i, r_i, o_{i+1}, d_i), except

* rows on which the time limit fell, which are dropped, because o_{i+1} already belongs to the next episode;
* the last row of the file, which has no o_{i+1}, and is always lost;
* terminal rows, where o_{i+1} is the reset pose of the next episode. D4RL keeps it, which is harmless to TD learning
  and false to a model of the transitions; here s' is the stored ``next_observations`` or, without that key, o_i.

With the key ``next_observations`` every row has its own s'. Trajectories then break where that is not o_{i+1}, also
without the key ``timeouts`` (or ``truncations``, Gymnasium's word); rows in no order of time are read one by one, and
none of them is dropped; of a user's own file (:mod:`cfdg_rl.datasets.hdf5`) none is in any order. See
:mod:`cfdg_rl.datasets.order`.

In the files of mazes a trajectory does not stop at the goal: it stays there, row after row with reward and terminal 1,
until its time is over. There o_{i+1} is the true next observation of a terminal row, and kept, unless the robot is
suddenly elsewhere; and the return of a trajectory is 1 if it ever succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.checksums import UNREADABLE
from cfdg_rl.datasets.scores import Family
from cfdg_rl.datasets.trajectories import RawRows, episode_returns, to_transitions, with_breaks, without_resets
from cfdg_rl.transitions import Transitions

NAMES = tuple(PUBLISHED)

ToUnit = Callable[[np.ndarray], np.ndarray]

_LIMIT_KEYS = ("timeouts", "truncations")  # D4RL's word, and Gymnasium's
_ACTION_SLACK = 1e-3  # float32 rounding of tanh leaves actions far nearer to [-1, 1]; more is another action scale


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
    return split_rows(read_rows(path, family), family)


def split_rows(raw: RawRows, family: Family) -> tuple[Transitions, np.ndarray]:
    """Turn raw rows into transitions and the returns of complete episodes; see :func:`read_hdf5`."""
    return to_transitions(raw, sparse=family.sparse), episode_returns(raw, sparse=family.sparse)


def read_rows(path: Path, family: Family, to_unit: ToUnit | None = None) -> RawRows:
    """Read and check the columns of a file; see :func:`read_hdf5` for the errors.

    Args:
        path: a file in D4RL's layout.
        family: gives the widths and the time limit.
        to_unit: maps stored actions ``(N, A)`` into [-1, 1]; None if they lie there.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected an HDF5 file")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            raw = read_columns(path, file, family)
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a complete HDF5 file ({reason}): download or record it again") from error
    except MemoryError as error:
        raise ValueError(f"{path} says that it has more rows than memory holds, expected fewer ({error})") from error
    return scaled_actions(path, raw, to_unit)


def rows_of(where: Path | str, source: Mapping[str, Any], family: Family, to_unit: ToUnit | None = None) -> RawRows:
    """Check columns and actions and map these into [-1, 1]; see :func:`read_columns` and :func:`scaled_actions`."""
    return scaled_actions(where, read_columns(where, source, family), to_unit)


def scaled_actions(where: Path | str, raw: RawRows, to_unit: ToUnit | None) -> RawRows:
    """Map the actions of rows into [-1, 1] and check them.

    Raises:
        ValueError: if one is not finite or outside; the sentence names ``where`` and the row.
    """
    try:
        action = raw.action if to_unit is None else to_unit(raw.action)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return replace(raw, action=bounded_actions(where, action))


def read_columns(where: Path | str, source: Mapping[str, Any], family: Family) -> RawRows:
    """Check the columns of an open HDF5 file, or of a mapping of arrays with its keys, actions as they are.

    Raises:
        ValueError: if a column is missing or wrong; the sentence names ``where`` and the key.
    """
    obs = _column(where, source, "observations", family.obs_dim)
    if len(obs) == 0:
        raise ValueError(f"{where}: observations has 0 rows, expected at least 1")
    action = _column(where, source, "actions", family.action_dim)
    reward = _column(where, source, "rewards")
    terminal = _column(where, source, "terminals") != 0
    limit = next((key for key in _LIMIT_KEYS if key in source), None)
    timeout = None if limit is None else _column(where, source, limit) != 0
    next_obs = _column(where, source, "next_observations", family.obs_dim) if "next_observations" in source else None
    flags = {"rewards": reward, "terminals": terminal, limit: timeout}
    for key, column in {"actions": action, **flags, "next_observations": next_obs}.items():
        if column is not None and len(column) != len(obs):
            raise ValueError(f"{where}: {key} has {len(column)} rows, expected {len(obs)} as observations has")
    if next_obs is None:
        timeout = implied_timeouts(terminal, family.max_episode_steps) if timeout is None else timeout
        return RawRows(obs, action, reward, terminal, timeout=timeout)
    limits = np.zeros_like(terminal) if timeout is None else timeout
    raw = RawRows(obs, action, reward, terminal, timeout=limits, next_obs=next_obs)
    raw = raw if family.sparse else without_resets(raw)  # a maze's trajectories go on behind the goal
    raw = with_breaks(raw, known_limits=timeout is not None)
    return raw if timeout is not None or family.sparse or raw.scattered else _limited(raw, family.max_episode_steps)


def _limited(raw: RawRows, max_episode_steps: int) -> RawRows:
    """Count off the time limit where no time-outs are stored: a reset in the same step leaves no break behind."""
    counted = implied_timeouts(raw.terminal | raw.timeout, max_episode_steps) & ~raw.terminal
    return replace(raw, timeout=raw.timeout | counted)


def _column(path: Path | str, source: Mapping[str, Any], key: str, width: int | None = None) -> np.ndarray:
    """Read a column as finite float32: ``(N, width)``, or ``(N,)`` from ``(N,)`` or ``(N, 1)`` without a width."""
    dataset = source.get(key)
    if not isinstance(dataset, h5py.Dataset | np.ndarray):
        if key in list(source):
            raise ValueError(f"{path}: {key} is a group or a link to nothing, expected a dataset")
        raise ValueError(f"{path}: the keys are {', '.join(sorted(source)) or 'none'}, expected {key!r} among them")
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
    action = finite(where, "actions", action.astype(np.float32, copy=False))
    excess = max(float(action.max()), -float(action.min())) - 1.0
    if excess > _ACTION_SLACK:
        row = int(np.argmax((np.abs(action) > 1.0 + _ACTION_SLACK).any(axis=1)))
        largest = np.abs(action[row]).max()
        raise ValueError(f"{where}: an action is {largest:.4g} in absolute value at row {row}, expected at most 1")
    return np.clip(action, -1.0, 1.0) if excess > 0 else action


def implied_timeouts(terminal: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Count off time limits ``(N,)`` for a file without ``timeouts``: every ``max_episode_steps`` rows of an episode.

    D4RL's own counter starts the episode after a terminal at 1 and so drops row 998 of it, then runs row 999 into the
    next episode; here both counts start at 0. Files of version 2 have the key.
    """
    row = np.arange(len(terminal))
    begins = np.concatenate([[True], terminal[:-1]])
    step = row - np.maximum.accumulate(np.where(begins, row, 0))
    return step % max_episode_steps == max_episode_steps - 1
