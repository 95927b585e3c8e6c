"""Fits on parts: the same draws and statistics as on joined rows, and mistakes."""

import pytest
import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_diffusion.edm.batches import BalancedRows
from cfdg_diffusion.edm.normaliser import measure
from cfdg_diffusion.edm.parts import LabelledParts, Part
from cfdg_diffusion.edm.streams import Streams

SMALL = DiffusionSettings(width=8, blocks=1, batch_size=16, sampling_steps=3)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def three_parts():
    """Shared rows of label 0, own rows of label 2 in two parts, and an empty part; label 1 has no row."""
    parts = [numbers(50, 3), numbers(2, 7, 3, seed=1) + 5, numbers(2, 0, 3), numbers(2, 4, 3, seed=2)]
    labels = [0, 2, 1, 2]
    joined = torch.cat([part.expand(2, -1, -1) for part in parts], dim=1)
    names = torch.cat([torch.full(part.shape[-2:-1], label) for part, label in zip(parts, labels, strict=True)])
    return [Part(*pair) for pair in zip(parts, labels, strict=True)], joined, names


def test_batches_are_those_of_the_joined_rows():
    parts, joined, names = three_parts()
    ours = LabelledParts(parts, 3, 4, 2)
    theirs = BalancedRows(joined, names.expand(2, -1), 4)
    streams = [Streams((0, 1), "test") for _ in range(2)]
    for _ in range(20):
        for found, expected in zip(ours.draw(streams[0], 33), theirs.draw(streams[1], 33), strict=True):
            assert torch.equal(found, expected)


def test_statistics_are_those_of_the_joined_rows():
    parts, joined, names = three_parts()
    for part in parts:
        part.rows[..., 1] = 0.1  # a constant column
    joined[..., 1] = 0.1
    found = LabelledParts(parts, 3, 4, 2).measure([2])
    expected = measure(joined, BalancedRows(joined, names.expand(2, -1), 4).shares, [2])
    assert torch.allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-7)
    assert torch.allclose(found.std, expected.std, rtol=1e-6, atol=1e-7)
    assert (found.std[:, 1] == 0).all()
    assert (found.mean[:, 1] == torch.tensor(0.1)).all(), "to the last bit"


def test_a_column_far_from_zero_keeps_its_spread():
    rows = numbers(100_000, 1).double() * 1e-2 + 1e3
    found = LabelledParts([Part(rows.float(), 0)], 1, 1, 1).measure([])
    assert found.std.item() == pytest.approx(rows.float().double().std(correction=0).item(), rel=1e-5)


def test_a_fit_on_parts_is_a_fit_on_the_joined_rows():
    parts, joined, names = three_parts()
    models = [ConditionalDiffusion(3, 3, seeds=(0, 1), settings=SMALL) for _ in range(2)]
    models[0].fit(parts, steps=5)
    models[1].fit(joined, names, steps=5)
    asked = torch.tensor([0, 2, 2, 0])
    assert torch.allclose(models[0].sample(asked), models[1].sample(asked), atol=1e-4)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "there are 0 rows to fit"),
        ([Part(torch.zeros(0, 3), 0)], "there are 0 rows to fit"),
        ([Part(torch.zeros(4, 2), 0)], r"rows have shape \(4, 2\), expected \(N, 3\)"),
        ([Part(torch.zeros(3, 4, 3), 0)], r"rows have shape \(3, 4, 3\)"),
        ([Part(torch.zeros(4, 3), 2)], "label is 2, expected 0 to 1"),
        ([Part(torch.full((4, 3), torch.nan), 1)], "rows of label 1 hold a number that is not finite in column 0"),
    ],
)
def test_parts_that_cannot_be_fitted_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        ConditionalDiffusion(3, 2, seeds=(0, 1), settings=SMALL).fit(parts, steps=1)


def test_labels_are_needed_for_rows_that_are_no_parts():
    with pytest.raises(ValueError, match="labels is None"):
        ConditionalDiffusion(3, 2, settings=SMALL).fit(torch.zeros(4, 3), steps=1)
