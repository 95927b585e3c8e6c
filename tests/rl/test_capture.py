"""Captured updates: what is recorded when, replays against eager updates, and what drops the graphs.

The CPU has no graphs, so a tape stands in for them: it records the operators of an update with the tensors that they
read and wrote, undoes the update, and replays those operators and no Python. What a CUDA graph would get wrong (a
number that the host computed anew for every update, a tensor that moved) the tape gets wrong as well.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cfdg_rl.agents.apl import APL, APLSettings
from cfdg_rl.agents.capture import WARM_UP, Captured, CUDARecorder, make_capturable, phase
from cfdg_rl.agents.iql import IQL, PEX_REPOSITORY
from cfdg_rl.agents.pex import PEX
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch
from cfdg_rl.protocols import Learner
from cfdg_rl.transitions import Transitions

IQL_SMALL = replace(PEX_REPOSITORY, hidden=(16, 16), normalise_obs=True)
SEEDS = (0, 7)


def make_iql(device: str = "cpu") -> IQL:
    return IQL(3, 2, IQL_SMALL, seeds=SEEDS, device=device)


def make_pex(device: str = "cpu") -> PEX:
    return PEX(make_iql(device))


def make_apl(device: str = "cpu") -> APL:
    return APL(3, 2, APLSettings(hidden=(16, 16), sampled_actions=4), seeds=SEEDS, device=device)


def make_td3_bc(device: str = "cpu") -> TD3BC:
    return TD3BC(3, 2, TD3BCSettings(hidden=(16, 16)), seeds=SEEDS, device=device)


every_agent = pytest.mark.parametrize(
    "make", [make_iql, make_pex, make_apl, make_td3_bc], ids=lambda make: make.__name__.removeprefix("make_")
)


def batch(seed: int = 0, label: int | None = None, size: int = 32, device: str = "cpu") -> Batch:
    """Random transitions; without a label every row has a random one."""
    rng = torch.Generator().manual_seed(seed)
    data = Transitions(
        obs=torch.randn(2, size, 3, generator=rng),
        action=torch.rand(2, size, 2, generator=rng) * 2 - 1,
        reward=torch.randn(2, size, generator=rng),
        next_obs=torch.randn(2, size, 3, generator=rng),
        terminal=(torch.rand(2, size, generator=rng) < 0.2).float(),
    ).map(lambda tensor: tensor.to(device))
    mixed = torch.randint(2, (size,), generator=rng)
    return Batch(data, (mixed if label is None else torch.full((size,), label)).to(device), label)


def tensors_of(agent: Learner) -> list[Tensor]:
    """All that an update writes and a graph may find again: weights, buffers and moments."""
    moments = [optimiser.state.values() for optimiser in agent.optimisers.values()]
    return [*agent.parameters(), *agent.buffers(), *(leaf for states in moments for leaf in tree_leaves(list(states)))]


class Tape(TorchDispatchMode):
    """A graph for the CPU: operators and their tensors, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[Callable, tuple, dict, object]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self.operators:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # not a view, not in place
                    old.copy_(new)


class TapeRecorder:
    """Records tapes; as a capture does, it runs the Python of an update and leaves weights and generators alone."""

    def __init__(self, agent: Learner) -> None:
        self.agent = agent
        self.calls = []

    def warm_up(self, work: Callable):
        self.calls.append("warm-up")
        return work()

    def record(self, work: Callable[[], Tensor], generators: Iterable[torch.Generator]) -> tuple[Tape, Tensor]:
        self.calls.append("record")
        live = tensors_of(self.agent)
        generators = list(generators)
        tape = Tape()
        before = [tensor.clone() for tensor in live]
        states = [generator.get_state() for generator in generators]
        with tape:
            result = work()
        with torch.no_grad():
            for tensor, value in zip(live, before, strict=True):
                tensor.copy_(value)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        result.fill_(torch.nan)  # nothing has been computed yet
        return tape, result

    def forget(self) -> None:
        self.calls.append("forget")


def with_rate_tensors(agent: Learner) -> Learner:
    """An agent whose rates are float32 numbers, as a GPU's are and a captured one's."""
    for optimiser in agent.optimisers.values():
        make_capturable(optimiser)
    return agent


def on_tape(agent: Learner) -> Captured:
    return Captured(agent, TapeRecorder(agent))


def whole_state(agent: Learner) -> list[Tensor]:
    """Weights, counters, moments, learning rates and random streams."""
    optimisers = [optimiser.state_dict() for optimiser in agent.optimisers.values()]
    rates = [group["lr"] for state in optimisers for group in state["param_groups"]]
    streams = [streams.state() for streams in agent.streams.values()]
    leaves = tree_leaves([dict(agent.state_dict()), [state["state"] for state in optimisers], rates, streams])
    return [torch.as_tensor(leaf, dtype=None if isinstance(leaf, Tensor) else torch.float32) for leaf in leaves]


