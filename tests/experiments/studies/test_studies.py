"""Figures and ablations from command line to files: the engine with tiny cells, and what it refuses."""

import csv
import re
import shlex
from pathlib import Path

import pytest

import cfdg_experiments.studies.run
from cfdg_experiments.arms import ARMS
from cfdg_experiments.cli import build_parser, main
from cfdg_experiments.studies import figure1
from cfdg_experiments.studies.embedding import EmbeddingSettings
from cfdg_experiments.studies.study import STUDIES

TINY = [
    "data.rows=10000", "iql.hidden=[16,16]", "pretrain.steps=20", "finetune.steps=60", "finetune.warm_up=10",
    "finetune.refresh_every=20", "finetune.synthetic_rows=64", "diffusion.width=16", "diffusion.blocks=1",
    "diffusion.sampling_steps=4", "refresh.first_steps=8", "refresh.steps=4", "evaluation.every=30",
    "evaluation.episodes=1",
]  # fmt: skip
PAGE = Path(__file__).parents[3] / "docs/figures.md"
pytestmark = [  # MLflow and what it imports use things that their dependencies have deprecated
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run a command with its cells in this process; returns its words, and the names of the cells that were run."""
    monkeypatch.setenv("CFDG_CACHE", str(folder / "cache"))
    ran = []

    def serial(cells, space, jobs, notify, finished, task):
        for cell in cells:
            ran.append(cell.name)
            finished(cell, task(cell, space, notify))

    def command(*words):
        ran.clear()
        monkeypatch.setattr(cfdg_experiments.studies.run, "run_grid", serial)
        tiny = [*words, "--datasets", "hopper-medium", "--seeds", "0", "1", "--out", str(folder / "runs")]
        assert main([*tiny, "--set", *TINY]) == 0
        return capsys.readouterr().out, list(ran)

    return command


def records(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_an_ablation_from_end_to_end_and_nothing_twice(run, folder):
    _, ran = run("ablation", "--over", "guidance_weight=0,1")
    assert sorted(ran) == [f"recorded:hopper-medium/iql/{arm}" for arm in ("base", "cfdg", "cfdg")]
    out = folder / "runs" / "ablation-quick-guidance_weight"
    arms = [record["arm"] for record in records(out / "table.csv")]
    assert arms == ["base", "cfdg guidance_weight=0", "cfdg guidance_weight=1"]
    assert {record["arm"] for record in records(out / "scores.csv")} == set(arms)
    assert {record["verdict"] for record in records(out / "comparisons.csv")} <= {"better", "worse", "unresolved"}
    assert "Varied: guidance_weight 0, 1." in (out / "table.md").read_text()
    assert "the paper has no such comparison" in (out / "table.md").read_text()
    assert {"curves.png", "curves-seconds.png", "differences.png"} <= {path.name for path in out.iterdir()}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    words, again = run("ablation", "--over", "guidance_weight=0,1")
    assert again == []
    assert "3 of 3 cells are finished already and are skipped" in words
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_figure_uses_the_cells_that_another_study_finished(run, folder):
    run("ablation", "--over", "guidance_weight=0,1")
    words, ran = run("figure3")
    assert ran == ["recorded:hopper-medium/iql/cfdg-online-only"] or "cfdg-online-only" in words
    report = (folder / "runs" / "figure3-quick" / "table.md").read_text()
    assert "This is not a reproduction of the paper's Figure 3" in report
    assert "augmented with online data and augmented with both offline & online data" in report
    assert "Our runs on the same arms, final score: cfdg-online-only − base" in report
    assert (folder / "runs" / "mlflow.db").exists()


def test_figure_1_shows_what_the_last_refresh_made(run, folder, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(figure1, "SETTINGS", EmbeddingSettings(shown=30, perplexity=5, iterations=250))
    arms = ("--arms", "base", "cfdg", "cfdg-online-only")
    _, ran = run("figure1", *arms)
    assert len(ran) == 3, "a finished cell without a look at its rows is run again"
    out = folder / "runs" / "figure1-quick"
    found = {(record["arm"], record["label"], record["seed"]) for record in records(out / "likeness.csv")}
    labels = (("cfdg", "offline"), ("cfdg", "online"), ("cfdg-online-only", "online"))
    assert found == {(*pair, seed) for pair in labels for seed in "01"}
    assert (out / "embedding-iql-hopper-medium.png").stat().st_size > 10_000
    assert "![t-SNE](embedding-iql-hopper-medium.png)" in (out / "table.md").read_text()
    before = (out / "likeness.csv").read_bytes()
    _, again = run("figure1", *arms)
    assert again == []
    assert (out / "likeness.csv").read_bytes() == before


def test_a_dry_run_lists_the_columns_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "cfdg_experiments.studies.estimate.estimate_seconds", lambda cells, pretrainings, fits: 60.0 * len(cells)
    )
    words = ["ablation", "--over", "online_share=0.5,1", "--only", "hopper-medium", "--jobs", "1", "--dry-run"]
    assert main([*words, "--seeds", "0", "--out", str(tmp_path / "runs")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 seed runs in 3 groups, 3 groups to run; about 3 min" in said
    assert said.count("to run ") >= 3
    assert "online_" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["figure3", "--arms", "base", "cfgd"], "arms is 'cfgd' (did you mean cfdg"),
        (["ablation", "--over", "guidance_wight=0,1"], "unknown key 'guidance_wight' (did you mean guidance_weight"),
        (["ablation", "--over", "online_share=0,two"], "finetune.online_share is 'two', expected"),
        (["figure1", "--arms", "base"], "arms is base, expected one that generates rows, such as cfdg"),
        (
            ["figure1", "--arms", "cfdg", "--set", "finetune.refresh_every=2500"],
            "refresh_every is 2500, expected less than the steps of the run",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(words, message, tmp_path, capsys):
    pytest.importorskip("sklearn")
    assert main([*words, "--out", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert not (tmp_path / "runs").exists(), "nothing half-written"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_help_of_every_study_teaches(study, capsys):
    with pytest.raises(SystemExit) as ended:
        main([study.name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    lines = re.findall(r"^  (cfdg \w+.*)$", said, flags=re.MULTILINE)
    assert len(lines) == len(study.examples)
    for line in lines:
        parsed = build_parser().parse_args(shlex.split(re.split(r"\s{2,}", line)[0])[1:])
        assert parsed.command.args == (study,)
    names = "".join(said.split())  # long names are broken at their hyphens
    assert [arm for arm in ARMS if arm not in names] == []


def test_the_commands_of_the_page_on_figures_can_be_parsed():
    lines = re.findall(r"^(?:cfdg|hatch run experiments:)\S* ?.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(re.split(r"\s{2,}", line.replace("hatch run experiments:", "cfdg "))[0])
        build_parser().parse_args(words[1:])
