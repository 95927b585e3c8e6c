"""One contract for every agent: a new algorithm gets these tests by joining ``AGENTS``."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cfdg_rl.agents.apl import APL, APLSettings
from cfdg_rl.agents.iql import IQL, PEX_REPOSITORY
from cfdg_rl.agents.pex import PEX
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.collect import EnvCollector
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import FinetunePlan, finetune
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch, Bernoulli, Concatenated, Pools
from cfdg_rl.pretrain import pretrain
from cfdg_rl.protocols import Learner
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, row_width, to_rows

IQL_SMALL = replace(PEX_REPOSITORY, hidden=(32, 32), learning_rate=3e-3, online_learning_rate=3e-3)
APL_SMALL = APLSettings(hidden=(32, 32), learning_rate=3e-3, policy_learning_rate=3e-3, sampled_actions=4)
TD3BC_SMALL = TD3BCSettings(hidden=(32, 32), learning_rate=3e-3)


def make_iql(dims: tuple[int, int] = (3, 2), seeds: tuple[int, ...] = (0, 1), normalise: bool = False) -> IQL:
    return IQL(*dims, replace(IQL_SMALL, normalise_obs=normalise), seeds=seeds)


def make_pex(dims: tuple[int, int] = (3, 2), seeds: tuple[int, ...] = (0, 1), normalise: bool = False) -> PEX:
    return PEX(make_iql(dims, seeds, normalise))


def make_apl(dims: tuple[int, int] = (3, 2), seeds: tuple[int, ...] = (0, 1), normalise: bool = False) -> APL:
    return APL(*dims, replace(APL_SMALL, normalise_obs=normalise), seeds=seeds)


def make_td3_bc(dims: tuple[int, int] = (3, 2), seeds: tuple[int, ...] = (0, 1), normalise: bool = False) -> TD3BC:
    return TD3BC(*dims, replace(TD3BC_SMALL, normalise_obs=normalise), seeds=seeds)


def concatenated(seeds: tuple[int, ...]) -> Concatenated:
    return Concatenated(Streams(seeds, "batches"))


def bernoulli(seeds: tuple[int, ...]) -> Bernoulli:
    return Bernoulli(Streams(seeds, "batches"), gate=50)


AGENTS = [make_iql, make_pex, make_apl, make_td3_bc]
LABELS = {"offline": OFFLINE, "online": ONLINE, "mixed": None}

every_agent = pytest.mark.parametrize("make", AGENTS, ids=lambda make: make.__name__.removeprefix("make_"))
every_label = pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)


def batch(seed: int = 0, replicas: int = 2, label: int | None = None, size: int = 32) -> Batch:
    """Random transitions; without a label, offline and online rows alternate."""
    rng = torch.Generator().manual_seed(seed)
    data = Transitions(
        obs=torch.randn(replicas, size, 3, generator=rng),
        action=torch.rand(replicas, size, 2, generator=rng) * 2 - 1,
        reward=torch.randn(replicas, size, generator=rng),
        next_obs=torch.randn(replicas, size, 3, generator=rng),
        terminal=(torch.rand(replicas, size, generator=rng) < 0.2).float(),
    )
    mixed = torch.tensor([OFFLINE, ONLINE]).repeat(size // 2)
    return Batch(data, mixed if label is None else torch.full((size,), label), label)


def observations(envs: int, replicas: int = 2, seed: int = 9) -> torch.Tensor:
    return torch.randn(replicas, envs, 3, generator=torch.Generator().manual_seed(seed))


def only(whole: Batch, replica: int) -> Batch:
    return replace(whole, data=whole.data.map(lambda tensor: tensor[replica : replica + 1]))


def equal_states(first: Learner, second: Learner) -> bool:
    ours = first.state_dict()
    theirs = second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@every_agent
@pytest.mark.parametrize("envs", [1, 5])
@pytest.mark.parametrize("explore", [False, True])
def test_acts_in_bounds_for_every_replica_and_environment(make, envs, explore):
    agent = make()
    for scale in (1, 1000):
        action = agent.act(scale * observations(envs), explore)
        assert action.shape == (2, envs, 2)
        assert action.abs().max() <= 1
        assert action.isfinite().all()
        assert not action.requires_grad


@every_agent
def test_acting_changes_no_weight(make):
    agent = make()
    untouched = make()
    for explore in (False, True):
        agent.act(observations(5), explore)
    assert equal_states(agent, untouched)


@every_agent
def test_same_seed_same_bits(make):
    first = make(seeds=(0, 7))
    second = make(seeds=(0, 7))
    for step, label in enumerate([OFFLINE, ONLINE, None] * 3):
        for agent in (first, second):
            agent.update(batch(step, label=label))
        assert torch.equal(first.act(observations(5), True), second.act(observations(5), True))
    assert equal_states(first, second)


@every_agent
def test_other_seeds_other_weights_and_other_draws(make):
    agent = make(seeds=(0, 7))
    explored = agent.act(observations(1)[:1].expand(2, 5, -1), True)
    assert not torch.equal(explored[0], explored[1])
    weights = next(weight for name, weight in agent.policy.named_parameters() if "weights" in name)
    assert not torch.equal(weights[0], weights[1])


@every_agent
@every_label
def test_replicas_equal_separate_runs(make, label):
    seeds = (3, 1, 4)
    obs = observations(4, 3)
    together = make(seeds=seeds)
    alone = [make(seeds=(seed,)) for seed in seeds]
    for step in range(4):
        whole = batch(step, 3, label)
        metrics = together.update(whole)
        separate = [agent.update(only(whole, replica)) for replica, agent in enumerate(alone)]
    for name, value in metrics.items():
        assert torch.allclose(value, torch.cat([each[name] for each in separate]), rtol=1e-3, atol=1e-5), name
    for explore in (False, True):
        acted = torch.cat([agent.act(obs[r : r + 1], explore) for r, agent in enumerate(alone)])
        assert torch.allclose(together.act(obs, explore), acted, atol=1e-4)
    for name, stacked in together.named_parameters():  # (R, ...) or, with heads first, (H R, ...)
        own = torch.stack([dict(agent.named_parameters())[name] for agent in alone], -1)
        assert torch.allclose(stacked.unflatten(0, (-1, 3)).movedim(1, -1), own, atol=1e-5), name


def saved(agent: Learner) -> dict[str, object]:
    return {
        "weights": dict(agent.state_dict()),
        "optimisers": {name: optimiser.state_dict() for name, optimiser in agent.optimisers.items()},
        "streams": {name: streams.state() for name, streams in agent.streams.items()},
    }


def restore(agent: Learner, state: dict[str, dict]) -> None:
    agent.load_state_dict(state["weights"])
    for name, optimiser in agent.optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
    for name, streams in agent.streams.items():
        streams.restore(state["streams"][name])


@every_agent
@pytest.mark.parametrize("updates", [3, 4])
def test_a_saved_agent_continues_bit_for_bit(make, updates, tmp_path):
    """Weights, targets, moments, counters and every random stream; the copy begins with other seeds."""
    agent = make(normalise=True)
    copy = make(seeds=(8, 9), normalise=True)
    for step in range(updates):
        agent.update(batch(step))
        agent.act(observations(3), True)
        agent.act(observations(3), False)
    save_checkpoint(tmp_path / "agent", saved(agent))
    restore(copy, load_checkpoint(tmp_path / "agent"))
    for step in range(3):
        for explore in (True, False):
            assert torch.equal(agent.act(observations(3), explore), copy.act(observations(3), explore))
        ours, theirs = (each.update(batch(100 + step, label=step % 2)) for each in (agent, copy))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert equal_states(agent, copy)


WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "repeat_interleave", "equal", "allclose"),
    *("_unique2", "unique_dim", "unique_consecutive", "lift_fresh"),
}


class NoHostSync(TorchDispatchMode):
    """Raises on operators whose result or shape the host has to wait for, and on tensors made of host data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name.startswith(("index", "_index_put")) and isinstance(args[1], (list, tuple)) else ()
        mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if mask or name in WAITING:
            raise AssertionError(f"{func} synchronises the host")
        return func(*args, **(kwargs or {}))


