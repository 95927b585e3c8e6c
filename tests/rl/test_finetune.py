"""Algorithm 1: when it refreshes, what it fits on, what it stores, and that it learns."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_rl.agents.iql import IQL, OFFICIAL
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.collect import EnvCollector
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import FinetunePlan, bounds, finetune, keep_valid, refresh, snap
from cfdg_rl.mixing import OFFLINE, ONLINE, Concatenated, Pools
from cfdg_rl.pretrain import pretrain
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, row_width, to_rows

SEEDS = (0, 1)
COLUMNS = row_width(1, 1)
SETTINGS = replace(OFFICIAL, inverse_temperature=10.0, hidden=(32, 32), learning_rate=3e-3, reward="raw")


class Resampler:
    """A generator that remembers what it was fitted on and hands out rows of the asked class again."""

    def __init__(self, spoil: float = 0.0) -> None:
        self.fits = []
        self.spoil = spoil
        self.rng = torch.Generator().manual_seed(0)

    def fit(self, rows, labels):
        self.rows = rows.clone()
        self.labels = labels.clone()
        self.fits.append((rows.shape, [int((labels[0] == label).sum()) for label in (OFFLINE, ONLINE)]))

    def sample(self, labels):
        out = torch.empty(*labels.shape, self.rows.shape[-1])
        for r in range(len(labels)):
            for label in (OFFLINE, ONLINE):
                own = self.rows[r][self.labels[r] == label]
                where = labels[r] == label
                out[r, where] = own[torch.randint(len(own), (int(where.sum()),), generator=self.rng)]
        spoilt = torch.rand(labels.shape, generator=self.rng) < self.spoil
        out[spoilt] = float("nan")
        return out


def random_data(count: int = 2000, seed: int = 0) -> Transitions:
    """Transitions of the point environment under random actions."""
    rng = torch.Generator().manual_seed(seed)
    obs = torch.rand(count, 1, generator=rng) * 3.6 - 1.8
    action = torch.rand(count, 1, generator=rng) * 2 - 1
    after = obs + 0.4 * action
    return Transitions(obs, action, -after.abs()[:, 0], after, (after.abs()[:, 0] > 2).float())


class Diary:
    """An agent, a collector and a mixer that write down when they are called; row t carries the number t."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.steps = 0

    def restart(self) -> None:
        self.calls.append("restart")

    def step(self, agent) -> torch.Tensor:
        self.calls.append("step")
        self.steps += 1
        return torch.full((len(SEEDS), 1, COLUMNS), float(self.steps))

    def update(self, batch):
        self.calls.append("update")
        return {"loss/value": torch.zeros(len(SEEDS))}

    def mix(self, pools, batch_size):
        return batch_size


def diary(plan: FinetunePlan, start: int = 0, generator=None) -> Diary:
    log = Diary()
    for _ in finetune(log, log, make_pools(plan), log.mix, generator, plan=plan, start=start):
        pass
    return log


def make_pools(plan: FinetunePlan) -> Pools:
    rings = [Ring(len(SEEDS), size, COLUMNS) for size in (plan.steps, plan.synthetic_rows, plan.synthetic_rows)]
    return Pools(FixedRows(to_rows(random_data())), *rings, 1, 1)


def run(point, plan, generator, agent=None):
    agent = agent or IQL(1, 1, SETTINGS, seeds=SEEDS)
    pools = make_pools(plan)
    collector = EnvCollector(point, SEEDS, RewardMap())
    mixer = Concatenated(Streams(SEEDS, "batches"))
    return pools, list(finetune(agent, collector, pools, mixer, generator, plan=plan))


def test_refresh_times_and_training_sets(point):
    plan = FinetunePlan(steps=100, refresh_every=30, warm_up=10, batch_size=16, synthetic_rows=50)
    generator = Resampler()
    _, log = run(point, plan, generator)
    assert [step for step, metrics in log if "refresh/rejected" in metrics] == [30, 60, 90]
    assert [counts for _, counts in generator.fits] == [[2000, 30], [2000, 60], [2000, 90]]
    assert all(shape == (2, 2000 + n, COLUMNS) for (shape, _), n in zip(generator.fits, (30, 60, 90), strict=True))


def test_no_refresh_at_the_last_step_which_would_serve_nothing(point):
    plan = FinetunePlan(steps=60, refresh_every=30, warm_up=0, batch_size=16, synthetic_rows=50)
    _, log = run(point, plan, Resampler())
    assert [step for step, metrics in log if "refresh/rejected" in metrics] == [30]


