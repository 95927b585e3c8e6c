"""Integer splits and the composition of batches."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.composition import BranchComposition, branches, matched, native, split
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch, Bernoulli, Concatenated, Pools
from cfdg_rl.streams import Streams

COLUMNS = 2 * 1 + 1 + 2
SEEDS = (0, 1)
SOURCES = {"offline": 0.0, "online": 1.0, "offline_synthetic": 2.0, "online_synthetic": 3.0, "archive": 4.0}
GATE = 4  # of the rings below, which hold five rows


def rows(source: str, count: int, seeds: tuple[int, ...] = SEEDS) -> torch.Tensor:
    """Rows whose observation is their number, action their replica's seed / 100, and reward where they come from."""
    block = torch.zeros(len(seeds), count, COLUMNS)
    block[..., 0] = torch.arange(count)
    block[..., 1] = torch.tensor(seeds)[:, None] / 100
    block[..., 2] = SOURCES[source]
    return block


def pools(synthetic: bool = True, archive: bool = False, seeds: tuple[int, ...] = SEEDS) -> Pools:
    """Seven offline rows, and rings of five rows each, or of none."""
    rings = {name: Ring(len(seeds), 10, COLUMNS) for name in SOURCES if name != "offline"}
    for name, ring in rings.items():
        if synthetic or name in ("online", "archive"):
            ring.add(rows(name, 5, seeds))
    if not archive:
        del rings["archive"]
    return Pools(FixedRows(rows("offline", 7)[0]), obs_dim=1, action_dim=1, **rings)


def counts(batch: Batch) -> dict[str, int]:
    """Counts of each source's rows in the first replica's batch."""
    first = batch.data.reward[0]
    found = {name: int((first == code).sum()) for name, code in SOURCES.items()}
    return {name: count for name, count in found.items() if count}


def bernoulli(probability: float = 0.5, gate: int = GATE, seeds: tuple[int, ...] = SEEDS) -> Bernoulli:
    return Bernoulli(Streams(seeds, "test"), probability, gate)


@given(st.integers(0, 2000), st.lists(st.floats(0, 1), min_size=1, max_size=5).filter(lambda s: sum(s) > 1e-3))
def test_split_always_adds_up_and_is_within_one_of_the_exact_share(total, weights):
    shares = [weight / sum(weights) for weight in weights]
    parts = split(total, *shares)
    assert sum(parts) == total
    assert all(abs(part - total * share) < 1 + 1e-6 for part, share in zip(parts, shares, strict=True))


def test_split_of_the_paper():
    assert split(256, 1 / 3, 1 / 3, 1 / 3) == [85, 85, 86]
    assert split(256, 2 / 3, 1 / 3) == [171, 85]
    assert split(85, 0.8, 0.2) == [68, 17]
    assert split(86, 0.8, 0.2) == [69, 17]
    assert split(1_000_000, 0.8, 0.2) == [800_000, 200_000]


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.2, -0.2)])
def test_split_refuses_shares_that_are_none(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        split(10, *shares)


@pytest.mark.parametrize("archive", [False, True])
def test_paradigm_one_has_the_papers_proportions(archive):
    batch = Concatenated(Streams((0, 1), "test"))(pools(archive=archive), 256)
    assert counts(batch) == {"offline": 85, "online": 85, "online_synthetic": 69, "offline_synthetic": 17}
    assert len(batch.data) == 256
    assert batch.label is None


def test_before_the_first_refresh_the_batch_is_the_base_algorithms():
    batch = Concatenated(Streams((0, 1), "test"))(pools(synthetic=False), 256)
    assert counts(batch) == {"offline": 128, "online": 128}


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 300))
def test_batches_are_full_for_every_ratio(ratio, share, size):
    batch = Concatenated(Streams((0, 1), "test"), native(ratio, share))(pools(), size)
    assert batch.data.reward.shape == (2, size)
    assert sum(counts(batch).values()) == size


def test_every_row_carries_the_label_it_was_drawn_for():
    batch = Concatenated(Streams((0, 1), "test"))(pools(), 256)
    online = torch.isin(batch.data.reward[0], torch.tensor([SOURCES["online"], SOURCES["online_synthetic"]]))
    assert torch.equal(batch.labels, torch.where(online, ONLINE, OFFLINE))


def test_ratios_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match=r"synthetic_ratio is 1\.5, expected 0 to 1"):
        native(1.5, 0.8)


def test_a_composition_of_real_rows_begins_with_its_gate():
    """The control whose batch is 40:60 from the first refresh on, without a refresh."""
    share = matched(0.6, 0.0, 1.0)
    for gate, expected in ((6, {"offline": 128, "online": 128}), (5, {"offline": 102, "online": 154})):
        assert counts(Concatenated(Streams(SEEDS, "test"), share, gate)(pools(synthetic=False), 256)) == expected


