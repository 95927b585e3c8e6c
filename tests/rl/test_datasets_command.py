"""Names of all sources, your own files, and the command that lists, shows, verifies and downloads."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from cfdg_rl.datasets import dataset_names, load_dataset, resolve_name, suite
from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.checksums import write_hdf5
from cfdg_rl.datasets.cli import main
from cfdg_rl.datasets.recorded import recording


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("CFDG_D4RL_URL", raising=False)


def hopper_columns(rows=300, **changed):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(rows, 11)).astype(np.float32)
    return {
        "observations": obs,
        "actions": rng.uniform(-1, 1, size=(rows, 3)).astype(np.float32),
        "rewards": np.ones(rows, np.float32),
        "terminals": np.arange(rows) == 49,
        "timeouts": np.arange(rows) % 100 == 99,
    } | changed


@pytest.fixture
def hopper(monkeypatch):
    """A file that passes for D4RL's hopper-medium-v2."""
    monkeypatch.setitem(PUBLISHED, "hopper-medium-v2", replace(PUBLISHED["hopper-medium-v2"], rows=300))
    path = PUBLISHED["hopper-medium-v2"].local
    write_hdf5(path, hopper_columns(), {})
    return path


def point_file(folder, env_scale=1.0, **changed):
    made = {
        "observations": np.linspace(-1, 1, 40, dtype=np.float32)[:, None],
        "actions": np.full((40, 1), env_scale, np.float32),
        "rewards": np.arange(40, dtype=np.float32),
        "terminals": np.zeros(40, bool),
        "timeouts": np.arange(40) % 20 == 19,
    } | changed
    path = folder / "own.hdf5"
    write_hdf5(path, made, {})
    return path


def test_the_suite_is_known_from_the_name():
    assert suite("hopper-medium") == suite("d4rl:walker2d-random-v2") == "locomotion"
    assert suite("d4rl:antmaze-large-play-v2") == "maze"
    assert suite("d4rl:relocate-human-v1") == "adroit"
    assert suite("hdf5:nowhere.hdf5@Own-v0") == "custom"
    assert suite("hdf5:nowhere.hdf5@HalfCheetah-v5") == "locomotion"
    assert suite("hdf5:nowhere.hdf5@cfdg/AntMazeUMaze-v2") == "maze"
    assert {suite(name) for name in dataset_names()} == {"locomotion", "maze", "adroit"}


def test_names_of_your_own_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_name("hdf5:runs/a.hdf5@Hopper-v5") == f"hdf5:{tmp_path}/runs/a.hdf5@Hopper-v5"
    assert resolve_name("hdf5:/x@y/a.hdf5@Hopper-v5") == "hdf5:/x@y/a.hdf5@Hopper-v5"
    for name in ("hdf5:a.hdf5", "hdf5:@Hopper-v5", "hdf5:a.hdf5@"):
        with pytest.raises(ValueError, match="expected hdf5:PATH@ENV_ID"):
            resolve_name(name)
    with pytest.raises(ValueError, match=r"no dataset 'd4rl:hoper-medium-v2'; near names: d4rl:hopper-medium-v2"):
        resolve_name("d4rl:hoper-medium-v2")


def test_a_file_of_your_own(tmp_path, point):
    data = load_dataset(f"hdf5:{point_file(tmp_path)}@{point}")
    assert (data.env_id, data.obs_dim, data.action_dim, data.sparse, data.reference) == (point, 1, 1, False, None)
    assert len(data.transitions) == 38
    returns = [sum(range(20)), sum(range(20, 40))]
    assert data.episode_returns.tolist() == data.normalised_score(data.episode_returns).tolist() == returns
    assert data.behaviour_score == np.mean(returns)
    assert len(load_dataset(f"hdf5:{tmp_path}/own.hdf5@{point}", rows=5).transitions) == 5


