from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from cfdg_experiments.reports.header import count, deviations
from cfdg_experiments.reports.plots import final_scores
from cfdg_experiments.reports.records import scores_csv, to_csv
from cfdg_experiments.reports.report import notes, to_json, to_markdown, to_rich, write_report
from cfdg_experiments.reports.statistics import mean_interval
from cfdg_experiments.reports.summary import summarise


def printed(results, header, width, **options):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(to_rich(results, header, **options))
    return console.file.getvalue()


def table_of(markdown):
    block = next(block for block in markdown.split("\n\n") if block.startswith("| dataset |"))
    lines = [line[2:-2].split(" | ") for line in block.splitlines()]
    return lines[0], lines[2:]


def overview_of(markdown):
    block = next(block for block in markdown.split("\n\n") if block.startswith("| dataset, final score"))
    lines = [line.strip("| ").split(" | ") for line in block.splitlines()]
    return [lines[0], *lines[2:]]


def test_rows_carry_the_statistics_of_their_cells(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    row = summarise(cells, header)[0]
    assert (row.dataset, row.behaviour) == (header.datasets[0], 38.5)
    assert row.arms["base"].final == mean_interval(cells[0].final)
    assert row.differences["cfdg"].mean == pytest.approx(cells[1].final.mean() - cells[0].final.mean())
    assert (row.paper["cfdg"].mean, row.paper["cfdg"].std) == (97, 7)


def test_mean_row_speaks_of_the_complete_datasets_only(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    whole = summarise(cells, header)[-1]
    part = summarise(cells[:3], header)[-1]
    assert whole.dataset == "mean of 2/2"
    assert whole.arms["cfdg"].final.mean == pytest.approx(np.mean([cells[1].final, cells[3].final]))
    assert whole.paper["base"].mean == (93 + 69) / 2
    assert part.dataset == "mean of 1/2"
    assert part.arms["base"].final.mean == pytest.approx(cells[0].final.mean())
    assert part.paper["base"].mean == 93


def test_one_dataset_needs_no_mean_row(made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",))
    assert [row.is_mean for row in summarise(made_up.all_cells(header), header)] == [False]


def test_differences_are_paired_by_seed_whatever_the_order(made_up):
    base = made_up.cell()
    turned = replace(base, arm="cfdg", seeds=base.seeds[::-1], scores=base.scores[::-1] + 3, metrics={})
    found = summarise([base, turned], made_up.header())[0].differences["cfdg"]
    assert found.mean == pytest.approx(3)
    assert found.half_width == pytest.approx(0, abs=1e-9)


def test_the_papers_numbers_do_not_change_ours(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    names = {name: f"minari:{name}" for name in header.datasets}
    elsewhere = replace(header, datasets=tuple(names.values()))
    moved = [replace(cell, dataset=names[cell.dataset]) for cell in cells]
    for ours, other in zip(summarise(cells, header), summarise(moved, elsewhere), strict=True):
        assert ours.paper
        assert not other.paper
        assert (ours.arms, ours.differences) == (other.arms, other.differences)


def test_markdown_has_the_columns_and_labels_the_papers(made_up):
    header = made_up.header()
    titles, rows = table_of(to_markdown(made_up.all_cells(header), header))
    protocol = "(paper, D4RL v2, 1M+1M steps, 5 seeds)"
    ours = ["dataset", "data", "IQL base", "IQL + CFDG", "difference"]
    assert titles == [*ours, f"base {protocol}", f"CFDG {protocol}"]
    assert [row[0] for row in rows] == ["hopper-medium", "halfcheetah-medium", "mean of 2/2"]
    assert all(len(row) == len(titles) for row in rows)
    assert rows[0][-2:] == ["93±6", "97±7"]
    assert rows[2][-2:] == ["81.0", "86.0"]


def test_unfinished_cells_are_pending_or_show_where_they_are(made_up):
    header = made_up.header()
    key = (header.datasets[1], "iql", "cfdg")
    cells = made_up.all_cells(header)[:3]
    _, rows = table_of(to_markdown(cells, header))
    assert rows[1][3:5] == ["pending", ""]
    assert "3 of 4 cells finished." in notes(cells, header)
    text = printed(cells, header, 120, running={key: "41.2 at 4k"})
    assert "41.2 at 4k" in text
    assert "pending" not in text
    assert printed([], header, 120).count("pending") == 4


def test_several_algorithms_have_a_block_each(made_up):
    header = made_up.header(algorithms=("iql", "pex", "apl"))
    text = to_markdown(made_up.all_cells(header), header)
    for title in ("IQL + CFDG", "PEX + CFDG", "APL + CFDG"):
        assert text.count(title) == 2, "in its block and in the overview"
    assert "1M+0.1M steps" in text


def test_further_arms_are_compared_with_the_first(made_up):
    header = made_up.header(arms=("base", "cfdg", "cfdg-unguided"))
    titles, rows = table_of(to_markdown(made_up.all_cells(header), header))
    assert titles[3:7] == ["IQL + CFDG", "CFDG − base", "IQL + CFDG-UNGUIDED", "CFDG-UNGUIDED − base"]
    gap = summarise(made_up.all_cells(header), header)[0].differences["cfdg"]
    assert rows[0][4] == f"+{gap.mean:.1f}±{gap.half_width:.1f}"


def test_a_narrow_terminal_cuts_no_number(made_up):
    datasets = ("recorded:halfcheetah-medium-expert", "recorded:walker2d-medium-replay")
    header = made_up.header(datasets=datasets)
    cells = [replace(cell, scores=cell.scores * [[-1.5], [1.0], [3.0]]) for cell in made_up.all_cells(header)]
    text = printed(cells, header, 80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for cell in cells:
        assert f"±{mean_interval(cell.final).half_width:.1f}" in text
    assert "halfcheetah-medium-expert" in text


def test_one_seed_prints_no_interval(made_up):
    header = made_up.header(seeds=(0,))
    cells = [made_up.cell(d, arm, seeds=(0,)) for d, _, arm in header.cells()]
    _, rows = table_of(to_markdown(cells, header))
    assert "±" not in "".join("".join(row[:5]) for row in rows)
    assert "nan" not in to_markdown(cells, header)


def test_only_the_papers_protocol_counts_as_a_reproduction(made_up):
    header = made_up.header(("d4rl:hopper-medium-v2",), profile="paper", seeds=(0, 1, 2, 3, 4))
    header = replace(header, offline_steps={"iql": 1_000_000}, online_steps={"iql": 1_000_000})
    assert deviations(header) == []
    assert not any("not a reproduction" in note for note in notes([], header))
    for change in (
        {"profile": "reduced"}, {"seeds": (0, 1)}, {"offline_steps": {"iql": 5}}, {"online_steps": {"iql": 5}},
        {"datasets": ("recorded:hopper-medium",)}, {"datasets": ("d4rl:hopper-medium-v0",)},
        {"changed": ("iql.discount",)},
    ):  # fmt: skip
        changed = replace(header, **change)
        assert len(deviations(changed)) == 1, change
        assert any("This is not a reproduction" in note for note in notes([], changed))
        assert "This is not a reproduction" in to_markdown([], changed)
        assert "This is not a reproduction" in printed([], changed, 120, full=False)


def test_a_few_changed_settings_are_named_and_the_rest_counted(made_up):
    names = tuple(f"diffusion.{letter}" for letter in "abcdefg")
    assert "changed diffusion.a, diffusion.b" in deviations(made_up.header(changed=names[:2]))
    counted = "changed diffusion.a, diffusion.b, diffusion.c, diffusion.d and 3 more"
    assert counted in deviations(made_up.header(changed=names))


def test_caption_names_profile_data_steps_and_seeds(made_up):
    text = notes([], made_up.header())[0]
    assert text == "Profile quick, recorded data, 3k offline updates + 200 environment steps, 3 seeds (0, 1, 2)."
    assert [count(n) for n in (7, 1500, 20_000, 1_000_000)] == ["7", "1.5k", "20k", "1M"]


def test_csv_reads_back_as_the_results(made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)[:3]
    records = list(csv.DictReader(io.StringIO(to_csv(cells, header))))
    assert [record["status"] for record in records] == ["finished"] * 3 + ["pending"]
    for cell, record in zip(cells, records, strict=False):
        assert (record["dataset"], record["algorithm"], record["arm"]) == cell.key
        for name, values in {"offline": cell.offline, "final": cell.final, "late": cell.late}.items():
            expected = mean_interval(values)
            for statistic in ("mean", "low", "high", "std"):
                assert float(record[f"{name}_{statistic}"]) == getattr(expected, statistic)
    assert float(records[1]["difference_mean"]) == pytest.approx(cells[1].final.mean() - cells[0].final.mean())
    assert records[0]["difference_mean"] == records[3]["final_mean"] == ""
    assert (records[3]["paper_mean"], records[3]["paper_protocol"]) == ("75", "paper, D4RL v2, 1M+1M steps, 5 seeds")


def test_long_csv_reads_back_as_the_scores(made_up):
    cells = made_up.all_cells(made_up.header())
    records = list(csv.DictReader(io.StringIO(scores_csv(cells))))
    assert len(records) == sum(cell.scores.size for cell in cells)
    values = np.array([float(record["score"]) for record in records]).reshape(len(cells), 3, 3)
    np.testing.assert_array_equal(values, [cell.scores for cell in cells])
    assert {(r["seed"], r["step"]) for r in records} == {(str(a), str(b)) for a in (0, 1, 2) for b in (0, 100, 200)}


def test_json_is_strict_and_says_everything(made_up):
    header = made_up.header(seeds=(0,))
    cells = [made_up.cell(seeds=(0,))]
    text = json.dumps(to_json(cells, header), allow_nan=False)
    row = json.loads(text)["rows"][0]
    assert row["arms"]["base"]["final"] | {"mean": 0} == {"mean": 0, "low": None, "high": None, "std": None, "n": 1}
    assert row["arms"]["base"]["final"]["mean"] == cells[0].final[0]


def test_unknown_behaviour_score_is_a_dash(made_up):
    header = made_up.header(datasets=("recorded:hopper-medium",))
    _, rows = table_of(to_markdown([replace(made_up.cell(), behaviour_score=math.nan)], header))
    assert rows[0][1] == "–"


def test_a_report_is_the_same_files_twice(tmp_path, made_up):
    header = made_up.header()
    cells = made_up.all_cells(header)
    files = write_report(cells, header, tmp_path / "out", refresh_steps={"iql": [100]})
    names = {"table.md", "table.csv", "scores.csv", "comparisons.csv", "refreshes.csv", "results.json"}
    names |= {"curves.png", "differences.png", "performance.png"}
    assert {path.name for path in files} == names == {path.name for path in (tmp_path / "out").iterdir()}
    before = {path: path.read_bytes() for path in files}
    write_report(cells, header, tmp_path / "out", refresh_steps={"iql": [100]})
    assert before == {path: path.read_bytes() for path in files}


def test_a_report_of_nothing_has_no_figures(tmp_path, made_up):
    files = write_report([], made_up.header(), tmp_path)
    assert {path.suffix for path in files} == {".md", ".csv", ".json"}


def test_several_algorithms_have_an_overview_in_the_papers_layout(made_up):
    header = made_up.header(datasets=(made_up.cheetah, "recorded:pointmaze-umaze"), algorithms=("iql", "pex", "apl"))
    cells = made_up.all_cells(header)
    titles, *rows = overview_of(to_markdown(cells, header))
    assert titles[1:] == ["IQL", "IQL + CFDG", "PEX", "PEX + CFDG", "APL", "APL + CFDG"]
    assert rows[0][0] == "halfcheetah-medium"
    first = next(cell for cell in cells if cell.key == (made_up.cheetah, "iql", "base"))
    assert rows[0][1].startswith(f"{first.final.mean():.1f}±")
    assert rows[1][-2:] == ["–", "–"], "no APL on mazes"
    assert len(header.cells()) == 10


MANY = ("base", "base-share", "synther", "edis", "cfdg")


def test_more_than_three_arms_have_a_line_each(made_up):
    header = made_up.header(arms=MANY)
    cells = made_up.all_cells(header)
    titles, rows = table_of(to_markdown(cells, header))
    assert titles[:5] == ["dataset", "arm", "data", "IQL", "difference"]
    assert [row[1] for row in rows] == [*MANY] * 3
    gap = summarise(cells, header)[0].differences["edis"]
    assert rows[3][4] == f"{gap.mean:+.1f}±{gap.half_width:.1f}"
    assert [row[5] for row in rows[:5]] == ["93±6", "–", "–", "–", "97±7"]
    assert rows[0][4] == "", "the reference is compared with nothing"
    text = printed(cells, header, 80, full=False)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_arms_with_settings_of_their_own_are_compared_under_the_same(made_up):
    arms = ("base rows=5", "base rows=9", "cfdg rows=5", "cfdg rows=9")
    references = {"base rows=5": "base rows=5", "base rows=9": "base rows=9"}
    references |= {"cfdg rows=5": "base rows=5", "cfdg rows=9": "base rows=9"}
    header = made_up.header(datasets=("recorded:hopper-medium",), arms=arms, references=references, paper=None)
    cells = made_up.all_cells(header)
    found = summarise(cells, header)[0].differences
    assert set(found) == {"cfdg rows=5", "cfdg rows=9"}
    assert found["cfdg rows=9"].mean == pytest.approx((cells[3].final - cells[1].final).mean())
    assert "the paper has no such comparison" in to_markdown(cells, header)


def test_the_papers_words_and_ours_stand_apart(made_up):
    header = made_up.header()
    found = notes(made_up.all_cells(header), header)
    paper = next(note for note in found if note.startswith("The paper's Table 1"))
    ours = next(note for note in found if note.startswith("Our runs"))
    assert "15% average improvement" in paper
    assert "cfdg − base" in ours
    assert found.index(ours) == found.index(paper) + 1


def test_pictures_of_a_study_and_sections_join_the_report(tmp_path, made_up):
    header = made_up.header()
    files = write_report(
        made_up.all_cells(header),
        header,
        tmp_path,
        pictures={"more.png": lambda results, header: final_scores(results, header)},
        sections=["## Further\n\nwords"],
    )
    assert tmp_path / "more.png" in files
    text = (tmp_path / "table.md").read_text()
    assert text.index("## IQL: comparisons") < text.index("## Further") < text.index("Normalised score: 0 a random")
