"""Whatever is wrong ends with status 2 and one sentence that names file and column; no other exception escapes."""

import os
import string

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

QUICK = settings(
    max_examples=int(os.environ.get("CFDG_EXAMPLES", "30")),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
WORDS = ["", "a", "b", "y", "x", "1", "0", "-1", "nan", "inf", "a=1", "y=", "y=2", "=", ",", "a,b", "a: 0..1", "a <= b"]
WORDS += [
    "fixed: a",
    "a: ..",
    "a=number",
    "a=datetime",
    "b=datetime:%Y",
    "b=boolean",
    "a=category",
    "1e400",
    "%",
    "\x1f",
]
OPTIONS = {
    "fit": ["--label", "--kinds", "--drop", "--constraint", "--steps", "--time-budget", "--device", "--seed"],
    "sample": ["--label", "--fix", "--guidance", "--interval", "--steps", "--seed", "--device"],
    "impute": ["--seed", "--device"],
    "report": ["--label", "--rows", "--seed", "--kinds"],
    "inspect": ["--label", "--kinds"],
}
LAYOUT = ["--separator", "--decimal", "--thousands", "--missing"]


@pytest.fixture(scope="module")
def folder(tool):
    folder = tool.folder()
    table = pd.DataFrame({"a": range(30), "b": ["p", "q", "r"] * 10, "y": [0, 1] * 15})
    table.to_csv(folder / "t.csv", index=False)
    tool.fit(folder / "t.csv", folder / "m", "--label", "y")
    return folder


def ends_well(tool, *arguments):
    """Run a command that may be wrong: 0, or 2 with one sentence."""
    try:
        tool.run(*arguments)
    except AssertionError:
        tool.run(*arguments, status=2)


def odd_words(draw):
    return draw(st.sampled_from(WORDS) | st.text(string.printable, max_size=4))


@st.composite
def command_lines(draw):
    command = draw(st.sampled_from(list(OPTIONS)))
    said = draw(st.lists(st.sampled_from([*OPTIONS[command], *LAYOUT]), max_size=3))
    return command, [f"{option}={odd_words(draw)}" for option in said]


@QUICK
@given(line=command_lines())
def test_a_wrong_command_line_gets_one_sentence(tool, folder, line):
    command, said = line
    table = folder / "t.csv"
    files = {
        "fit": [table, "--dry-run"],
        "sample": [folder / "m", "-n", "2"],
        "impute": [folder / "m", table],
        "report": [table, table],
        "inspect": [table],
    }
    ends_well(tool, command, *files[command], *said)


CELL = st.one_of(
    st.sampled_from(
        ["", "1", "+1", "01", "1.5", "1e400", "NA", "p", "true", "2024-01-01", "9999-99-99", '"', "\x1f", "1_0"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)


@QUICK
@given(
    rows=st.lists(st.lists(CELL, min_size=2, max_size=3), min_size=1, max_size=5),
    name=st.sampled_from(["a", "b", "", "\n", "y"]),
)
def test_a_file_of_anything_gets_one_sentence(tool, folder, rows, name):
    path = folder / "odd.csv"
    path.write_bytes("\n".join([f'"{name}",b,y', *(",".join(row) for row in rows)]).encode())
    for command in (["fit", path, "--dry-run"], ["inspect", path], ["impute", folder / "m", path]):
        ends_well(tool, *command)
    ends_well(tool, "sample", folder / "m", "--labels", path)
    ends_well(tool, "sample", folder / "m", "--like", path, "--fix", "b")
    ends_well(tool, "fit", path, "--dry-run", "--kinds=b=datetime:%Y", "--kinds=y=boolean")


@QUICK
@given(data=st.data())
def test_a_parquet_file_of_anything_gets_one_sentence(tool, folder, data):
    pa = pytest.importorskip("pyarrow")
    cells = [[1, 2], [1.5, None], ["p", "q"], [None, None], [True, False], [[1], []], [b"p", b"q"], [{"p": 1}, None]]
    columns = {name: pa.array(data.draw(st.sampled_from(cells))) for name in ("a", "b", "y")}
    path = folder / "odd.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    for command in (["fit", path, "--dry-run"], ["impute", folder / "m", path], ["report", path, path]):
        ends_well(tool, *command)
    ends_well(tool, "fit", path, "--dry-run", "--kinds=b=datetime", "--kinds=y=boolean", "--kinds=a=text")
    ends_well(tool, "impute", folder / "m", path, "-o", folder / "out.parquet", "--force")
    ends_well(tool, "sample", folder / "m", "--labels", path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('a,b\n1,2\n"3,4\n5,6\n', "t.csv has a quote in line 3 that is never closed"),
        ('a,b\n1,"2\n', "t.csv has a quote in line 2 that is never closed"),
        ('"a,b\n1,2\n', "t.csv has a quote in line 1 that is never closed"),
        ('a,b\n1,"' + "x" * 200_000, "t.csv cannot be read from line 2 on, where a quote may be open"),
    ],
)
def test_an_open_quote_is_named_with_its_line(tool, content, sentence):
    folder = tool.folder()
    (folder / "t.csv").write_text(content)
    assert sentence in tool.run("fit", folder / "t.csv", "--dry-run", status=2).err


def test_a_separator_of_units_among_integers_is_text(tool):
    folder = tool.folder()
    (folder / "t.csv").write_text("a,b\n1\x1f2,2\n3,4\n")
    assert "a  category" in tool.run("fit", folder / "t.csv", "--dry-run").out


def test_a_name_with_a_line_break_and_an_empty_one_stay_in_their_line(tool):
    folder = tool.folder()
    (folder / "t.csv").write_text('"a\nb",,c\n1,2,3\n3,4,5\n')
    lines = tool.run("fit", folder / "t.csv", "--dry-run").out.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["'a\\nb'", "''", "c"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "arguments are required: COMMAND"),
        (["fit"], "the following arguments are required: TABLE"),
        (["wash"], "invalid choice: 'wash'"),
        (["sample", "m"], "one of the arguments -n/--rows --labels --like is required"),
        (["sample", "m", "-n", "0"], "'0' is no whole number from 1 on"),
        (["fit", "t.csv", "--wash"], "unrecognized arguments: --wash"),
        (["fit", "t.csv", "--kinds", "a=b"], "COLUMN=KIND with one of number"),
        (["fit", "t.csv", "--missing", "--quiet"], "argument --missing: expected one argument"),
        (["fit", "t.csv", "--missing", "-o", "m"], "argument --missing: expected one argument"),
        (["fit", "t.csv", "--missing"], "argument --missing: expected one argument"),
    ],
)
def test_wrong_options_get_one_sentence_without_the_usage(tool, words, sentence):
    told = tool.run(*words, status=2).err
    assert sentence in told
    assert "--help" in told
    assert "usage:" not in told


@pytest.mark.parametrize("option", [["--history", "h.txt"], ["--history", "no/h.csv"], ["--checkpoint", "no/c"]])
def test_a_name_that_cannot_be_written_is_refused_before_the_training(tool, option, monkeypatch):
    folder = tool.folder()
    pd.DataFrame({"a": range(30)}).to_csv(folder / "t.csv", index=False)
    monkeypatch.setattr("cfdg_diffusion.TabularDiffusion.fit", None)
    name, path = option
    told = tool.run("fit", folder / "t.csv", "-o", folder / "m", name, folder / path, status=2).err
    assert path.split("/")[0] in told
    assert [found.name for found in folder.iterdir()] == ["t.csv"]


def test_a_fault_of_the_package_is_told_in_one_line_with_its_place(tool, folder, monkeypatch):
    def broken(*_, **__):
        raise KeyError("of nobody")

    monkeypatch.setattr("cfdg_diffusion.TabularDiffusion.impute", broken)
    told = tool.run("impute", folder / "m", folder / "t.csv", status=1).err
    assert told.count("\n") == 1
    assert "please report it: KeyError 'of nobody' in " in told
    assert "test_sentences.py, line " in told
