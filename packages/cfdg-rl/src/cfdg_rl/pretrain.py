"""The offline phase: gradient steps on the dataset alone."""

from __future__ import annotations

from collections.abc import Iterator

from cfdg_rl.mixing import OFFLINE, Pools, draw
from cfdg_rl.protocols import Learner, Metrics
from cfdg_rl.streams import Streams


def pretrain(
    agent: Learner, pools: Pools, streams: Streams, *, steps: int, batch_size: int, start: int = 0
) -> Iterator[tuple[int, Metrics]]:
    """Update an agent on offline batches; the caller logs and saves.

    Args:
        agent: any learner; ``fit_scaler`` is the caller's call.
        pools: only ``offline`` is read.
        streams: randomness of the draws, one stream per replica.
        steps: updates in all.
        batch_size: rows per replica and update.
        start: updates that a restored run has done already.

    Yields:
        The number of updates done, and the metrics ``(R,)`` of the last one.
    """
    for step in range(start + 1, steps + 1):
        agent.schedule((step - 1) / steps)
        yield step, agent.update(draw(pools, [(pools.offline, batch_size, OFFLINE)], streams))
