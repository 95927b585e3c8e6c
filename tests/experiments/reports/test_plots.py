from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from cfdg_experiments.reports.plots import (
    SECONDS,
    elapsed,
    final_scores,
    learning_curves,
    performance_profiles,
    save_figure,
)
from cfdg_experiments.reports.statistics import mean_band, mean_interval

RATE = "throughput/env_steps_per_second"
TWELVE = tuple(f"recorded:{e}-{level}" for e in ("hopper", "walker2d", "halfcheetah") for level in "abcd")


def line(axes, label):
    return next(found for found in axes.lines if found.get_label() == label)


def _visible_ticks(axis):
    low, high = axis.get_view_interval()
    return [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def text_boxes(figure):
    """The boxes of all visible words, in pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    texts += [tick.label1 for axes in figure.axes for tick in _visible_ticks(axes.xaxis)]
    texts += [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    return [text.get_window_extent(renderer) for text in texts if text.get_text() and text.get_visible()]


def test_curves_are_means_with_their_intervals(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    figure = learning_curves(cells, header, refresh_steps={"iql": [100]})
    assert [axes.get_title() for axes in figure.axes] == ["hopper-medium", "halfcheetah-medium"]
    axes = figure.axes[1]
    for cell in cells[2:]:
        drawn = line(axes, cell.arm)
        np.testing.assert_array_equal(drawn.get_xdata(), cell.steps)
        np.testing.assert_allclose(drawn.get_ydata(), cell.scores.mean(0))
    assert line(axes, "dataset's own episodes").get_ydata()[0] == 38.5


def test_five_seeds_have_a_band_and_fewer_a_line_each(made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",))
    few = made_up.cell()
    axes = learning_curves([few], header).axes[0]
    assert not axes.collections
    drawn = np.stack([one.get_ydata() for one in axes.lines if one.get_linewidth() < 1])
    np.testing.assert_array_equal(drawn, few.scores)
    many = made_up.cell(seeds=range(5))
    axes = learning_curves([many], made_up.header(datasets=("recorded:hopper-medium",), seeds=tuple(range(5)))).axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    _, low, high = mean_band(many.scores)
    assert band[:, 1].min() == pytest.approx(low.min())
    assert band[:, 1].max() == pytest.approx(high.max())


def test_every_seed_is_inside_its_panel(made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",))
    cell = made_up.cell()
    cell.scores[0, 1] = 500.0
    low, high = learning_curves([cell], header).axes[0].get_ylim()
    assert low < cell.scores.min()
    assert high > 500.0


def test_one_seed_has_a_line_and_no_band(made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",), seeds=(0,))
    axes = learning_curves([made_up.cell(seeds=(0,))], header).axes[0]
    assert len(axes.collections) == 0
    assert len(axes.lines) == 2  # the mean and the behaviour score


@pytest.mark.parametrize("datasets", [TWELVE[:1], TWELVE[:3], TWELVE[:5], TWELVE], ids=len)
@pytest.mark.parametrize("draw", [learning_curves, final_scores])
def test_words_do_not_overlap_and_stay_on_the_page(made_up, datasets, draw):
    header = made_up.header(datasets=datasets)
    figure = draw(made_up.all_cells(header), header)
    boxes = text_boxes(figure)
    width, height = figure.canvas.get_width_height()
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:index])


@pytest.mark.parametrize("draw", [learning_curves, final_scores, performance_profiles])
def test_words_of_eight_arms_do_not_overlap(made_up, draw):
    arms = ("base", "base-share", "repeat", "jitter", "synther", "edis", "cfdg", "cfdg-simulated")
    header = made_up.header(datasets=TWELVE[:2], arms=arms)
    figure = draw(made_up.all_cells(header), header)
    boxes = text_boxes(figure)
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
    lines = [found for found in figure.axes[0].lines if found.get_label() in arms]
    assert len({(found.get_color(), found.get_linestyle()) for found in lines}) == len(lines), "arms can be told apart"


def test_curves_over_seconds_stand_at_the_times_of_the_evaluations(made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",))
    rate = np.array([[np.nan, 50.0, 40.0]] * 3)
    cells = [replace(cell, metrics={RATE: rate}) for cell in made_up.all_cells(header)]
    assert elapsed(cells[0]).tolist() == [0.0, 2.0, 5.0]
    axes = learning_curves(cells, header, over=SECONDS).axes[0]
    assert line(axes, "cfdg").get_xdata().tolist() == [0.0, 2.0, 5.0]
    assert "seconds" in axes.get_xlabel()


def test_a_profile_is_the_share_of_runs_above_a_score_and_needs_two_datasets(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    axes = performance_profiles(cells, header).axes[0]
    drawn = line(axes, "cfdg")
    finals = np.concatenate([cell.final for cell in cells if cell.arm == "cfdg"])
    for threshold, share in zip(drawn.get_xdata(), drawn.get_ydata(), strict=True):
        assert share == pytest.approx((finals > threshold).mean())
    assert performance_profiles(cells[:2], header) is None


def test_panels_of_all_algorithms_and_pending_ones(made_up):
    header = made_up.header(algorithms=("iql", "pex"))
    figure = learning_curves(made_up.all_cells(header)[:3], header)
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes][2] == "PEX, hopper-medium"
    assert [text.get_text() for text in figure.axes[3].texts] == ["pending"]


def test_points_stand_at_means_and_differences(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    left, right = final_scores(cells, header).axes
    assert len(left.containers) == 2
    assert len(right.containers) == 1
    values = left.containers[0].lines[0].get_xdata().astype(float)
    np.testing.assert_allclose(values[:2], [cells[0].final.mean(), cells[2].final.mean()])
    gaps = [cells[1].final - cells[0].final, cells[3].final - cells[2].final]
    np.testing.assert_allclose(right.containers[0].lines[0].get_xdata().astype(float)[:2], [gap.mean() for gap in gaps])
    bar = right.containers[0].lines[2][0].get_segments()[0]
    assert (bar[:, 0].max() - bar[:, 0].min()) / 2 == pytest.approx(mean_interval(gaps[0]).half_width)


def test_the_caption_warns_unless_it_is_the_papers_protocol(made_up):
    header = made_up.header(datasets=("d4rl:hopper-medium-v2",), profile="paper", seeds=tuple(range(5)))
    header = replace(header, offline_steps={"iql": 1_000_000}, online_steps={"iql": 1_000_000})
    cell = made_up.cell("d4rl:hopper-medium-v2", seeds=tuple(range(5)))
    for found, warned in ((header, False), (replace(header, seeds=(0, 1)), True)):
        words = " ".join(text.get_text() for text in learning_curves([cell], found).texts)
        assert "Profile paper, d4rl data" in words.replace("\n", " ")
        assert ("Not a reproduction" in words) == warned


def test_files_are_images(tmp_path, made_up):
    header = made_up.header()
    save_figure(learning_curves(made_up.all_cells(header), header), tmp_path / "curves.png")
    image = imread(tmp_path / "curves.png")
    assert image.shape[1] > image.shape[0] > 300
    assert image[..., :3].std() > 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
