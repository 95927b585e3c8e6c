"""Rows of a flat record: their transitions with the next observations, and the returns of their episodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from cfdg_rl.datasets.order import breaks, is_scattered, led_astray, reset_rows
from cfdg_rl.transitions import Transitions


@dataclass(frozen=True)
class RawRows:
    """The checked columns of a file, all of N rows, before any row is dropped.

    Attributes:
        obs: ``(N, S)`` float32.
        action: ``(N, A)`` float32 in [-1, 1].
        reward: ``(N,)`` float32.
        terminal: ``(N,)`` bool, the MDP ended.
        timeout: ``(N,)`` bool, the time limit fell.
        next_obs: ``(N, S)`` float32, the stored next observations; None without the key ``next_observations``.
        cut: ``(N,)`` bool, the trajectory breaks off here without an end; None for nowhere.
        scattered: the rows are in no order of time.
        whole: every row becomes a transition, also time-outs and the last: each has its own next observation.
        astray: ``(N,)`` bool, rows whose stored next observation was another episode's; None for nowhere.
        resets: number of rows of the file that were resets of a vector environment, and are left out here.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    timeout: np.ndarray
    next_obs: np.ndarray | None = None
    cut: np.ndarray | None = None
    scattered: bool = False
    whole: bool = False
    astray: np.ndarray | None = None
    resets: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about rows that are not what D4RL's layout promises."""
        cut = 0 if self.cut is None else int(self.cut.sum())
        astray = 0 if self.astray is None else int(self.astray.sum())
        found = [
            (self.resets, f"{self.resets:,} rows are resets of a vector environment, no transitions, and are left out"),
            (
                self.scattered,
                "rows are in no order of time; each keeps its own next observation, and no return is known",
            ),
            (
                astray,
                f"{astray:,} rows lead to the first observation of the next episode, as environments that reset in the "
                "same step record them; time-outs among them are left out, terminal ones lead to their own observation",
            ),
            (cut, f"{cut:,} trajectories break off without an end: no return is counted before and behind"),
        ]
        return tuple(sentence for holds, sentence in found if holds)

    @property
    def kept(self) -> np.ndarray:
        """Rows ``(N,)`` that become transitions."""
        keep = np.ones(len(self.reward), bool)
        if not (self.scattered or self.whole):
            keep = ~self.timeout
            keep[-1] = False
        return keep if self.astray is None else keep & ~(self.astray & ~self.terminal)


def with_own_ends(raw: RawRows, *, is_maze: bool) -> RawRows:
    """Keep every row that has a next observation of its own; without stored ones nothing changes.

    Args:
        raw: rows.
        is_maze: trajectories may go on behind a terminal row, whose next observation then is its own.
    """
    if raw.next_obs is None:
        return raw
    ended = np.zeros_like(raw.terminal) if is_maze else raw.terminal | raw.timeout
    astray = led_astray(raw.obs, raw.next_obs, ended)
    next_obs = np.where((astray & raw.terminal)[:, None], raw.obs, raw.next_obs)
    return replace(raw, next_obs=next_obs, astray=astray if astray.any() else None, whole=True)


def without_resets(raw: RawRows) -> RawRows:
    """Leave out the rows on which a vector environment was reset; needs stored next observations."""
    assert raw.next_obs is not None
    keep = ~reset_rows(raw.obs, raw.next_obs, raw.reward, raw.terminal | raw.timeout)
    names = ("obs", "action", "reward", "terminal", "timeout", "next_obs")
    columns = {name: getattr(raw, name)[keep] for name in names}
    return raw if keep.all() else replace(raw, **columns, resets=int((~keep).sum()))


def with_breaks(raw: RawRows, *, known_limits: bool) -> RawRows:
    """Find where trajectories break off; needs stored next observations.

    Args:
        raw: rows.
        known_limits: the time-outs were recorded; else every break is one.
    """
    assert raw.next_obs is not None
    ended = raw.terminal | raw.timeout
    cut = breaks(raw.obs, raw.next_obs) & ~ended
    if is_scattered(cut, ended):
        return replace(raw, scattered=True)
    return replace(raw, cut=cut) if known_limits else replace(raw, timeout=cut)


def to_transitions(raw: RawRows, *, sparse: bool = False) -> Transitions:
    """Make transitions of the rows that D4RL keeps, terminal rows mended (module docstring)."""
    next_obs = raw.next_obs
    if next_obs is None:
        next_obs = np.roll(raw.obs, -1, axis=0)
        last = raw.terminal & ~continues(raw, sparse=sparse)
        next_obs[last] = raw.obs[last]
    columns = (raw.obs, raw.action, raw.reward, next_obs, raw.terminal.astype(np.float32))
    return Transitions(*(torch.from_numpy(column[raw.kept]) for column in columns))


def continues(raw: RawRows, *, sparse: bool) -> np.ndarray:
    """Find the terminal rows ``(N,)`` whose trajectory goes on in the next row; only mazes have some.

    Stored next observations decide. Without them, a maze's position (the first two columns, as in D4RL's
    observations) must not move farther than robots there do: twice the 99th percentile of the steps of ordinary rows.
    """
    goes_on = np.zeros(len(raw.terminal), dtype=bool)
    rows = np.flatnonzero(raw.terminal[:-1] & ~raw.timeout[:-1])
    if not sparse or len(rows) == 0 or raw.scattered:
        return goes_on
    if raw.next_obs is not None:
        goes_on[rows] = (raw.next_obs[rows] == raw.obs[rows + 1]).all(axis=1)
        return goes_on
    step = np.linalg.norm(np.diff(raw.obs[:, :2], axis=0), axis=1)
    ordinary = step[~(raw.terminal | raw.timeout)[:-1]]
    goes_on[rows] = step[rows] <= (2.0 * np.percentile(ordinary, 99) if len(ordinary) else 0.0)
    return goes_on


def episode_returns(raw: RawRows, *, sparse: bool = False, rows: int | None = None) -> np.ndarray:
    """Sum undiscounted returns ``(episodes,)``, float64, of the episodes that a terminal or the time limit ended.

    Of a maze: 1 for a trajectory that was ever at the goal, 0 for another. Of rows in no order of time none is known.
    With ``rows``, only the episodes within the first so many transitions count.
    """
    over = raw.timeout | raw.terminal & ~continues(raw, sparse=sparse)
    ends = np.flatnonzero(over if raw.cut is None else over | raw.cut)
    if len(ends) == 0 or raw.scattered:
        return np.zeros(0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    reduce = np.maximum if sparse else np.add
    returns = reduce.reduceat(raw.reward[: ends[-1] + 1].astype(np.float64), starts)
    kept = np.flatnonzero(raw.kept)
    last = len(raw.reward) if rows is None or rows >= len(kept) else kept[rows - 1]
    final = np.where(raw.timeout[ends] & ~raw.kept[ends], ends - 1, ends)  # row of each episode that is a transition
    whole = over[ends] & np.concatenate([[True], over[ends[:-1]]])  # what follows a break may begin in the middle
    return returns[whole & (final <= last)]


def looks_sparse(reward: np.ndarray, terminal: np.ndarray) -> bool:
    """Tell if rewards ``(N,)`` are a maze's: 1 exactly on the terminal rows, of which there are some, else 0."""
    return bool(terminal.any() and (reward == terminal.astype(reward.dtype)).all())
