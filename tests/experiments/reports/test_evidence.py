"""Evidence: verdicts, families of the correction, the paper's claims, and summaries over datasets."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cfdg_experiments.reports.evidence import comparisons_csv, contrasts, suite_summaries
from cfdg_experiments.reports.evidence_text import Evidence, p_text
from cfdg_experiments.reports.published import FIGURE_2_ITEM

SEEDS = (0, 1, 2, 3, 4)
ARMS = ("base", "synther", "edis", "cfdg")


def arm(made_up, name, gaps, dataset="recorded:hopper-medium"):
    """A cell whose final scores differ from the base's by ``gaps``."""
    base = made_up.cell(dataset, "base", seeds=SEEDS)
    return replace(base, arm=name, scores=base.scores + np.asarray(gaps)[:, None])


@pytest.fixture
def cells(made_up):
    found = []
    for dataset in ("recorded:hopper-medium", made_up.cheetah):
        found += [
            arm(made_up, "base", np.zeros(5), dataset),
            arm(made_up, "synther", [9, 10, 11, 10, 9.5], dataset),
            arm(made_up, "edis", [-3, 4, -2, 3, 0], dataset),
            arm(made_up, "cfdg", [9, 12, 10, 9, 11], dataset),
        ]
    return found


@pytest.fixture
def header(made_up):
    return made_up.header(seeds=SEEDS, arms=ARMS, paper=FIGURE_2_ITEM)


def test_a_verdict_needs_an_interval_without_zero(cells, header):
    found = {(one.comparison.arm, one.outcome): one for one in contrasts(cells, header) if one.family == "arms"}
    assert {pair: one.comparison.verdict for pair, one in found.items()} == {
        ("synther", "final score"): "better",
        ("edis", "final score"): "unresolved",
        ("cfdg", "final score"): "better",
        ("synther", "area"): "better",
        ("edis", "area"): "unresolved",
        ("cfdg", "area"): "better",
    }
    for one in found.values():
        difference = one.comparison.difference
        assert (difference.low > 0) == (one.comparison.verdict == "better")
    gaps = np.array([9, 12, 10, 9, 11.0])
    assert found["cfdg", "final score"].comparison.difference.mean == pytest.approx(gaps.mean())
    assert found["cfdg", "final score"].datasets == 2


def test_holm_is_over_the_arms_of_a_figure_for_each_outcome(cells, header):
    arms = [one.comparison for one in contrasts(cells, header) if (one.family, one.outcome) == ("arms", "final score")]
    raw = sorted(one.p for one in arms)
    corrected = sorted(one.holm for one in arms)
    assert corrected[0] == pytest.approx(3 * raw[0])
    assert corrected[-1] == pytest.approx(max(raw[-1], corrected[-2]))


def test_columns_of_the_same_runs_are_one_arm_of_the_correction(made_up, cells, header):
    """Of a setting that one algorithm reads, the columns of another one are the same runs twice."""
    twins = ("cfdg epsilon=0.1", "cfdg epsilon=0.2")
    both = [replace(cell, arm=twin) for twin in twins for cell in cells if cell.arm == "cfdg"]
    others = [cell for cell in cells if cell.arm != "cfdg"]
    copies = {f"{dataset}/iql/{twins[1]}": twins[0] for dataset in header.datasets}
    wide = replace(header, arms=(*ARMS[:3], *twins), copies=copies)
    found = [one.comparison for one in contrasts(others + both, wide) if one.family == "arms"]
    once = [one.comparison for one in contrasts(cells, header) if one.family == "arms"]
    assert [one.holm for one in found] == [one.holm for one in once]
    assert [one.arm for one in found] == [*ARMS[1:3], twins[0]] * 2
    alone = replace(wide, arms=twins)
    assert contrasts(both, alone) == [], "a run is not compared with itself"
    differing = replace(wide, copies=dict(list(copies.items())[:1]))
    assert len({one.comparison.arm for one in contrasts(others + both, differing)}) == 4


def test_the_papers_claims_are_tested_on_our_own_arms_and_printed_beside_its_words(cells, header):
    claims = [one for one in contrasts(cells, header) if (one.family, one.outcome) == ("claims", "final score")]
    pairs = {(one.comparison.arm, one.reference): one.comparison.verdict for one in claims}
    assert pairs == {("synther", "edis"): "better", ("cfdg", "synther"): "unresolved", ("cfdg", "edis"): "better"}
    paper, ours = Evidence.of(cells, header).claims(header)
    assert FIGURE_2_ITEM.caption in paper
    assert FIGURE_2_ITEM.reading in paper
    assert "cfdg − synther +0.3" in ours
    assert "unresolved" in ours


def test_claims_about_arms_that_are_not_there_are_left_out(made_up):
    header = made_up.header(seeds=SEEDS, arms=("base", "cfdg"), paper=FIGURE_2_ITEM)
    found = contrasts([arm(made_up, "base", np.zeros(5)), arm(made_up, "cfdg", np.ones(5))], header)
    assert {one.family for one in found} == {"arms"}


def test_datasets_without_both_arms_count_for_nothing(cells, header):
    part = [one for one in cells if one.key[::2] != (cells[0].dataset, "cfdg")]
    found = {one.comparison.arm: one.datasets for one in contrasts(part, header) if one.family == "arms"}
    assert found == {"synther": 2, "edis": 2, "cfdg": 1}
    assert contrasts(cells[:1], header) == []


def test_arms_are_summarised_over_the_datasets_that_all_have(cells, header):
    found = {one.arm: one for one in suite_summaries(cells, header)}
    finals = np.concatenate([one.final for one in cells if one.arm == "cfdg"])
    assert found["cfdg"].iqm.mean == pytest.approx(stats.trim_mean(finals, 0.25))
    assert found["cfdg"].gap.mean == pytest.approx(100 - finals.mean())
    assert found["cfdg"].improvement.mean == 1.0
    assert found["base"].improvement is None
    assert suite_summaries(cells, header) == list(found.values()), "the same results give the same numbers"
    assert suite_summaries(cells[:4], header) == [], "one dataset is no suite"


def test_csv_has_a_line_per_contrast(cells, header):
    records = list(csv.DictReader(io.StringIO(comparisons_csv(contrasts(cells, header)))))
    assert len(records) == 2 * (3 + 3)
    first = records[0]
    assert (first["family"], first["outcome"], first["arm"], first["reference"]) == (
        "arms",
        "final score",
        "synther",
        "base",
    )
    assert float(first["low"]) < float(first["mean"]) < float(first["high"])


def test_one_seed_resolves_nothing_and_prints_no_interval(made_up):
    header = made_up.header(seeds=(0,))
    found = [made_up.cell(d, a, seeds=(0,)) for d, _, a in header.cells()]
    table = Evidence.of(found, header).tables(header)[0]
    assert {line[4] for line in table.lines} == {"unresolved"}
    assert {line[3] for line in table.lines} == {"–"}
    assert "[" not in "".join(line[2] for line in table.lines)


def test_p_values_read_well():
    assert [p_text(p) for p in (0.0002, 0.034, 0.5, float("nan"))] == ["<0.001", "0.034", "0.5", "–"]