def test_no_update_during_warm_up_and_one_per_step_after(point):
    plan = FinetunePlan(steps=40, refresh_every=40, warm_up=25, batch_size=16, synthetic_rows=10)
    _, log = run(point, plan, None)
    assert [step for step, metrics in log if "loss/value" in metrics] == list(range(26, 41))
    assert len(log) == 40


def test_every_collected_row_is_stored_once(point):
    plan = FinetunePlan(steps=40, refresh_every=40, warm_up=39, batch_size=16, synthetic_rows=10)
    pools, _ = run(point, plan, None)
    assert len(pools.online) == 40
    assert not pools.has_synthetic


def test_a_refresh_replaces_and_splits_eight_to_two(point):
    plan = FinetunePlan(steps=100, refresh_every=30, warm_up=99, batch_size=16, synthetic_rows=50)
    pools, _ = run(point, plan, Resampler())
    assert (len(pools.online_synthetic), len(pools.offline_synthetic)) == (40, 10)
    offline = {tuple(row) for row in pools.offline.view().tolist()}
    assert all(tuple(row) in offline for row in pools.offline_synthetic.view()[0].tolist())
    assert not any(tuple(row) in offline for row in pools.online_synthetic.view()[0].tolist())


def test_bad_rows_are_replaced_by_good_ones_and_reported(point):
    plan = FinetunePlan(steps=40, refresh_every=30, warm_up=39, batch_size=16, synthetic_rows=500)
    pools, log = run(point, plan, Resampler(spoil=0.3))
    assert pools.online_synthetic.view().isfinite().all()
    rejected = dict(log)[30]["refresh/rejected"]
    assert rejected.shape == (2,)
    assert rejected.mean().item() == pytest.approx(0.3, abs=0.05)


def test_far_out_rows_are_rejected_and_actions_and_terminals_made_storable():
    class Far(Resampler):
        def sample(self, labels):
            rows = super().sample(labels)
            rows[:, ::2, 0] = 100.0  # an observation far outside the data
            rows[:, 1::2, 1] = 1.05  # an action beyond its bound
            rows[:, 1::2, -1] = 0.7  # a terminal that is nearly one
            return rows

    plan = FinetunePlan(steps=40, refresh_every=30, synthetic_rows=20, warm_up=0)
    pools = make_pools(plan)
    pools.online.add(to_rows(random_data(30, 1)).expand(2, -1, -1))
    metrics = refresh(Far(), pools, plan)
    stored = torch.cat([pools.online_synthetic.view(), pools.offline_synthetic.view()], dim=1)
    assert metrics["refresh/rejected"].tolist() == [0.5, 0.5]
    assert stored[..., 0].abs().max() < 3
    assert (stored[..., 1] == 1.0).all()
    assert (stored[..., -1] == 1.0).all()


def test_updates_come_in_rounds_after_their_environment_steps():
    """APL's counts, scaled down from 1,000 steps and 10,000 updates: 3 and 4, each round with new episodes."""
    plan = FinetunePlan(
        steps=6, refresh_every=6, warm_up=0, round_steps=3, updates_per_round=4, restart_rounds=True, batch_size=2
    )
    assert diary(plan).calls == 2 * (["restart"] + 3 * ["step"] + 4 * ["update"])


def test_rounds_of_one_step_are_the_ordinary_loop():
    plan = FinetunePlan(steps=5, refresh_every=5, warm_up=2)
    assert diary(plan).calls == 2 * ["step"] + 3 * ["step", "update"]


def test_a_last_round_that_is_cut_short_is_not_trained_on():
    plan = FinetunePlan(steps=5, refresh_every=5, warm_up=0, round_steps=3, updates_per_round=2, restart_rounds=True)
    assert diary(plan).calls == ["restart", *3 * ["step"], *2 * ["update"], "restart", *2 * ["step"]]


@pytest.mark.parametrize(("warm_up", "trained"), [(0, [3, 6, 9]), (2, [3, 6, 9]), (3, [6, 9]), (7, [9])])
def test_rounds_that_end_within_the_warm_up_are_not_trained_on(warm_up, trained):
    plan = FinetunePlan(steps=10, refresh_every=5, warm_up=warm_up, round_steps=3, updates_per_round=7)
    assert [t for t in range(1, 11) if plan.updates_at(t)] == trained
    assert {plan.updates_at(t) for t in trained} == {7}


