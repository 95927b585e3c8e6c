"""Controls without a model: repeated rows are real ones, jitter has its size and its columns."""

import pytest
import torch

from cfdg_experiments.generators import Jitter, JitterSettings, Repeat
from cfdg_experiments.generators.rows import CHUNK, StoredRows
from cfdg_rl.finetune import join
from cfdg_rl.transitions import from_rows


def members(rows):
    return {tuple(row) for row in rows.tolist()}


def test_repeat_hands_out_real_rows_of_the_label_and_replica(data):
    generator = Repeat(data.streams("test"))
    generator.fit(data.rows, data.labels)
    drawn = generator.sample(data.asked)
    for r in range(len(data.seeds)):
        for label in (0, 1):
            own = data.rows[r][data.labels[r] == label]
            assert members(drawn[r][data.asked[r] == label]) <= members(own)


@pytest.fixture
def parts():
    """Shared offline rows and two parts of each replica's own online rows, one of them empty."""
    rng = torch.Generator().manual_seed(0)
    shared = 5 + 3 * torch.randn(CHUNK + 40, 3, generator=rng)
    own = [torch.randn(2, count, 3, generator=rng) for count in (0, 70)]
    return [(shared, 0), *((rows, 1) for rows in own)]


def test_rows_of_parts_are_drawn_uniformly_from_all_rows_of_their_label(data):
    own = [torch.arange(float(count)).reshape(1, count, 1).expand(2, -1, -1) for count in (1, 0, 3)]
    stored = StoredRows([(own[0] + 1, 1), (own[1], 1), (own[2] + 2, 1), (own[2][0] - 9, 0)], 2)
    drawn = stored.draw(torch.ones(2, 30_000, dtype=torch.long), data.streams("test"))
    shares = torch.stack([(drawn == value).float().mean((1, 2)) for value in (1, 2, 3, 4)])
    torch.testing.assert_close(shares, torch.full((4, 2), 1 / 4), atol=0.01, rtol=0)
    assert not torch.equal(drawn[0], drawn[1]), "replicas draw by themselves"


def test_a_label_without_rows_is_refused(data, parts):
    with pytest.raises(ValueError, match="label 2 has 0 rows in the latest fit, expected at least 1"):
        StoredRows(parts, 2).draw(torch.full((2, 5), 2), data.streams("test"))


def test_parts_are_kept_without_a_copy_and_measured_as_their_union(parts):
    stored = StoredRows(parts, 2)
    assert all(kept.data_ptr() == rows.data_ptr() for (kept, _), (rows, _) in zip(stored.parts, parts, strict=True))
    torch.testing.assert_close(stored.spread(), join(parts)[0].std(1, keepdim=True))


def test_controls_take_parts_as_they_take_joined_rows(data):
    parts = [(data.rows[:, :60], 0), (data.rows[:, 60:], 1)]
    for make in (lambda: Repeat(data.streams("test")), lambda: Jitter(*data.dims, data.streams("test"))):
        one = make()
        other = make()
        one.fit(data.rows, data.labels)
        other.fit_parts(parts)
        assert torch.equal(one.sample(data.asked), other.sample(data.asked))


def test_jitter_moves_states_by_its_share_of_their_spread_and_nothing_else(data):
    repeated = Repeat(data.streams("test"))
    jittered = Jitter(*data.dims, data.streams("test"), JitterSettings(noise=0.01))
    asked = torch.ones(2, 4000, dtype=torch.long)
    found = []
    for generator in (repeated, jittered):
        generator.fit(data.rows, data.labels)
        found.append(from_rows(generator.sample(asked), *data.dims))
    real, moved = found
    spread = from_rows(data.rows.std(1, keepdim=True), *data.dims)
    for name in ("obs", "next_obs"):
        noise = (getattr(moved, name) - getattr(real, name)) / getattr(spread, name)
        torch.testing.assert_close(noise.std(1), torch.full((2, 2), 0.01), rtol=0.05, atol=0)
    for name in ("action", "reward", "terminal"):
        assert torch.equal(getattr(moved, name), getattr(real, name))
    assert abs(torch.corrcoef((moved.obs - real.obs)[0].T)[0, 1]) < 0.1


def test_a_restored_generator_goes_on_bit_for_bit(data):
    for make in (lambda: Repeat(data.streams("test")), lambda: Jitter(*data.dims, data.streams("test"))):
        generator = make()
        generator.fit(data.rows, data.labels)
        generator.sample(data.asked)
        other = make()
        other.restore(generator.state())
        other.fit(data.rows, data.labels)
        assert torch.equal(other.sample(data.asked), generator.sample(data.asked))


def test_refusals(data):
    generator = Repeat(data.streams("test"))
    with pytest.raises(ValueError, match="has not been fitted, expected a fit before a sample"):
        generator.sample(data.asked)
    generator.fit(data.rows, data.labels)
    with pytest.raises(ValueError, match="label 2 has 0 rows in the latest fit, expected at least 1"):
        generator.sample(torch.full((2, 3), 2))
    with pytest.raises(ValueError, match=r"noise is -1, expected at least 0"):
        JitterSettings(noise=-1)
