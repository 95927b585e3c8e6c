"""The offline phase: gradient steps on the dataset alone."""

from __future__ import annotations

from collections.abc import Iterator

from cfdg_rl.mixing import OFFLINE, Pools, draw
from cfdg_rl.protocols import Learner, Metrics
from cfdg_rl.streams import Streams


def pretrain(
    agent: Learner, pools: Pools, streams: Streams, *, steps: int, batch_size: int, start: int = 0
) -> Iterator[tuple[int, Metrics]]:
    """Yield ``(step, metrics)`` after each of ``steps`` updates on offline batches; nothing is logged or saved here.

    ``start`` continues a run that was restored after that many updates.
    """
    for step in range(start + 1, steps + 1):
        agent.schedule((step - 1) / steps)
        yield step, agent.update(draw(pools, [(pools.offline, batch_size, OFFLINE)], streams))