def test_the_repositorys_hundred_rounds_are_a_million_updates():
    plan = FinetunePlan(
        steps=100_000, refresh_every=10_000, warm_up=0, round_steps=1000, updates_per_round=10_000, restart_rounds=True
    )
    assert sum(plan.updates_at(t) for t in range(1, plan.steps + 1)) == 1_000_000
    assert [t for t in range(1, 3001) if plan.restarts_at(t)] == [1, 1001, 2001]


def test_a_continued_run_keeps_its_rounds():
    plan = FinetunePlan(steps=7, refresh_every=7, warm_up=0, round_steps=3, updates_per_round=1, restart_rounds=True)
    assert diary(plan).calls == diary(replace(plan, steps=5, refresh_every=5)).calls + diary(plan, start=5).calls


def test_a_refresh_serves_the_updates_of_its_own_round():
    plan = FinetunePlan(steps=4, refresh_every=2, warm_up=0, round_steps=2, updates_per_round=2, synthetic_rows=4)
    pools = make_pools(plan)
    log = Diary()
    seen = []

    def mix(pools, batch_size):
        seen.append(pools.has_synthetic)

    for _ in finetune(log, log, pools, mix, Resampler(), plan=plan):
        pass
    assert seen == [True] * 4


def test_the_metrics_of_a_rounds_updates_are_the_latest_of_each_name():
    """A learner that reports its policy every second update only is still heard, and beside a refresh."""

    class Delayed(Diary):
        def update(self, batch):
            super().update(batch)
            count = self.calls.count("update")
            number = torch.full((len(SEEDS),), float(count))
            return {"loss/critic": number} if count % 2 else {"loss/critic": number, "loss/policy": number}

    plan = FinetunePlan(steps=6, refresh_every=3, warm_up=0, round_steps=3, updates_per_round=3, synthetic_rows=4)
    agent = Delayed()
    log = dict(finetune(agent, agent, make_pools(plan), agent.mix, Resampler(), plan=plan))
    assert {name: metric[0].item() for name, metric in log[3].items() if "loss" in name} == {
        "loss/critic": 3.0,
        "loss/policy": 2.0,
    }
    assert "refresh/rejected" in log[3]
    assert log[4] == {}


def test_the_archive_keeps_what_a_small_ring_forgets():
    plan = FinetunePlan(steps=12, refresh_every=12, warm_up=0)
    pools = replace(make_pools(plan), online=Ring(2, 5, COLUMNS), archive=Ring(2, 12, COLUMNS))
    log = Diary()
    list(finetune(log, log, pools, log.mix, None, plan=plan))
    assert sorted(pools.online.view()[1, :, 0].tolist()) == list(range(8, 13))
    assert sorted(pools.archive.view()[1, :, 0].tolist()) == list(range(1, 13))


def test_a_generator_never_sees_the_archive():
    """It learns the near-on-policy ring as online and the dataset as offline."""
    plan = FinetunePlan(steps=12, refresh_every=8, warm_up=11, synthetic_rows=10)
    pools = replace(make_pools(plan), online=Ring(2, 5, COLUMNS), archive=Ring(2, 12, COLUMNS))
    log = Diary()
    generator = Resampler()
    list(finetune(log, log, pools, log.mix, generator, plan=plan))
    assert [counts for _, counts in generator.fits] == [[2000, 5]]
    assert sorted(generator.rows[0, 2000:, 0].tolist()) == [4, 5, 6, 7, 8]


def test_bounds_are_ten_percent_wider_than_the_data():
    low, high = bounds(torch.tensor([[[0.0], [10.0]]]), 0.1)
    assert (low.item(), high.item()) == (-1.0, 11.0)


def test_keep_valid_cycles_through_valid_rows_of_the_same_replica():
    rows = torch.arange(8.0).view(2, 4, 1)
    valid = torch.tensor([[True, False, True, False], [False, False, False, True]])
    assert keep_valid(rows, valid)[..., 0].tolist() == [[0, 2, 0, 2], [7, 7, 7, 7]]
    with pytest.raises(ValueError, match="every generated row"):
        keep_valid(rows, torch.zeros(2, 4, dtype=torch.bool))


