"""Rings and the fixed dataset."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdg_rl.buffer import FixedRows, JoinedRows, Ring
from cfdg_rl.streams import Streams


def numbered(start: int, count: int, replicas: int = 2) -> torch.Tensor:
    """Rows that carry their own number and their replica."""
    numbers = torch.arange(start, start + count).float().expand(replicas, -1)
    owner = torch.arange(replicas).float()[:, None].expand(-1, count)
    return torch.stack([numbers, owner], dim=-1)


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_ring_keeps_exactly_the_latest_rows(capacity, sizes):
    ring = Ring(2, capacity, 2)
    start = 0
    for size in sizes:
        ring.add(numbered(start, size))
        start += size
    assert len(ring) == min(start, capacity)
    for replica in range(2):
        kept = sorted(ring.view()[replica, :, 0].tolist())
        assert kept == list(range(max(0, start - capacity), start))
        assert set(ring.view()[replica, :, 1].tolist()) == {float(replica)}


def test_full_capacity_is_reported_after_wrapping():
    ring = Ring(1, 5, 2)
    ring.add(numbered(0, 7, 1))
    assert len(ring) == ring.capacity == 5


def test_samples_come_from_the_own_replica_and_cover_every_row():
    ring = Ring(3, 8, 2)
    ring.add(numbered(0, 8, 3))
    drawn = ring.sample(400, Streams((0, 1, 2), "test"))
    assert drawn.shape == (3, 400, 2)
    for replica in range(3):
        assert set(drawn[replica, :, 1].tolist()) == {float(replica)}
        assert set(drawn[replica, :, 0].tolist()) == set(map(float, range(8)))


def test_sampling_from_an_unfilled_ring_never_returns_an_empty_slot():
    ring = Ring(1, 100, 2)
    ring.add(numbered(1, 3, 1))
    assert ring.sample(200, Streams((0,), "test"))[0, :, 0].min() >= 1


def test_empty_buffers_and_capacities_are_refused():
    with pytest.raises(ValueError, match="the ring is empty"):
        Ring(1, 3, 2).sample(1, Streams((0,), "test"))
    with pytest.raises(ValueError, match="capacity"):
        Ring(1, 0, 2)
    with pytest.raises(ValueError, match="0 rows, expected at least 1"):
        FixedRows(torch.zeros(0, 2))


def test_state_restores_content_and_position():
    ring = Ring(2, 5, 2)
    copy = Ring(2, 5, 2)
    ring.add(numbered(0, 7))
    copy.load_state_dict(ring.state_dict())
    for other in (ring, copy):
        other.add(numbered(7, 2))
    assert torch.equal(ring.view(), copy.view())


def test_clear_empties_the_ring():
    ring = Ring(1, 3, 2)
    ring.add(numbered(0, 2, 1))
    ring.clear()
    assert len(ring) == 0


def test_fixed_rows_are_shared_but_drawn_independently():
    data = FixedRows(torch.arange(50.0)[:, None])
    drawn = data.sample(64, Streams((0, 1), "test"))
    assert drawn.shape == (2, 64, 1)
    assert not torch.equal(drawn[0], drawn[1])


def union(added: int, capacity: int = 6) -> JoinedRows:
    """Dataset rows 100 to 103, owned by nobody (-1), before a ring that numbered rows were added to."""
    dataset = torch.stack([torch.arange(100.0, 104.0), torch.full((4,), -1.0)], -1)
    ring = Ring(3, capacity, 2)
    ring.add(numbered(0, added, 3))
    return JoinedRows(FixedRows(dataset), ring)


@pytest.mark.parametrize(("added", "kept"), [(3, [0, 1, 2]), (6, [0, 1, 2, 3, 4, 5]), (8, [2, 3, 4, 5, 6, 7])])
def test_a_union_draws_every_row_of_both_equally_often(added, kept):
    both = union(added)
    draws = 8000
    drawn = both.sample(draws, Streams((0, 1, 2), "test"))
    rows = [*kept, 100, 101, 102, 103]
    assert len(both) == len(rows)
    for replica in range(3):
        numbers, found = drawn[replica, :, 0].unique(return_counts=True)
        assert numbers.tolist() == rows
        expected = draws / len(rows)
        assert ((found - expected).square() / expected).sum() < 29.6  # chi-square, 0.999 at the most dof here, 10


def test_replicas_of_a_union_see_their_own_ring_only():
    drawn = union(6).sample(500, Streams((0, 1, 2), "test"))
    for replica in range(3):
        owners = drawn[replica, :, 1][drawn[replica, :, 0] < 100]
        assert set(owners.tolist()) == {float(replica)}
    assert not torch.equal(drawn[0, :, 0], drawn[1, :, 0])


def test_a_union_with_an_empty_ring_is_the_dataset():
    both = union(0)
    streams = Streams((0, 1, 2), "test")
    assert len(both) == 4
    assert both.sample(200, streams)[..., 0].min() >= 100


def test_a_union_follows_its_ring():
    both = union(0)
    both.online.add(numbered(0, 2, 3))
    assert len(both) == 6
    assert {0.0, 1.0} < set(both.sample(200, Streams((0, 1, 2), "test"))[0, :, 0].tolist())
