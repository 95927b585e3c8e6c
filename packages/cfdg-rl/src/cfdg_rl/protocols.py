"""Interfaces of the parts of the loop; any object with these methods fits, without inheritance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.optim import Adam

from cfdg_rl.mixing import Batch, Pools
from cfdg_rl.streams import Streams

Parts = Sequence[tuple[Tensor, int]]  # rows (N, D) or (R, N, D) with their label
Metrics = Mapping[str, Tensor]  # name -> (R,), one value per replica, detached


class Agent(Protocol):
    """A learner with a replica axis."""

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Choose actions ``(R, E, A)`` in [-1, 1] for observations ``(R, E, S)``."""
        ...

    def update(self, batch: Batch) -> Metrics:
        """Take one gradient step on a batch ``(R, B)``; metrics ``(R,)``."""
        ...


class Learner(Agent, Protocol):
    """An agent with the further methods of pre-training, fine-tuning and checkpoints, such as IQL, PEX, APL and TD3BC.

    Its whole state is in ``state_dict()``, ``optimisers`` and ``streams``.
    """

    optimisers: dict[str, Adam]
    streams: dict[str, Streams]

    def fit_scaler(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``, once, before the first update."""
        ...

    def schedule(self, progress: float) -> None:
        """Set the learning rates of the offline phase, of which ``progress`` in [0, 1) is done."""
        ...

    def go_online(self) -> None:
        """End the offline phase."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return weights and counters."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Restore what ``state_dict`` returned."""
        ...


class Generator(Protocol):
    """A model of labelled rows, as ``cfdg_diffusion.ConditionalDiffusion``; see :func:`cfdg_rl.check_generator`."""

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Learn float32 rows ``(R, N, D)`` with int64 labels ``(R, N)``, 0 offline and 1 online, each replica apart."""
        ...

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one float32 row ``(R, n, D)`` for each label ``(R, n)``."""
        ...


@runtime_checkable
class PartsGenerator(Protocol):
    """A generator that can be fitted on parts as they are stored, without a copy of every row for every replica."""

    def fit_parts(self, parts: Parts) -> object:
        """Learn rows ``(N, D)``, shared by all replicas, or ``(R, N, D)``, each part with its one label."""
        ...


class Mixer(Protocol):
    """Composes training batches."""

    def __call__(self, pools: Pools, batch_size: int) -> Batch:
        """Draw one batch of ``batch_size`` rows per replica."""
        ...


class Collector(Protocol):
    """Steps the training environments."""

    def step(self, agent: Agent) -> Tensor:
        """Take one step in every environment; rows ``(R, E, D)`` in the learner's reward units."""
        ...

    def restart(self) -> None:
        """Begin new episodes everywhere, also where one is unfinished."""
        ...
