"""Algorithm 1: when it refreshes, what it fits on, what it stores, and that it learns."""

from dataclasses import replace

import pytest
import torch

from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.collect import EnvCollector
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import FinetunePlan, bounds, finetune, keep_valid, refresh
from cfdg_rl.iql import IQL, OFFICIAL
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
        self.fits, self.spoil, self.rng = [], spoil, torch.Generator().manual_seed(0)

    def fit(self, rows, labels):
        self.rows, self.labels = rows.clone(), labels.clone()
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


def make_pools(plan: FinetunePlan) -> Pools:
    rings = [Ring(len(SEEDS), size, COLUMNS) for size in (plan.steps, plan.synthetic_rows, plan.synthetic_rows)]
    return Pools(FixedRows(to_rows(random_data())), *rings, 1, 1)


def run(point, plan, generator, agent=None):
    agent = agent or IQL(1, 1, SETTINGS, seeds=SEEDS)
    pools = make_pools(plan)
    collector = EnvCollector(point, SEEDS, RewardMap())
    mixer = Concatenated(Streams(SEEDS, "batches"))
    return pools, list(finetune(agent, collector, pools, mixer, generator, plan))


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


def test_bounds_are_ten_percent_wider_than_the_data():
    low, high = bounds(torch.tensor([[[0.0], [10.0]]]), 0.1)
    assert (low.item(), high.item()) == (-1.0, 11.0)


def test_keep_valid_cycles_through_valid_rows_of_the_same_replica():
    rows = torch.arange(8.0).view(2, 4, 1)
    valid = torch.tensor([[True, False, True, False], [False, False, False, True]])
    assert keep_valid(rows, valid)[..., 0].tolist() == [[0, 2, 0, 2], [7, 7, 7, 7]]
    with pytest.raises(ValueError, match="every generated row"):
        keep_valid(rows, torch.zeros(2, 4, dtype=torch.bool))


def test_a_refresh_leaves_the_rollout_alone(point):
    plan = FinetunePlan(steps=50, refresh_every=20, warm_up=49, batch_size=16, synthetic_rows=30)
    with_generator, _ = run(point, plan, Resampler())
    without, _ = run(point, plan, None)
    assert torch.equal(with_generator.online.view(), without.online.view())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 100, "refresh_every": 200}, "T_diff.*longer than the run of 100"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 10, "refresh_every": 5, "warm_up": 10}, "warm_up"),
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
    agent.see(random_data().obs)
    for _ in pretrain(agent, pools, Streams(SEEDS, "pre"), steps=400, batch_size=64):
        pass
    _, log = run(point, plan, Resampler() if augmented else None, agent)
    returns = Evaluator(point, SEEDS, episodes=10).returns(agent)
    assert returns.mean(1).min() > -4.0
    assert len(log) == 300
