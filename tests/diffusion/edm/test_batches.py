import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_diffusion import Streams
from cfdg_diffusion.edm.batches import BalancedRows


def numbered(labels):
    """Rows whose two columns are their own number and their label."""
    numbers = torch.arange(labels.numel()).view(labels.shape)
    return torch.stack([numbers, labels], dim=-1).float()


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 50))
def test_every_batch_gives_each_label_present_an_equal_share(labels, batch_size):
    labels = torch.tensor([labels])
    rows, drawn = BalancedRows(numbered(labels), labels, 6).draw(Streams([0, 1], "test"), batch_size)
    assert torch.equal(rows[..., 1].long(), drawn)
    present = labels.unique()
    assert torch.isin(drawn, present).all()
    share = batch_size / len(present)
    for replica in drawn:
        counts = (replica[:, None] == present).sum(0)
        assert (counts - share).abs().max() < 1 + 1e-4


def test_every_row_of_a_label_is_drawn_equally_often():
    labels = torch.tensor([[1, 0, 1, 1, 0, 1, 1]])
    data = BalancedRows(numbered(labels), labels, 3)
    streams = Streams([0], "test")
    numbers = torch.cat([data.draw(streams, 64)[0][0, :, 0] for _ in range(2000)]).long()
    frequencies = numbers.bincount(minlength=7) / len(numbers)
    expected = torch.where(labels[0] == 0, 1 / 4, 1 / 10)
    torch.testing.assert_close(frequencies, expected, atol=0.004, rtol=0)


def test_an_odd_batch_favours_no_label_on_average():
    labels = torch.tensor([[0, 1, 2]])
    data, streams = BalancedRows(numbered(labels), labels, 3), Streams([0], "test")
    drawn = torch.cat([data.draw(streams, 4)[1] for _ in range(5000)], dim=1)[0]
    torch.testing.assert_close(drawn.bincount() / len(drawn), torch.full((3,), 1 / 3), atol=0.01, rtol=0)


@pytest.mark.parametrize(("rows_of", "labels_of"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_replicas_read_their_own_rows_and_labels(rows_of, labels_of):
    labels = torch.tensor([[0, 0, 1], [1, 2, 2]])[:labels_of]
    rows = torch.arange(6.0).view(2, 3, 1)[:rows_of]
    data = BalancedRows(rows, labels, 3)
    drawn, told = data.draw(Streams([0, 1], "test"), 200)
    for replica in range(2):
        own_rows, own_labels = rows[replica % rows_of, :, 0], labels[replica % labels_of]
        pairs = set(zip(drawn[replica, :, 0].tolist(), told[replica].tolist(), strict=True))
        assert pairs == set(zip(own_rows.tolist(), own_labels.tolist(), strict=True))


def test_shares_weigh_the_labels_equally():
    labels = torch.tensor([[0, 0, 0, 2]])
    data = BalancedRows(numbered(labels), labels, 3)
    torch.testing.assert_close(data.shares, torch.tensor([[1 / 6, 1 / 6, 1 / 6, 1 / 2]], dtype=torch.float64))
    assert data.counts.tolist() == [[3, 0, 1]]
