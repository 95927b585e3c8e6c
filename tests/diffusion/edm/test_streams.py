import pytest
import torch

from cfdg_diffusion import Streams


def test_a_seed_draws_the_same_numbers_in_any_company():
    alone, together = Streams([7], "test"), Streams([3, 7, 5], "test")
    for draw in ("normal", "uniform"):
        assert torch.equal(getattr(alone, draw)(4, 2)[0], getattr(together, draw)(4, 2)[1])


def test_seeds_and_purposes_are_unrelated():
    draws = torch.cat([Streams([0, 1], "one").normal(10_000), Streams([0, 1], "two").normal(10_000)])
    torch.testing.assert_close(torch.corrcoef(draws), torch.eye(4), atol=0.05, rtol=0)


def test_a_restored_stream_continues():
    streams = Streams([1, 2], "test")
    streams.normal(3)
    state = streams.state()
    first = streams.uniform(5)
    streams.restore(state)
    assert torch.equal(first, streams.uniform(5))


@pytest.mark.parametrize("seeds", [[], [1, -1]])
def test_seeds_are_checked(seeds):
    with pytest.raises(ValueError, match="expected one non-negative integer per replica"):
        Streams(seeds, "test")
