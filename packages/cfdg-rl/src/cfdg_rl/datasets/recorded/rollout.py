"""Rollouts of policies in Gymnasium: whole trajectories, the same rows for any number of processes.

The rows are split into streams of about 5,000, each with its own environment, and streams into chunks of five,
whose policy is evaluated as one batch. A chunk is the unit of work and of randomness: its generator depends on the
seed, the policy's place and the chunk's number alone. A stream ends with the episode in which it reaches its share, so
only the last trajectory of a recording is ever cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from cfdg_rl.datasets.recorded.actor import Actor
from cfdg_rl.envs.stack import EnvStack
from cfdg_rl.streams import derive_seed
from cfdg_rl.team import Team

Columns = dict[str, np.ndarray]
"""Columns of N rows by their names in D4RL's layout."""

STREAM_ROWS = 5_000  # five episodes of 1,000 steps
CHUNK_STREAMS = 5  # batches this small are multiplied on one thread, so the thread count cannot change a rounding


@dataclass(frozen=True)
class Chunk:
    """Streams of one policy that are rolled out together.

    Attributes:
        env_id: a Gymnasium id of a MuJoCo environment.
        actor: the policy.
        seed: of this chunk alone.
        streams: number of environments.
        stream_rows: rows after which a stream ends with its episode.
    """

    env_id: str
    actor: Actor
    seed: int
    streams: int
    stream_rows: int


def record(
    env_id: str, actors: Sequence[Actor], rows: int, seed: int, *, jobs: int = 1, progress: bool = False
) -> Columns:
    """Roll out policies one after another, each for an equal share of the rows, with their stochastic actions.

    As in D4RL's mixed sets, every policy but the last is cut at its last complete trajectory and the last fills up.

    Args:
        env_id: a Gymnasium id of a MuJoCo environment with a time limit.
        actors: the policies.
        rows: number of rows returned; at least one whole episode per policy.
        seed: the same seed gives the same rows, whatever ``jobs`` is.
        jobs: processes; with more than one, a script that calls this needs the ``__main__`` guard.
        progress: draw a bar.

    Returns:
        observations, next_observations ``(N, S)``, actions ``(N, A)``, rewards ``(N,)``, infos/qpos, infos/qvel
        float32; terminals, timeouts ``(N,)`` bool. On the time limit only ``timeouts`` is set, as in D4RL.
    """
    parts: list[Columns] = []
    most_chunks = len(_chunks(env_id, actors[-1], rows, 0))
    with (
        worker_map(min(jobs, most_chunks)) as run,
        tqdm(total=rows, unit="row", disable=not progress, desc=env_id, leave=False) as bar,
    ):
        for part, actor in enumerate(actors):
            missing = rows - sum(len(columns["rewards"]) for columns in parts)
            last = part == len(actors) - 1
            share = missing if last else rows // len(actors)
            chunks = _chunks(env_id, actor, share, derive_seed(seed, f"record policy {part}"))
            whole = joined(list(counted(run(roll_out, chunks), bar)))
            end = share if last else last_complete_row(whole, share)
            parts.append({key: column[:end] for key, column in whole.items()})
    return joined(parts)


def roll_out(chunk: Chunk) -> Columns:
    """Roll out the whole trajectories of a chunk; their rows stream after stream."""
    rng = np.random.default_rng(chunk.seed)
    stack = EnvStack(chunk.env_id, [int(seed) for seed in rng.integers(2**31, size=chunk.streams)])
    try:
        steps = list(_steps(stack, chunk, rng))
    finally:
        stack.close()
    columns = joined(steps)
    order = np.argsort(columns.pop("stream"), kind="stable")
    return {key: column[order] for key, column in columns.items()}


def _steps(stack: EnvStack, chunk: Chunk, rng: np.random.Generator) -> Iterator[Columns]:
    """Yield one small table per step, of the streams that are not yet done."""
    width = stack.envs[0].action_space.shape or ()
    taken = np.zeros(chunk.streams, dtype=np.int64)
    active = np.arange(chunk.streams)
    while len(active):
        # The batch keeps its size when streams end: another size may round differently.
        action = chunk.actor.act(stack.obs, rng.standard_normal((chunk.streams, *width), dtype=np.float32))[active]
        before = {"observations": stack.obs[active], "actions": action, **_simulator_states(stack, active)}
        reward, terminated, truncated = stack.step(action, active)
        yield {
            **before,
            "next_observations": stack.obs[active],
            "rewards": reward.astype(np.float32),
            "terminals": terminated & ~truncated,
            "timeouts": truncated,
            "stream": active,
        }
        taken[active] += 1
        ended = terminated | truncated
        done = ended & (taken[active] >= chunk.stream_rows)
        stack.reset(active[ended & ~done])
        active = active[~done]


def _simulator_states(stack: EnvStack, members: np.ndarray) -> Columns:
    data: list[Any] = [stack.envs[i].unwrapped.data for i in members]  # pyrefly: ignore[missing-attribute]
    return {f"infos/{name}": np.array([getattr(d, name) for d in data], dtype=np.float32) for name in ("qpos", "qvel")}


def _chunks(env_id: str, actor: Actor, rows: int, seed: int) -> list[Chunk]:
    streams = -(-rows // STREAM_ROWS)
    share = -(-rows // streams)
    sizes = [min(CHUNK_STREAMS, streams - first) for first in range(0, streams, CHUNK_STREAMS)]
    return [Chunk(env_id, actor, derive_seed(seed, f"chunk {i}"), size, share) for i, size in enumerate(sizes)]


def last_complete_row(columns: Columns, rows: int) -> int:
    """Find the end of the last complete trajectory within the first ``rows`` rows, 0 if there is none."""
    ends = np.flatnonzero((columns["terminals"] | columns["timeouts"])[:rows])
    return int(ends[-1]) + 1 if len(ends) else 0


@contextmanager
def worker_map(jobs: int) -> Iterator[Any]:
    """Yield a ``map`` over at most ``jobs`` processes, spawned because forking a threaded process is unsafe."""
    if jobs == 1:
        yield map
        return
    with Team[int](jobs) as team:
        yield team.map


def counted(results: Iterator[Columns], bar: tqdm) -> Iterator[Columns]:
    """Yield the chunks and count their rows in the progress bar."""
    for columns in results:
        bar.update(min(len(columns["rewards"]), bar.total - bar.n))
        yield columns


def joined(tables: Sequence[Columns]) -> Columns:
    """Join the rows of all tables into one."""
    return {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