def test_a_snapped_reward_is_minus_one_or_zero_and_ends_where_it_is_zero():
    reward = torch.tensor([-1.3, -1.0, -0.51, -0.5, -0.49, 0.0, 0.2])
    obs = torch.zeros(7, 1)
    data = snap(Transitions(obs, obs, reward, obs, torch.tensor([1.0, 0, 1, 0, 1, 0, 1])), -1.0, 0.0)
    assert data.reward.tolist() == [-1, -1, -1, -1, 0, 0, 0]
    assert data.terminal.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("reward", [RewardMap(), RewardMap(1000.0), RewardMap(1.0, -1.0), RewardMap(0.1, 7.0)])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_refresh_snaps_a_sparse_tasks_generated_rewards(sparse, reward):
    """Generated rewards scatter around the two of the reward map, and generated terminals contradict them."""

    class Scattered(Resampler):
        def sample(self, labels):
            rows = super().sample(labels)
            rows[..., 2] += reward.scale * 0.08 * torch.randn(labels.shape, generator=self.rng).clamp(-1, 1)
            rows[..., -1] = torch.rand(labels.shape, generator=self.rng)
            return rows

    data = random_data()
    reached = (data.obs.abs()[:, 0] < 0.3).float()
    maze = replace(data, reward=reward(reached), terminal=reached)
    pair = reward.pair(0, 1) if sparse else False
    plan = FinetunePlan(steps=40, refresh_every=30, synthetic_rows=400, warm_up=0, sparse_reward=pair)
    pools = replace(make_pools(plan), offline=FixedRows(to_rows(maze)))
    pools.online.add(to_rows(maze.map(lambda tensor: tensor[:40])).expand(2, -1, -1))
    refresh(Scattered(), pools, plan)
    stored = pools.decode(torch.cat([pools.online_synthetic.view(), pools.offline_synthetic.view()], dim=1))
    rewards = torch.tensor(reward.pair(0, 1))
    snapped = torch.isin(stored.reward, rewards).all()
    agreeing = torch.equal(stored.terminal, (stored.reward == rewards[1]).float())
    assert (bool(snapped), agreeing) == (sparse, sparse)
    if sparse:
        assert torch.equal(stored.terminal.bool(), stored.obs.abs()[..., 0] < 0.3)
        assert 0.05 < stored.terminal.mean() < 0.4


@settings(deadline=None)
@given(
    st.floats(0.001, 1e4),
    st.floats(-1e3, 1e3),
    st.lists(st.tuples(st.booleans(), st.floats(-0.49, 0.49)), min_size=1, max_size=30),
)
def test_property_of_sparse_tasks_under_any_reward_map(scale, shift, rows):
    """Rewards near a mapped one snap to it, and exactly the goal's rows are terminal."""
    reward = RewardMap(scale, shift)
    goal = torch.tensor([float(reached) for reached, _ in rows])
    near = reward(goal.double() + torch.tensor([noise for _, noise in rows], dtype=torch.float64))
    obs = torch.zeros(len(rows), 1)
    data = snap(Transitions(obs, obs, near, obs, 1 - goal), *reward.pair(0, 1))
    assert torch.equal(data.terminal, goal.double())
    elsewhere, reached = (torch.full_like(near, value) for value in reward.pair(0, 1))
    assert torch.equal(data.reward, torch.where(goal == 1, reached, elsewhere))


def test_a_refresh_leaves_the_rollout_alone(point):
    plan = FinetunePlan(steps=50, refresh_every=20, warm_up=49, batch_size=16, synthetic_rows=30)
    with_generator, _ = run(point, plan, Resampler())
    without, _ = run(point, plan, None)
    assert torch.equal(with_generator.online.view(), without.online.view())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 100, "refresh_every": 200}, "T_diff.* is 200, expected at most the 100 steps"),
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"steps": 10, "refresh_every": 5, "warm_up": 10}, "warm_up"),
        ({"round_steps": 0}, "round_steps is 0, expected at least 1"),
        ({"updates_per_round": 0}, "updates_per_round is 0, expected at least 1"),
    ],
)
def test_impossible_plans_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FinetunePlan(**values)


@pytest.mark.parametrize("augmented", [False, True])
def test_pre_training_and_fine_tuning_solve_the_point_task(point, augmented):
    """A policy that moves to the origin loses about 1 per episode; standing still loses 15."""
    plan = FinetunePlan(steps=300, refresh_every=100, warm_up=20, batch_size=64, synthetic_rows=200)
    agent = IQL(1, 1, SETTINGS, seeds=SEEDS)
    pools = make_pools(plan)
    agent.fit_scaler(random_data().obs)
    for _ in pretrain(agent, pools, Streams(SEEDS, "pre"), steps=400, batch_size=64):
        pass
    _, log = run(point, plan, Resampler() if augmented else None, agent)
    returns = Evaluator(point, SEEDS, episodes=10).returns(agent)
    assert returns.mean(1).min() > -4.0
    assert len(log) == 300
