"""Integer splits and the composition of batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.mixing import OFFLINE, ONLINE, Concatenated, Pools, split
from cfdg_rl.streams import Streams

COLUMNS = 2 * 1 + 1 + 2
SOURCES = {"offline": 0.0, "online": 1.0, "offline_synthetic": 2.0, "online_synthetic": 3.0}


def pools(synthetic: bool = True) -> Pools:
    """Buffers whose rows carry in their reward column where they come from."""

    def rows(source: str, count: int) -> torch.Tensor:
        block = torch.zeros(2, count, COLUMNS)
        block[..., 2] = SOURCES[source]
        return block

    rings = {name: Ring(2, 10, COLUMNS) for name in SOURCES if name != "offline"}
    for name, ring in rings.items():
        if synthetic or name == "online":
            ring.add(rows(name, 5))
    return Pools(FixedRows(rows("offline", 7)[0]), obs_dim=1, action_dim=1, **rings)


def counts(batch) -> dict[str, int]:
    first = batch.data.reward[0]
    return {name: int((first == code).sum()) for name, code in SOURCES.items()}


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


def test_paradigm_one_has_the_papers_proportions():
    batch = Concatenated(Streams((0, 1), "test"))(pools(), 256)
    assert counts(batch) == {"offline": 85, "online": 85, "online_synthetic": 69, "offline_synthetic": 17}
    assert len(batch.data) == 256


def test_before_the_first_refresh_the_batch_is_the_base_algorithms():
    batch = Concatenated(Streams((0, 1), "test"))(pools(synthetic=False), 256)
    assert counts(batch) == {"offline": 128, "online": 128, "online_synthetic": 0, "offline_synthetic": 0}


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 300))
def test_batches_are_full_for_every_ratio(ratio, share, size):
    batch = Concatenated(Streams((0, 1), "test"), ratio, share)(pools(), size)
    assert batch.data.reward.shape == (2, size)
    assert sum(counts(batch).values()) == size


def test_every_row_carries_the_label_it_was_drawn_for():
    batch = Concatenated(Streams((0, 1), "test"))(pools(), 256)
    online = torch.isin(batch.data.reward[0], torch.tensor([SOURCES["online"], SOURCES["online_synthetic"]]))
    assert torch.equal(batch.labels, torch.where(online, ONLINE, OFFLINE))


def test_ratios_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match="synthetic_ratio"):
        Concatenated(Streams((0,), "test"), 1.5)
