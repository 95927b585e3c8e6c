"""Order of a table's rows in time, as the stored next observations show it.

In a flat record of trajectories the next observation of a row is the observation of the row below. Tables of other
kinds come from replay buffers (rows in any order), from several environments at once (rows in turns), from recorders
that cut trajectories off, and from vector environments that store a row while they reset. Their rows are transitions
all the same, but for the last kind; only what is derived from the order of rows needs care.
"""

from __future__ import annotations

import numpy as np

_SCATTERED = 0.5  # of the rows that do not end: more that are not followed by their successor have no order
_RESET_SHARE = 0.8  # of the ends: fewer that are followed by a reset row are coincidences


def breaks(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """Find the rows ``(N,)`` whose next observation is not the observation of the row below; the last is none."""
    found = np.zeros(len(obs), bool)
    found[:-1] = (next_obs[:-1] != obs[1:]).any(axis=1)
    return found


def is_scattered(cut: np.ndarray, ended: np.ndarray) -> bool:
    """Tell if rows ``(N,)`` are in no order of time: most that do not end are ``cut`` off from their successor."""
    return bool(cut.sum() > _SCATTERED * max(1, (~ended).sum()))


def reset_rows(obs: np.ndarray, next_obs: np.ndarray, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Find the rows ``(N,)`` that are no transitions: a vector environment's calls that reset a finished episode.

    With next-step autoreset, the default of Gymnasium's vector environments, such a row begins at the last observation
    of an episode, has reward 0 and leads to the first observation of the next episode. They count if nearly every
    episode has one.

    Args:
        obs: ``(N, S)`` observations.
        next_obs: ``(N, S)`` stored next observations.
        reward: ``(N,)`` raw rewards.
        ended: ``(N,)`` bool, the episode ended by terminal or time limit.
    """
    last = _keys(next_obs[:-1][ended[:-1]])
    candidates = np.flatnonzero((reward == 0) & ~ended)
    found = np.zeros(len(obs), bool)
    found[candidates[np.isin(_keys(obs[candidates]), last)]] = True
    reached = np.isin(last, _keys(obs[found])).sum()
    return found if len(last) and reached >= _RESET_SHARE * len(last) else np.zeros(len(obs), bool)


def led_astray(obs: np.ndarray, next_obs: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Find the rows ``(N,)`` that end an episode and lead to the first observation of the next one.

    Recorders of vector environments that reset in the same step leave such rows. They count if most ends are so; a
    robot that stays at its goal, where every row ends, is none of these.

    Args:
        obs: ``(N, S)`` observations.
        next_obs: ``(N, S)`` stored next observations.
        ended: ``(N,)`` bool, the episode ended by terminal or time limit.
    """
    firsts = obs[~np.isin(_keys(obs), _keys(next_obs[~ended]))]
    found = ended & np.isin(_keys(next_obs), _keys(firsts))
    stays = np.isin(_keys(next_obs[found]), _keys(obs[ended]))
    is_common = 2 * found.sum() >= ended.sum() and 2 * stays.sum() <= len(stays)
    return found if is_common else np.zeros(len(obs), bool)


def _keys(rows: np.ndarray) -> np.ndarray:
    """Turn float32 rows ``(N, S)`` into ``(N,)`` values that are equal where the rows are."""
    plain = np.ascontiguousarray(rows + np.float32(0))  # no negative zeros
    return plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1]))).ravel()