def assign(x: torch.Tensor) -> None:
    x[x > 0] = 0.0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: x[x > 0],
        assign,
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x + 1),
        lambda x: x + torch.tensor([1.0, 2.0]),
    ],
)
def test_the_detector_of_host_syncs_can_fail(function):
    with pytest.raises(AssertionError, match="synchronises the host"), NoHostSync():
        function(torch.linspace(-1, 1, 2))


@every_agent
@every_label
def test_updates_never_wait_for_the_device(make, label):
    agent = make()
    batches = [batch(step, label=label) for step in range(2)]
    with NoHostSync():
        for each in batches:
            agent.update(each)


@every_agent
@every_label
def test_metrics_are_one_detached_finite_number_per_replica(make, label):
    agent = make(seeds=(0, 1, 2))
    names = set()
    for step in range(4):
        for name, value in agent.update(batch(step, 3, label)).items():
            assert value.shape == (3,), name
            assert value.isfinite().all(), name
            assert not value.requires_grad, name
            names.add(name)
    assert {"loss/critic", "loss/policy"} <= names


@every_agent
def test_gradients_lie_in_memory_as_their_weights(make):
    """Torch's fused Adam on the CPU reads both in memory order, whatever the strides say."""
    agent = make()
    for label in (OFFLINE, ONLINE):
        agent.update(batch(label=label))
    for optimiser in agent.optimisers.values():
        for group in optimiser.param_groups:
            assert all(weight.is_contiguous() and weight.grad.is_contiguous() for weight in group["params"])