def test_your_own_file_is_scored_on_d4rls_scale_where_there_is_one(tmp_path):
    path = tmp_path / "own.hdf5"
    write_hdf5(path, hopper_columns(), {})
    data = load_dataset(f"hdf5:{path}@Hopper-v5")
    assert data.reference == (-20.272305, 3234.3)
    assert data.episode_returns.tolist() == [50, 50, 100, 100]


def test_your_own_rewards_of_a_maze(tmp_path, point):
    goal = np.arange(40) % 20 == 10
    data = load_dataset(f"hdf5:{point_file(tmp_path, rewards=goal.astype(np.float32), terminals=goal)}@{point}")
    assert data.sparse
    assert data.reference == (0.0, 1.0)
    assert data.episode_returns.tolist() == [1, 0, 1, 0]  # positions are not known to be columns 0 and 1


def test_actions_of_another_box_are_mapped(tmp_path):
    if "CfdgTestWide-v0" not in gymnasium.registry:
        gymnasium.register("CfdgTestWide-v0", Wide, max_episode_steps=20)
    name = f"hdf5:{point_file(tmp_path, env_scale=3.0)}@CfdgTestWide-v0"
    assert load_dataset(name).transitions.action.unique().tolist() == [0.5]
    with pytest.raises(ValueError, match=r"an action is 1.5 in absolute value at row 0, expected at most 1"):
        load_dataset(f"hdf5:{point_file(tmp_path, env_scale=-5.0)}@CfdgTestWide-v0")


class Wide(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-3, 3, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-3, 5, (1,), np.float32)


def test_an_environment_without_a_time_limit_is_refused(tmp_path):
    if "CfdgTestEndless-v0" not in gymnasium.registry:
        gymnasium.register("CfdgTestEndless-v0", Wide)
    with pytest.raises(ValueError, match="'CfdgTestEndless-v0' has no time limit"):
        load_dataset(f"hdf5:{point_file(tmp_path)}@CfdgTestEndless-v0")


def test_a_file_of_one_row_has_no_transitions(tmp_path, point):
    made = {"observations": np.zeros((1, 1)), "actions": np.zeros((1, 1)), "rewards": np.zeros(1),
            "terminals": np.ones(1), "timeouts": np.zeros(1)}  # fmt: skip
    with pytest.raises(ValueError, match="has no transitions"):
        load_dataset(f"hdf5:{point_file(tmp_path, **made)}@{point}")


def test_list_says_what_is_here(hopper, capsys):
    PUBLISHED["walker2d-medium-v2"].local.write_text("<html>")
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(dataset_names()) <= set(lines)
    assert lines["d4rl:hopper-medium-v2"].split()[1:] == ["300", str(hopper)]
    assert lines["d4rl:walker2d-medium-v2"].split()[1] == "damaged"
    assert "cfdg-datasets download d4rl:pen-human-v1" in lines["d4rl:pen-human-v1"]
    assert "made on first use" in lines["recorded:hopper-medium"]


def test_show_counts_and_draws(hopper, capsys):
    assert main(["show", "hopper-medium-v2"]) == 0
    page = capsys.readouterr().out
    facts = dict(" ".join(line.split()).split(maxsplit=1) for line in page.splitlines() if line.strip())
    assert facts["transitions"] == "297 of 300 raw rows"  # two time-outs and the last row
    assert facts["complete"] == "episodes 4"
    assert facts["mean"] == "return 75.00 +- 25.00"
    assert facts["terminal"] == "rows 1"
    assert facts["time-out"] == "rows 3"
    assert facts["reward"] == "1 to 1, mean 1"
    assert page.count("#" * 40) == 2  # as many episodes of 50 rows as of 100
    assert facts["10"].split()[-1] == f"{load_dataset('d4rl:hopper-medium-v2').transitions.obs[:, 10].max():.4g}"


def test_show_of_data_without_references(tmp_path, point, capsys):
    assert main(["show", f"hdf5:{point_file(tmp_path)}@{point}"]) == 0
    assert "raw returns: no reference returns known" in capsys.readouterr().out


