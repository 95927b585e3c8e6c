from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from cfdg_experiments.cells.results import CellResult, replace_file


def test_a_cell_survives_its_file(tmp_path, made_up):
    cell = made_up.cell()
    cell.metrics["train/episode_return"][0, 0] = math.nan
    cell = replace(cell, behaviour_score=math.nan)
    cell.to_json(tmp_path / "deep" / "cell.json")
    back = CellResult.from_json(tmp_path / "deep" / "cell.json")
    assert (back.key, back.seeds, back.seconds) == (cell.key, cell.seeds, cell.seconds)
    np.testing.assert_array_equal(back.steps, cell.steps)
    np.testing.assert_array_equal(back.scores, cell.scores)
    assert math.isnan(back.behaviour_score)
    assert back.metrics.keys() == cell.metrics.keys()
    for name, curve in cell.metrics.items():
        np.testing.assert_array_equal(back.metrics[name], curve)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["cell.json"]


def test_offline_final_and_late(made_up):
    steps = (0, *range(10, 130, 10))
    cell = replace(made_up.cell(steps=steps), scores=np.tile(np.arange(13.0), (3, 1)))
    assert cell.offline.tolist() == [0, 0, 0]
    assert cell.final.tolist() == [12, 12, 12]
    assert cell.late.tolist() == [7.5, 7.5, 7.5]  # 3 ... 12
    assert made_up.cell(steps=(0,)).late.shape == (3,)


def test_late_leaves_out_the_pretrained_agent(made_up):
    cell = replace(made_up.cell(), scores=np.tile([-1000.0, 1.0, 3.0], (3, 1)))
    assert cell.late.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((2, 3))}, "scores have shape"),
        ({"scores": np.full((3, 3), np.nan)}, "not finite"),
        ({"steps": np.array([0, 200, 100])}, "expected increasing steps"),
        ({"seeds": (0, 0, 1)}, "expected every seed once"),
        ({"metrics": {"loss": np.zeros(7)}}, "metric 'loss' has shape"),
    ],
)
def test_inconsistent_cells_are_refused(made_up, change, message):
    with pytest.raises(ValueError, match=message):
        replace(made_up.cell(), **change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-20], "is not JSON"),
        (lambda text: "[1]", "expected an object"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "has format 9, expected 1"),
        (lambda text: text.replace('"arm"', '"leg"'), "unknown keys"),
        (lambda text: json.dumps(json.loads(text) | {"scores": [[None]]}), "is damaged"),
    ],
)
def test_spoilt_files_are_refused_by_name(tmp_path, made_up, spoil, message):
    path = tmp_path / "cell.json"
    made_up.cell().to_json(path)
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        CellResult.from_json(path)
    assert "cell.json" in str(caught.value)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path, made_up):
    """White space between numbers is no content; everything else is under the checksum."""
    path = tmp_path / "cell.json"
    made_up.cell().to_json(path)
    whole = path.read_bytes()
    content = json.loads(whole)
    for place in range(0, 8 * len(whole), 5):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            CellResult.from_json(path)
            assert json.loads(damaged) == content


def test_a_result_of_before_the_checksums_is_read(tmp_path, made_up):
    path = tmp_path / "cell.json"
    made_up.cell().to_json(path)
    values = json.loads(path.read_text())
    del values["sha256"]
    path.write_text(json.dumps(values))
    assert np.array_equal(CellResult.from_json(path).scores, made_up.cell().scores)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        CellResult.from_json(tmp_path / "none.json")


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("old", encoding="utf-8")

    def fail(temporary):
        temporary.write_text("half", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
