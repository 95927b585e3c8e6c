"""Updates as CUDA graphs: the launches of one gradient step are recorded once and replayed as a whole.

A small network leaves a GPU waiting for the host to launch its kernels. A graph launches them all at once, and changes
nothing in the algorithm: agents need no code for it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Adam

from cfdg_rl.mixing import Batch
from cfdg_rl.protocols import Learner, Metrics

WARM_UP = 3  # eager updates before a capture, as in torch.cuda.make_graphed_callables

Result = TypeVar("Result")


class Graph(Protocol):
    """A recorded update; ``torch.cuda.CUDAGraph`` is one."""

    def replay(self) -> None:
        """Run the recorded update again, on the present content of the same memory."""
        ...


@runtime_checkable
class Delayed(Protocol):
    """An agent that does more at every ``settings.policy_delay``-th of the ``updates`` that it counts; TD3BC is one."""

    updates: int
    settings: Any


class Recorder(Protocol):
    """Records updates as graphs."""

    def warm_up(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` as it will be recorded, with what it allocates for good and initialises lazily."""
        ...

    def record(self, work: Callable[[], Tensor], generators: Iterable[torch.Generator]) -> tuple[Graph, Tensor]:
        """Record ``work``, which draws from ``generators``, without executing it; the tensor is its static result."""
        ...

    def forget(self) -> None:
        """Release the graphs recorded so far; they will not be replayed again."""
        ...


class CUDARecorder:
    """Recorder on a side stream of one GPU, into one memory pool.

    Graphs that share a pool may overwrite each other's results, so a result has to be read before the next replay.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.forget()

    def warm_up(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` eagerly on the side stream, in order with the caller's stream."""
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True", category=UserWarning)  # it is about to be
            result = work()
        here.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Tensor], generators: Iterable[torch.Generator]) -> tuple[Graph, Tensor]:
        """Capture ``work``; every replay advances the generators as an eager run would."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            result = work()
        return graph, result

    def forget(self) -> None:
        """Begin a new memory pool: the old one ends with its last graph."""
        self.pool = torch.cuda.graph_pool_handle()


@dataclass(frozen=True)
class Recording:
    """A graph, the batch that it reads, and the metrics ``(M, R)`` that every replay writes."""

    graph: Graph
    batch: Batch
    names: tuple[str, ...]
    values: Tensor


class Captured:
    """A learner whose updates are replayed as CUDA graphs; a :class:`~cfdg_rl.protocols.Learner` like its agent.

    There is one graph for each key (:meth:`key`), recorded after ``WARM_UP`` eager updates; a batch size that varies
    would fill the memory with graphs. New optimisers and loaded states drop the graphs, the next updates record others.
    Learning rates and random streams may change in between. Acting is not captured.

    Replays equal eager updates, up to the rounding of matrix products. The test that asserts this of CUDA graphs needs
    a GPU and is skipped without one; the same is asserted everywhere with a recorder that replays on the CPU.

    Args:
        agent: an IQL, PEX, APL or TD3BC, or any learner whose update branches on nothing but the key.
        recorder: what records and replays, None for CUDA graphs.

    Raises:
        ValueError: if the agent is not on a CUDA device and no other recorder is given.
    """

    def __init__(self, agent: Learner, recorder: Recorder | None = None) -> None:
        device = next(iter(agent.streams.values())).device
        if recorder is None and device.type != "cuda":
            raise ValueError(f"the agent is on device {str(device)!r}, expected a CUDA device for CUDA graphs")
        self.agent = agent
        self.streams = agent.streams
        self.optimisers = agent.optimisers
        self.recorder: Recorder = recorder or CUDARecorder(device)
        self.recordings: dict[Hashable, Recording] = {}
        self.warm_ups: Counter[Hashable] = Counter()
        self.watched: list[list[dict[str, Any]]] = []

    def key(self, batch: Batch) -> Hashable:
        """Return all that the host branches on: the batch's label and shapes, and the phase of the agent's delay."""
        return batch.label, batch.data.obs.shape, batch.data.action.shape, phase(self.agent)

    def update(self, batch: Batch) -> Metrics:
        """Take one gradient step on a batch ``(R, B)``: eager at first, then recorded, then replayed."""
        self._watch()
        key = self.key(batch)
        recording = self.recordings.get(key)
        if recording is None and self.warm_ups[key] < WARM_UP:
            self.warm_ups[key] += 1
            return self.recorder.warm_up(lambda: self.agent.update(batch))
        if recording is None:
            recording = self.recordings[key] = self._record(batch)
        else:
            overwrite(recording.batch, batch)
            count_update(self.agent)
        recording.graph.replay()
        return dict(zip(recording.names, recording.values.clone(), strict=True))  # the next replay overwrites them

    def _record(self, batch: Batch) -> Recording:
        """Record an update on a copy of the batch; it is executed by the first replay, but the agent has counted it."""
        static = Batch(batch.data.map(torch.clone), batch.labels.clone(), batch.label)
        names: list[str] = []

        def work() -> Tensor:
            metrics = self.agent.update(static)
            names.extend(metrics)
            return torch.stack(list(metrics.values()))

        generators = [generator for streams in self.streams.values() for generator in streams.generators]
        graph, values = self.recorder.record(work, generators)
        return Recording(graph, static, tuple(names), values)

    def _watch(self) -> None:
        """Drop the graphs when the optimisers are no longer those that they step, or hold loaded tensors."""
        self.optimisers = self.agent.optimisers
        groups = [optimiser.param_groups for optimiser in self.optimisers.values()]  # new lists after a load
        if len(groups) == len(self.watched) and all(old is new for old, new in zip(self.watched, groups, strict=True)):
            return
        self.drop()
        self.watched = groups
        for optimiser in self.optimisers.values():
            make_capturable(optimiser)

    def drop(self) -> None:
        """Forget all graphs, because what they step is no longer in the memory that they know."""
        self.recordings.clear()
        self.warm_ups.clear()
        self.recorder.forget()

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """Return the agent's actions ``(R, E, A)`` for ``(R, E, S)``."""
        return self.agent.act(obs, explore)

    def fit_scaler(self, obs: Tensor) -> None:
        """Take the statistics of the offline observations ``(N, S)``."""
        self.agent.fit_scaler(obs)

    def schedule(self, progress: float) -> None:
        """Set the agent's learning rates, which the graphs read from memory."""
        self.agent.schedule(progress)

    def go_online(self) -> None:
        """End the agent's offline phase; where that means new optimisers, the graphs end too."""
        self.agent.go_online()
        self.optimisers = self.agent.optimisers

    def state_dict(self) -> dict[str, Tensor]:
        """Return the agent's weights and counters."""
        return self.agent.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object:
        """Load weights and counters, and drop the graphs."""
        self.drop()
        return self.agent.load_state_dict(state_dict)


