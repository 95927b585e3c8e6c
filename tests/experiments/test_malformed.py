"""Files of one cell in the place of another's, and wrong words of ``cfdg``: one sentence, status 2, nothing written."""

import pytest
import torch

from cfdg_experiments.cells.results import CellKey, CellResult
from cfdg_experiments.cli import main
from cfdg_experiments.profiles import selection
from cfdg_experiments.storage.named_checkpoints import load_named, save_named
from cfdg_experiments.storage.object_store import Store
from cfdg_rl.checkpoint import save_checkpoint


def test_a_checkpoint_under_another_name_is_refused(tmp_path):
    save_named(tmp_path / "one.safetensors", {"agent": torch.ones(2), "step": 3})
    assert load_named(tmp_path / "one.safetensors")["step"] == 3
    (tmp_path / "one.safetensors").rename(tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"two\.safetensors is that of one, expected two"):
        load_named(tmp_path / "two.safetensors")


def test_a_checkpoint_of_before_the_names_is_read(tmp_path):
    save_checkpoint(tmp_path / "old.safetensors", {"step": 3})
    assert load_named(tmp_path / "old.safetensors") == {"step": 3}


def test_a_result_in_the_place_of_another_cell_is_refused(tmp_path, made_up):
    made_up.cell(arm="base").to_json(tmp_path / "x.json")
    key = CellKey("recorded:hopper-medium", "iql", "base")
    assert CellResult.from_json(tmp_path / "x.json", key).key == key
    with pytest.raises(ValueError, match=r"x\.json is of the cell .*/base, expected .*/cfdg"):
        CellResult.from_json(tmp_path / "x.json", key._replace(arm="cfdg"))


def test_a_result_nested_without_end_is_one_sentence(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        CellResult.from_json(tmp_path / "x.json")


def test_a_flipped_bit_in_a_store_is_refused_by_name_or_changes_nothing(tmp_path, check_flips):
    store = Store(str(tmp_path))
    value = {"step": 3, "files": [{"local": "a", "sha256": "0"}], "rate": 0.5}
    store.write("a/plan.json", value)

    def read():
        found = store.read("a/plan.json")
        return {key: found[key] for key in value}

    assert read() == value
    check_flips(tmp_path / "a/plan.json", read, "a/plan.json", slice(None))


LINES = {
    "": "COMMAND",
    "wash": "wash",
    "table1 --wash": "--wash",
    "table1 --jobs x": "--jobs",
    "ablation": "--over",
    "cell x": "--store",
    "table1 --store ''": "store is ''",
    "table1 --store wash://x": "wash://x",
    "table1 --retries -1": "--retries is -1",
    "table1 --cell-cpus nan": "--cell-cpus is nan",
    "table1 --cell-gpus -1": "--cell-gpus is -1",
    "status --store t.csv": "t.csv",
    "status --store ''": "store is ''",
    "report --store absent": "absent",
    "ui --out runs --port 99999": "",
    "play": "RUN",
    "play t.csv --first-states -1": "--first-states is -1",
    "export x --format wash": "wash",
    "table1 --out t.csv --set seeds=[0]": "t.csv",
    "table1 --set data.rows=99999999999999 --dry-run": "rows is 99999999999999",
}


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_word_is_one_sentence(line, tmp_path, check_wrong_word):
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert LINES[line] in check_wrong_word(main, line)


def test_a_dataset_of_minari_without_minari_is_refused_by_a_dry_run(monkeypatch, capsys):
    def absent():
        raise ImportError("Minari datasets need Minari")

    monkeypatch.setattr(selection, "library", absent)
    assert main(["table1", "--only", "minari:mujoco/hopper/medium-v0", "--dry-run"]) == 2
    assert capsys.readouterr().err == "cfdg: error: Minari datasets need Minari\n"