def test_verify_passes_what_is_right(hopper, tmp_path, point, capsys):
    assert main(["verify", "d4rl:hopper-medium-v2", f"hdf5:{point_file(tmp_path)}@{point}"]) == 0
    assert capsys.readouterr().out.count("right: ") == 2


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rewards": np.full(300, np.nan)}, "rewards is not finite at row 0"),
        ({"actions": np.full((300, 3), 7.0)}, "an action is 7 in absolute value at row 0"),
        ({"terminals": np.zeros(300), "timeouts": np.zeros(300)}, "no episode ends"),
        ({"observations": np.zeros((300, 4))}, "observations has shape (300, 4), expected (N, 11)"),
        (hopper_columns(200), "has 200 rows, expected 300 of hopper-medium-v2: it is incomplete"),
        (hopper_columns(400), "has 400 rows, expected 300 of hopper-medium-v2: it is another file"),
    ],
)
def test_verify_says_what_is_wrong_and_exits_1(changed, sentence, hopper, capsys):
    write_hdf5(hopper, hopper_columns() | changed, {})
    assert main(["verify", "hopper-medium-v2"]) == 1
    out = capsys.readouterr().out.strip()
    assert out.startswith("wrong: ")
    assert sentence in out
    assert out.count("\n") == 0


def test_verify_finds_episodes_beyond_the_limit_and_what_is_not_here(tmp_path, point, capsys):
    name = f"hdf5:{point_file(tmp_path, timeouts=np.arange(40) == 39)}@{point}"
    assert main(["verify", name, "d4rl:pen-human-v1", "recorded:hopper-random"]) == 1
    out = capsys.readouterr().out
    assert "the episode that ends at row 39 has 40 rows, expected at most 20" in out
    assert "cfdg-datasets download d4rl:pen-human-v1" in out
    assert "cfdg-datasets record hopper-random" in out


def test_verify_wants_rewards_of_mazes_where_the_goal_is(tmp_path, monkeypatch, capsys):
    file = replace(PUBLISHED["antmaze-umaze-v2"], rows=40)
    monkeypatch.setitem(PUBLISHED, file.name, file)
    goal = np.arange(40) == 8
    made = {"observations": np.zeros((40, 29)), "actions": np.zeros((40, 8)), "rewards": goal.astype(float),
            "terminals": np.zeros(40), "timeouts": np.arange(40) == 39}  # fmt: skip
    write_hdf5(file.local, made, {})
    assert main(["verify", file.name]) == 1
    assert "reward 1 and terminal 0 at row 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "hoper-medium"], "no dataset 'hoper-medium'; near names: recorded:hopper-medium"),
        (["show", "d4rl:door-human-v1"], "does not exist: run 'cfdg-datasets download d4rl:door-human-v1'"),
        (["download", "recorded:hopper-medium"], "is made on your machine"),
        (["download", "hoper-medium-v2"], "near names: d4rl:hopper-medium-v2"),
        (["download", "hopper-medium-v2", "--url", "ftp://x"], "expected http:// or https://"),
    ],
)
def test_bad_words_are_one_sentence_and_status_2(words, sentence, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error
    assert error.count("\n") == 0


def test_downloads_that_fail_are_told_one_by_one_and_exit_1(monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    words = ["download", "antmaze-umaze*", "--url", "http://127.0.0.1:9", "--tries", "1"]
    assert main(words) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert [line.partition("did not give ")[2].split("_noisy")[0] for line in errors] == ["Ant_maze_u-maze"] * 2


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    page = capsys.readouterr().out
    for word in ("list", "show", "verify", "download", "record", "hdf5:PATH@ENV_ID", "examples:", "exit status"):
        assert word in page


def test_recorded_files_verify(capsys):
    load_dataset("recorded:halfcheetah-medium-replay")
    assert recording.cache_folder().is_dir()
    assert main(["verify", "halfcheetah-medium-replay"]) == 0