def test_paradigm_twos_branches_hold_real_and_synthetic_rows_of_their_label():
    """r = 1/3 of 256 rows: 171 real and 85 synthetic ones, all of the branch's label."""
    expected = {
        ONLINE: {"online": 171, "online_synthetic": 85},
        OFFLINE: {"offline": 171, "offline_synthetic": 85},
    }
    for probability, label in ((1.0, ONLINE), (0.0, OFFLINE)):
        batch = bernoulli(probability)(pools(), 256)
        assert counts(batch) == expected[label]
        assert batch.label == label
        assert batch.labels.tolist() == [label] * 256


def test_paradigm_two_has_only_real_rows_before_the_first_refresh():
    assert counts(bernoulli(1.0)(pools(synthetic=False), 256)) == {"online": 256}
    assert counts(bernoulli(0.0)(pools(synthetic=False), 256)) == {"offline": 256}


def test_a_branch_without_synthetic_rows_of_its_label_stays_real():
    """As in the arm that generates online rows only."""
    buffers = pools()
    buffers.offline_synthetic.clear()
    assert counts(bernoulli(0.0)(buffers, 256)) == {"offline": 256}
    assert counts(bernoulli(1.0)(buffers, 256)) == {"online": 171, "online_synthetic": 85}


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_the_online_branch_comes_with_its_probability_once_the_gate_is_passed(probability):
    mixer = bernoulli(probability)
    buffers = pools()
    draws = 3000
    share = sum(mixer(buffers, 2).label == ONLINE for _ in range(draws)) / draws
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / draws) ** 0.5)


def test_the_gate_is_strictly_more_than_ten_thousand_rows():
    mixer = Bernoulli(Streams(SEEDS, "test"), probability=1.0)
    buffers = replace(pools(), online=Ring(2, 20_000, COLUMNS))
    buffers.online.add(torch.zeros(2, 10_000, COLUMNS))
    assert {mixer(buffers, 2).label for _ in range(50)} == {OFFLINE}
    buffers.online.add(torch.zeros(2, 1, COLUMNS))
    assert {mixer(buffers, 2).label for _ in range(50)} == {ONLINE}


def test_every_batch_is_of_one_label():
    mixer = bernoulli()
    buffers = pools(archive=True)
    seen = set()
    for _ in range(40):
        batch = mixer(buffers, 30)
        assert batch.labels.unique().tolist() == [batch.label]
        online = torch.isin(batch.data.reward, torch.tensor([SOURCES["online"], SOURCES["online_synthetic"]]))
        assert (online == (batch.label == ONLINE)).all()
        seen.add(batch.label)
    assert seen == {OFFLINE, ONLINE}


def test_the_offline_branch_draws_dataset_and_own_archive_as_one_buffer():
    """Seven rows of the dataset and five of the replica's archive: each of the twelve equally often."""
    draws = 6000
    data = bernoulli(0.0)(pools(synthetic=False, archive=True), draws).data
    for replica, seed in enumerate(SEEDS):
        archived = data.reward[replica] == SOURCES["archive"]
        number = data.obs[replica, :, 0].long() + 7 * archived
        found = number.bincount(minlength=12).double()
        assert ((found - draws / 12).square() / (draws / 12)).sum() < 31.3  # chi-square, 11 dof, 0.999
        assert data.action[replica][archived].unique().tolist() == pytest.approx([seed / 100])


def test_synthetic_rows_join_the_archive_branch_at_their_exact_share():
    found = counts(bernoulli(0.0)(pools(archive=True), 256))
    assert found["offline_synthetic"] == 85
    assert found["offline"] + found["archive"] == 171


@pytest.mark.parametrize(
    "make", [lambda seeds: Concatenated(Streams(seeds, "test")), lambda seeds: bernoulli(seeds=seeds)]
)
def test_replicas_draw_what_separate_runs_draw(make):
    """Bernoulli's coin included, which is the same for all replicas."""
    together = make((0, 1, 7))
    alone = make((7,))
    many, one = (pools(archive=True, seeds=seeds) for seeds in ((0, 1, 7), (7,)))
    for _ in range(20):
        whole = together(many, 33)
        single = alone(one, 33)
        assert whole.label == single.label
        assert torch.equal(whole.labels, single.labels)
        for name in ("obs", "action", "reward"):
            assert torch.equal(getattr(whole.data, name)[2], getattr(single.data, name)[0])


def test_a_closed_gate_does_not_shift_the_coin():
    """The branches of a run do not depend on when its gate opened."""
    first = bernoulli()
    second = bernoulli(gate=5)
    for _ in range(10):
        first(pools(), 4)
        assert second(pools(), 4).label == OFFLINE
    second.gate = GATE
    later = [(first(pools(), 4).label, second(pools(), 4).label) for _ in range(30)]
    assert all(a == b for a, b in later)
    assert len({a for a, _ in later}) == 2


def test_a_restored_mixer_continues():
    mixer = bernoulli()
    copy = bernoulli(seeds=(5, 6))
    buffers = pools()
    for _ in range(5):
        mixer(buffers, 16)
    copy.streams.restore(mixer.streams.state())
    copy.coin.restore(mixer.coin.state())
    for _ in range(10):
        expected = mixer(buffers, 16)
        found = copy(buffers, 16)
        assert expected.label == found.label
        assert torch.equal(expected.data.obs, found.data.obs)


