"""What the loop needs of its parts; anything with these methods fits, nothing has to be inherited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.optim import Adam

from cfdg_rl.mixing import Batch, Pools
from cfdg_rl.streams import Streams

Metrics = Mapping[str, Tensor]  # name -> (R,), one value per replica, detached


class Agent(Protocol):
    """A learner with a replica axis."""

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Actions ``(R, E, A)`` in [-1, 1] for observations ``(R, E, S)``."""
        ...

    def update(self, batch: Batch) -> Metrics:
        """One gradient step on a batch ``(R, B)``."""
        ...


class Learner(Agent, Protocol):
    """An agent with what pre-training, fine-tuning and checkpoints need besides; IQL, PEX, APL and TD3BC are ones.

    All that changes is in ``state_dict()`` (it is a module), ``optimisers`` and ``streams``.
    """

    optimisers: dict[str, Adam]
    streams: dict[str, Streams]

    def fit_scaler(self, obs: Tensor) -> None:
        """Look at the offline observations ``(N, S)`` once, before the first update."""
        ...

    def schedule(self, progress: float) -> None:
        """Set the learning rates of the offline phase, of which ``progress`` in [0, 1) is done."""
        ...

    def go_online(self) -> None:
        """End the offline phase."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and counters."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """The inverse of ``state_dict``."""
        ...


class Generator(Protocol):
    """A model of labelled rows; ``cfdg_diffusion.ConditionalDiffusion`` is one."""

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Learn rows ``(R, N, D)`` with integer labels ``(R, N)``."""
        ...

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` for each label ``(R, n)``."""
        ...


class Mixer(Protocol):
    """Decides what a batch is made of."""

    def __call__(self, pools: Pools, batch_size: int) -> Batch:
        """Draw one batch."""
        ...


class Collector(Protocol):
    """Steps the training environments."""

    def step(self, agent: Agent) -> Tensor:
        """Take one step in every environment; rows ``(R, E, D)`` in the learner's reward units."""
        ...

    def restart(self) -> None:
        """Abandon the episodes under way and begin new ones."""
        ...