def assert_equal(first: Learner, second: Learner) -> None:
    pairs = zip(whole_state(first), whole_state(second), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@every_agent
def test_replays_equal_eager_updates_bit_for_bit(make):
    """Through all labels, changing rates, explored actions in between, and the end of the offline phase."""
    eager = make()
    agent = make()
    captured = on_tape(agent)
    rows = torch.randn(100, 3)
    for learner in (eager, captured):
        learner.fit_scaler(rows)
    for _ in ("offline", "online"):
        with_rate_tensors(eager)
        for step in range(24):
            label = (OFFLINE, ONLINE, None)[step % 3]
            metrics = []
            for learner in (eager, captured):
                learner.schedule(step / 24)
                metrics.append(learner.update(batch(step, label)))
                learner.act(torch.ones(2, 4, 3), explore=True)
            ours, theirs = metrics
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
            assert_equal(eager, captured)
        for learner in (eager, captured):
            learner.go_online()
    assert captured.recorder.calls.count("record") >= (6 if make is make_td3_bc else 3)


@every_agent
def test_a_restored_agent_continues_with_new_graphs(make):
    """Whatever is loaded through it or behind its back, as checkpoints are."""
    eager = make()
    agent = make()
    captured = on_tape(agent)
    for step in range(9):
        eager.update(batch(step))
        captured.update(batch(100 + step))
    captured.load_state_dict(eager.state_dict())
    assert not captured.recordings
    for name, optimiser in captured.optimisers.items():
        optimiser.load_state_dict(copy.deepcopy(eager.optimisers[name].state_dict()))
        assert isinstance(optimiser.param_groups[0]["lr"], float)  # as an agent on the CPU saves it
    for name, streams in captured.streams.items():
        streams.restore(eager.streams[name].state())
    with_rate_tensors(eager)
    for step in range(9):
        eager.update(batch(step))
        captured.update(batch(step))
    assert_equal(eager, captured)


def test_the_tape_repeats_what_the_host_decided_while_recording():
    """A number from the host is frozen on the tape as in a CUDA graph, so the tests above can fail."""
    x = torch.zeros(3)
    numbers = iter([1.0, 2.0, 3.0])
    tape = Tape()
    with tape:
        x.add_(next(numbers))
    x.add_(next(numbers))
    tape.replay()
    assert x.tolist() == [4.0] * 3


def test_eager_then_recorded_then_replayed_in_that_order():
    captured = on_tape(make_iql())
    calls = captured.recorder.calls
    for step in range(WARM_UP):
        captured.update(batch(step))
    assert calls == ["forget"] + ["warm-up"] * WARM_UP
    for step in range(5):
        captured.update(batch(step))
    assert calls[1 + WARM_UP :] == ["record"]


class Spy:
    """A graph that notes the batch in its memory whenever it is replayed."""

    def __init__(self) -> None:
        self.captured = None
        self.seen = []

    def replay(self) -> None:
        (recording,) = self.captured.recordings.values()
        self.seen.append((recording.batch, recording.batch.data.map(torch.clone), recording.batch.labels.clone()))


class SpyRecorder(TapeRecorder):
    """Hands out the spy, and notes the generators."""

    def __init__(self, agent: Learner) -> None:
        super().__init__(agent)
        self.spy = Spy()
        self.generators = []

    def record(self, work, generators):
        self.generators = list(generators)
        return self.spy, work()


def test_every_replay_finds_its_own_batch_in_the_same_memory():
    agent = make_pex()
    captured = Captured(agent, recorder := SpyRecorder(agent))
    recorder.spy.captured = captured
    batches = [batch(step) for step in range(WARM_UP + 4)]
    for each in batches:
        captured.update(each)
    assert len(recorder.spy.seen) == 4
    for given, (static, data, labels) in zip(batches[WARM_UP:], recorder.spy.seen, strict=True):
        assert static is recorder.spy.seen[0][0]
        assert static.data.obs.data_ptr() not in {each.data.obs.data_ptr() for each in batches}
        assert labels.equal(given.labels)
        pairs = zip(tree_leaves(vars_of(data)), tree_leaves(vars_of(given.data)), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def vars_of(data: Transitions) -> list[Tensor]:
    return [getattr(data, name) for name in data.__slots__]


def test_a_recorder_learns_of_every_generator():
    agent = make_pex()
    captured = Captured(agent, recorder := SpyRecorder(agent))
    recorder.spy.captured = captured
    for step in range(WARM_UP + 1):
        captured.update(batch(step))
    assert recorder.generators == [g for streams in agent.streams.values() for g in streams.generators]
    assert len(recorder.generators) == 4 * len(SEEDS)


def test_metrics_stay_as_they_were_when_the_next_update_comes():
    captured = on_tape(make_iql())
    metrics = [captured.update(batch(step)) for step in range(WARM_UP + 3)]
    assert len({metric["loss/critic"].sum().item() for metric in metrics}) == len(metrics)


def test_every_label_shape_and_phase_has_a_graph_of_its_own():
    captured = on_tape(make_td3_bc())
    cases = [(label, size) for label in (OFFLINE, ONLINE, None) for size in (8, 16)]
    for step in range(2 * (WARM_UP + 2)):
        for label, size in cases:
            for _ in range(2 if step else 3):  # both phases of each case, whatever came before
                captured.update(batch(step, label, size))
    keys = set(captured.recordings)
    assert len(keys) == 2 * len(cases)
    assert {captured.recordings[key].batch.label for key in keys} == {OFFLINE, ONLINE, None}
    for key, recording in captured.recordings.items():
        assert ("loss/policy" in recording.names) == (key[-1] == 1)


def test_the_phase_is_that_of_the_delay():
    agent = make_td3_bc()
    agent.updates = 5
    assert phase(agent) == 1
    agent.settings = replace(agent.settings, policy_delay=3)
    assert phase(agent) == 2
    assert phase(make_iql()) == phase(make_pex()) == 0


def test_replays_advance_the_counter_of_the_delay():
    captured = on_tape(make_td3_bc())
    for step in range(11):
        captured.update(batch(step))
        assert captured.agent.updates == step + 1
    assert int(captured.state_dict()["_extra_state"]) == 11


@pytest.mark.parametrize("drops", [True, False])
def test_graphs_are_dropped_when_optimisers_are_replaced(drops):
    """Also when the agent goes online behind the wrapper's back; acting and rates leave the graphs alone."""
    captured = on_tape(make_iql())
    for step in range(WARM_UP + 2):
        captured.update(batch(step))
    captured.recorder.calls.clear()
    if drops:
        captured.agent.go_online()
    captured.schedule(0.3)
    captured.act(torch.ones(2, 1, 3), explore=True)
    for step in range(WARM_UP + 2):
        captured.update(batch(step))
    assert captured.recorder.calls == (["forget", *["warm-up"] * WARM_UP, "record"] if drops else [])
    assert captured.optimisers is captured.agent.optimisers


def test_it_is_the_agent_but_for_the_update():
    agent = make_iql()
    captured = on_tape(agent)
    same = make_iql()
    assert captured.streams is agent.streams
    assert captured.optimisers is agent.optimisers
    rows = torch.randn(50, 3)
    obs = torch.randn(2, 4, 3)
    for learner in (captured, same):
        learner.fit_scaler(rows)
        learner.schedule(0.25)
    for explore in (True, False):
        assert torch.equal(captured.act(obs, explore), same.act(obs, explore))
    assert_equal(captured, same)
    assert captured.state_dict().keys() == agent.state_dict().keys()
    captured.go_online()
    assert captured.optimisers is agent.optimisers
    assert agent.optimisers["policy"].param_groups[0]["lr"] == IQL_SMALL.online_learning_rate


def test_an_agent_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match="the agent is on device 'cpu', expected a CUDA device"):
        Captured(make_iql())


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none")


@needs_gpu
@pytest.mark.filterwarnings("ignore:.*capturable=True")  # the eager twin is not going to be captured
@every_agent
def test_cuda_graphs_equal_eager_updates(make):
    """Up to the rounding of matrix products, with the same random draws."""
    eager = make("cuda")
    captured = Captured(make("cuda"))
    for _ in ("offline", "online"):
        for step in range(24):
            label = (OFFLINE, ONLINE, None)[step % 3]
            metrics = []
            for learner in (eager, captured):
                learner.schedule(step / 24)
                metrics.append(learner.update(batch(step, label, device="cuda")))
            for name, value in metrics[0].items():
                assert torch.allclose(value, metrics[1][name], rtol=1e-3, atol=1e-5), name
            for ours, theirs in zip(whole_state(eager), whole_state(captured), strict=True):
                assert torch.allclose(ours.double(), theirs.double(), rtol=1e-3, atol=1e-5)
        for learner in (eager, captured):
            learner.go_online()
    assert isinstance(captured.recorder, CUDARecorder)
    assert all(isinstance(recording.graph, torch.cuda.CUDAGraph) for recording in captured.recordings.values())
    assert captured.recordings
