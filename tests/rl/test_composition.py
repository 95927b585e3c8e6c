"""Counts of every arm's batch, in both paradigms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfdg_rl.composition import BASE, BranchComposition, Composition, branches, matched, native, replaced, split

R = 1 / 3
SHARE_MATCHED = {  # arm: ratio and online share at online_like = 0.6; offline, online, offline and online synthetic
    "base-share": ((0.0, 1.0), (102, 154, 0, 0)),
    "cfdg": ((R, 0.8), (85, 85, 17, 69)),
    "synther": ((R, 1.0), (102, 69, 0, 85)),
    "edis": ((R, 1.0), (102, 69, 0, 85)),
    "cfdg-online-only": ((R, 1.0), (102, 69, 0, 85)),
    "cfdg-offline-only": ((R, 0.0), (17, 154, 85, 0)),
}
NATIVE = {
    "base": (BASE, (128, 128, 0, 0)),
    "cfdg": (native(R, 0.8), (85, 85, 17, 69)),
    "synther": (native(R, 1.0), (85, 85, 0, 86)),
    "edis": (replaced(0.5), (0, 128, 0, 128)),
}


MATCHED = [matched(0.6, *shares) for shares, _ in SHARE_MATCHED.values()]


@pytest.mark.parametrize("arm", SHARE_MATCHED)
def test_share_matched_counts_of_256(arm):
    (ratio, online_share), counts = SHARE_MATCHED[arm]
    found = matched(0.6, ratio, online_share)
    assert found.counts(256) == counts
    assert found.online_like == pytest.approx(0.6)
    assert found.synthetic == pytest.approx(ratio)
    assert sum(found.counts(256)) == 256
    assert found.counts(256).online + found.counts(256).online_synthetic == 154


@pytest.mark.parametrize("arm", NATIVE)
def test_native_counts_of_256(arm):
    found, counts = NATIVE[arm]
    assert found.counts(256) == counts


def test_online_like_shares_of_the_arms_as_described_differ():
    assert [round(found.online_like, 3) for found, _ in NATIVE.values()] == [0.5, 0.6, 0.667, 1.0]


BRANCHES = {  # arm: online share; rows of the online and of the offline branch
    "cfdg": (0.8, (0, 171, 0, 85), (171, 0, 85, 0)),
    "synther": (1.0, (0, 171, 0, 85), (256, 0, 0, 0)),
    "cfdg-offline-only": (0.0, (0, 256, 0, 0), (171, 0, 85, 0)),
}


@pytest.mark.parametrize("arm", BRANCHES)
def test_branches_of_256(arm):
    online_share, online, offline = BRANCHES[arm]
    found = branches(R, online_share)
    assert found.counts(256, online=True) == online
    assert found.counts(256, online=False) == offline


def test_branches_without_generated_rows():
    assert BranchComposition().counts(256, online=True) == (0, 256, 0, 0)
    assert branches(0.0, 0.8).counts(256, online=False) == (256, 0, 0, 0)


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_counts_add_up_and_lie_near_their_shares(batch_size, ratio, online_share):
    found = native(ratio, online_share)
    counts = found.counts(batch_size)
    assert sum(counts) == batch_size
    shares = (found.offline, found.online, found.offline_synthetic, found.online_synthetic)
    assert all(abs(count - batch_size * share) < 3 for count, share in zip(counts, shares, strict=True))


@given(st.integers(2, 2000))
def test_the_papers_batch_is_a_third_of_each(batch_size):
    """Shares of generated rows that are whole fractions are rounded once, then split by label."""
    offline, online, synthetic = split(batch_size, R, R, R)
    on, off = split(synthetic, 0.8, 0.2)
    assert native(R, 0.8).counts(batch_size) == (offline, online, off, on)


@given(st.integers(2, 2000))
def test_matched_batches_hold_equally_many_online_like_rows(batch_size):
    """Whatever the size of the batch, to one row; SynthER's and CFDG's for one."""
    like = [counts.online + counts.online_synthetic for counts in (found.counts(batch_size) for found in MATCHED)]
    assert max(like) - min(like) <= 1
    assert min(like) >= int(0.6 * batch_size + 0.5)


def test_refusals():
    with pytest.raises(ValueError, match=r"shares are \[0.5, 0.6, 0.0, 0.0\], expected non-negative"):
        Composition(0.5, 0.6)
    with pytest.raises(ValueError, match="expected room for the generated rows of each label"):
        matched(0.2, 0.5, 1.0)
    with pytest.raises(ValueError, match="offline_ratio is 2, expected 0 to 1"):
        BranchComposition(offline_ratio=2)