def test_bernoulli_refuses_shares_outside_the_unit_interval():
    with pytest.raises(ValueError, match=r"probability is -0\.1, expected 0 to 1"):
        Bernoulli(Streams((0,), "test"), probability=-0.1)
    with pytest.raises(ValueError, match=r"online_ratio is -0\.1, expected 0 to 1"):
        BranchComposition(online_ratio=-0.1)


def test_collected_rows_are_stored_in_ring_and_archive():
    buffers = replace(pools(archive=True), online=Ring(2, 2, COLUMNS), archive=Ring(2, 10, COLUMNS))
    for number in range(5):
        buffers.store(torch.full((2, 1, COLUMNS), float(number)))
    assert sorted(buffers.online.view()[0, :, 0].tolist()) == [3, 4]
    assert sorted(buffers.archive.view()[0, :, 0].tolist()) == [0, 1, 2, 3, 4]
    without = replace(pools(), online=Ring(2, 2, COLUMNS))
    without.store(torch.zeros(2, 1, COLUMNS))
    assert len(without.online) == 1


def test_extra_generated_rows_come_on_top_of_a_full_batch():
    assert counts(Concatenated(Streams(SEEDS, "test"), native(1 / 3, 0.8), extra=True)(pools(), 256)) == {
        "offline": 128,
        "online": 128,
        "offline_synthetic": 26,
        "online_synthetic": 102,
    }
    before = Concatenated(Streams(SEEDS, "test"), native(1 / 3, 0.8), extra=True)(pools(synthetic=False), 256)
    assert counts(before) == {"offline": 128, "online": 128}
    for probability, real, generated in ((1.0, "online", "online_synthetic"), (0.0, "offline", "offline_synthetic")):
        mixer = Bernoulli(Streams(SEEDS, "test"), probability, GATE, branches(1 / 3, 0.8), extra=True)
        assert counts(mixer(pools(), 256)) == {real: 256, generated: 128}


@given(st.integers(2, 600), st.floats(0, 0.9), st.floats(0, 1), st.sampled_from([native, partial(matched, 0.6)]))
def test_extra_rows_leave_all_real_rows_in_the_batch(batch_size, ratio, online_share, compose):
    try:
        composition = compose(ratio, online_share)
    except ValueError:
        return  # no room for the generated rows of a label
    found = composition.counts(batch_size, extra=True)
    assert found.offline + found.online == batch_size
    generated = found.offline_synthetic + found.online_synthetic
    assert abs(generated - (batch_size + generated) * ratio) <= 1


def test_extra_rows_need_real_ones():
    with pytest.raises(ValueError, match=r"synthetic_ratio is 1\.0 with extra generated rows, expected less than 1"):
        native(1.0, 0.8).counts(256, extra=True)


KEPT = [[1.0, 0.5], [0.0, 1.0]]  # of two replicas, offline and online


def replica_counts(batch: Batch, replica: int) -> dict[str, int]:
    codes = batch.data.reward[replica]
    return {name: int((codes == code).sum()) for name, code in SOURCES.items() if (codes == code).any()}


def test_each_replica_keeps_its_share_of_the_generated_rows():
    thinned = replace(pools(), kept=torch.tensor(KEPT))
    batch = Concatenated(Streams(SEEDS, "test"), native(1 / 3, 0.8))(thinned, 256)
    assert replica_counts(batch, 0) == {
        "offline": 85,
        "online": 85 + 35,
        "offline_synthetic": 17,
        "online_synthetic": 34,
    }
    assert replica_counts(batch, 1) == {"offline": 85 + 17, "online": 85, "online_synthetic": 69}
    assert torch.equal(batch.labels, Concatenated(Streams(SEEDS, "test"), native(1 / 3, 0.8))(pools(), 256).labels)


def test_a_closed_branch_is_filled_from_its_own_real_rows():
    thinned = replace(pools(archive=True), kept=torch.zeros(2, 2))
    online = Bernoulli(Streams(SEEDS, "test"), 1.0, GATE, branches(1 / 3, 0.8))(thinned, 256)
    assert counts(online) == {"online": 256}
    offline = Bernoulli(Streams(SEEDS, "test"), 0.0, GATE, branches(1 / 3, 0.8))(thinned, 256)
    assert set(counts(offline)) == {"offline", "archive"}


def test_what_one_replica_keeps_changes_nothing_for_another():
    first = replace(pools(), kept=torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    second = replace(pools(), kept=torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    batches = [Concatenated(Streams(SEEDS, "test"), native(1 / 3, 0.8))(own, 64) for own in (first, second)]
    assert torch.equal(batches[0].data.obs[0], batches[1].data.obs[0])
    assert not torch.equal(batches[0].data.reward[1], batches[1].data.reward[1])