def phase(agent: object) -> int:
    """Return a :class:`Delayed` agent's updates since its last delayed step, 0 for others."""
    return agent.updates % agent.settings.policy_delay if isinstance(agent, Delayed) else 0


def count_update(agent: object) -> None:
    """Advance the counter of a :class:`Delayed` agent: a replay runs none of its Python."""
    if isinstance(agent, Delayed):
        agent.updates += 1


def overwrite(static: Batch, batch: Batch) -> None:
    """Copy a batch into the tensors of another one of the same shapes."""
    pairs = [(getattr(static.data, name), getattr(batch.data, name)) for name in static.data.__slots__]
    for old, new in [*pairs, (static.labels, batch.labels)]:
        old.copy_(new)


def make_capturable(optimiser: Adam) -> None:
    """Hold learning rate and step counters on the parameters' device, also after loading what a CPU saved."""
    for group in optimiser.param_groups:
        group["capturable"] = True
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(group["params"][0].device)
    _move_steps(optimiser)


def make_eager(optimiser: Adam) -> None:
    """Hold the learning rate on the host, also after loading what a captured learner saved."""
    for group in optimiser.param_groups:
        group["capturable"] = False
        group["lr"] = float(group["lr"])
    _move_steps(optimiser)


def _move_steps(optimiser: Adam) -> None:
    """Move the step counters to where a fused Adam expects them, beside their parameters."""
    for parameter, state in optimiser.state.items():
        state["step"] = state["step"].to(parameter.device)