@every_agent
def test_terminal_states_do_not_bootstrap(make):
    """Online rows: APL's conservative term for offline rows proposes actions from the next state, ended or not."""

    def critics(terminal: float, seed: int) -> list[torch.Tensor]:
        agent = make()
        whole = batch(label=ONLINE)
        data = replace(whole.data, terminal=torch.full((2, 32), terminal), next_obs=batch(seed).data.next_obs)
        agent.update(replace(whole, data=data))
        return list(getattr(agent, "iql", agent).critics.parameters())

    def moved(terminal: float) -> bool:
        pairs = zip(critics(terminal, 1), critics(terminal, 2), strict=True)
        return not all(torch.equal(a, b) for a, b in pairs)

    assert not moved(1.0)
    assert moved(0.0)


@every_agent
def test_observations_are_standardised_where_settings_ask_for_it(make):
    """An agent that saw the data acts and learns on shifted and scaled observations as another on plain ones."""
    plain = make()
    shifted = make(normalise=True)
    centre = torch.tensor([5.0, -3.0, 100.0])
    spread = torch.tensor([0.5, 2.0, 30.0])
    scale = getattr(shifted, "iql", shifted).scale
    unit = torch.randn(4000, 3, dtype=torch.float64)
    unit = ((unit - unit.mean(0)) / unit.std(0, correction=0)).float()
    getattr(shifted, "iql", shifted).fit_scaler(centre + (spread - 1e-3) * unit)  # the deviation gets 1e-3 added
    assert torch.allclose(scale.std, spread, rtol=1e-4)
    for step in range(2):
        whole = batch(step)
        moved = replace(
            whole.data, obs=centre + spread * whole.data.obs, next_obs=centre + spread * whole.data.next_obs
        )
        first = plain.update(whole)
        second = shifted.update(replace(whole, data=moved))
        assert torch.allclose(first["loss/critic"], second["loss/critic"], rtol=1e-3)
    acted = shifted.act(centre + spread * observations(5), False)
    assert torch.allclose(plain.act(observations(5), False), acted, atol=0.01)


def point_data(count: int = 3000) -> Transitions:
    """The point environment under random actions."""
    rng = torch.Generator().manual_seed(0)
    obs = torch.rand(count, 1, generator=rng) * 3.6 - 1.8
    action = torch.rand(count, 1, generator=rng) * 2 - 1
    after = obs + 0.4 * action
    return Transitions(obs, action, -after.abs()[:, 0], after, (after.abs()[:, 0] > 2).float())


@every_agent
@pytest.mark.parametrize("make_mixer", [concatenated, bernoulli], ids=lambda make: make.__name__)
def test_learns_to_push_a_point_to_the_origin(make, make_mixer, point):
    """From random weights: standing still loses 15 an episode, running away more, the shortest way about 1.

    PEX expands an untrained policy here, so its fresh policy has to learn it all.
    """
    seeds = (0, 1)
    plan = FinetunePlan(steps=250, refresh_every=250, warm_up=20, batch_size=64)
    agent = make((1, 1), seeds)
    evaluator = Evaluator(point, seeds, episodes=10)
    rings = [Ring(2, size, row_width(1, 1)) for size in (plan.steps, 1, 1)]
    pools = Pools(FixedRows(to_rows(point_data())), *rings, 1, 1)
    before = evaluator.returns(agent)
    agent.fit_scaler(point_data().obs)
    for _ in pretrain(agent, pools, Streams(seeds, "pre"), steps=350, batch_size=64):
        pass
    agent.go_online()
    for _ in finetune(agent, EnvCollector(point, seeds, RewardMap()), pools, make_mixer(seeds), None, plan=plan):
        pass
    assert before.mean(1).max() < -9
    assert evaluator.returns(agent).mean(1).min() > -6
