from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cfdg_rl.datasets import load_dataset
from cfdg_rl.datasets.catalogue import PUBLISHED, find_file, row_fault
from cfdg_rl.datasets.checksums import write_hdf5
from cfdg_rl.datasets.d4rl import NAMES, implied_timeouts, read_hdf5
from cfdg_rl.datasets.scores import Family
from cfdg_rl.datasets.trajectories import RawRows as Raw
from cfdg_rl.datasets.trajectories import episode_returns as returns_of
from cfdg_rl.datasets.trajectories import looks_sparse, to_transitions

SMALL = Family("Small", 2, 1, 0.0, 1.0, max_episode_steps=3)
MAZE = replace(SMALL, max_episode_steps=8, sparse=True)
FIELDS = ("obs", "action", "reward", "next_obs", "terminal")


def following(obs, terminals):
    """The observations of the rows below; those of terminal rows are no other row's."""
    return np.where(np.asarray(terminals, bool).reshape(-1, 1), obs + 100.0, np.roll(obs, -1, axis=0))


def columns(rows=6, **changed):
    """Rows whose values tell where they come from; a fall on row 2 and a time limit on row 4."""
    obs = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    made = {
        "observations": obs,
        "next_observations": following(obs, np.arange(rows) == 2),
        "actions": np.linspace(-1, 1, rows, dtype=np.float32)[:, None],
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": np.arange(rows) == 2,
        "timeouts": np.arange(rows) == 4,
    } | changed
    return {key: column for key, column in made.items() if column is not None}


def file_of(folder, **changed):
    path = folder / "small.hdf5"
    write_hdf5(path, columns(**changed), {})
    return path


def slow_qlearning(made):
    """D4RL's loop, word by word but for the mended terminal rows."""
    kept = []
    for i in range(len(made["rewards"]) - 1):
        if made["timeouts"][i]:
            continue
        next_obs = made["observations"][i + 1]
        if made["terminals"][i]:
            next_obs = made.get("next_observations", made["observations"])[i]
        kept.append((made["observations"][i], made["actions"][i], made["rewards"][i], next_obs, made["terminals"][i]))
    return kept


def slow_returns(made):
    finished = []
    total = 0.0
    for reward, terminal, timeout in zip(made["rewards"], made["terminals"], made["timeouts"], strict=True):
        total += float(reward)
        if terminal or timeout:
            finished.append(total)
            total = 0.0
    return finished


def assert_same_rows(transitions, kept):
    assert len(transitions) == len(kept)
    for field, values in zip(FIELDS, zip(*kept, strict=True), strict=False):
        torch.testing.assert_close(getattr(transitions, field), torch.tensor(np.array(values, dtype=np.float32)))


def test_the_rows_of_a_small_file(tmp_path):
    data, returns = read_hdf5(file_of(tmp_path), SMALL)
    assert data.reward.tolist() == [0, 1, 2, 3]  # row 4 hit the time limit, row 5 is the last
    assert data.terminal.tolist() == [0, 0, 1, 0]
    assert data.next_obs.tolist() == [[2, 3], [4, 5], [104, 105], [8, 9]]  # row 2 fell: its stored next observation
    assert returns.tolist() == [0 + 1 + 2, 3 + 4]  # row 5 is of an episode that did not end
    assert all(getattr(data, field).dtype == torch.float32 for field in FIELDS)


def test_terminal_rows_repeat_their_observation_without_next_observations(tmp_path):
    data, _ = read_hdf5(file_of(tmp_path, next_observations=None), SMALL)
    assert data.next_obs[2].tolist() == data.obs[2].tolist() == [4, 5]


def test_rewards_and_flags_may_be_columns(tmp_path):
    flat = read_hdf5(file_of(tmp_path), SMALL)[0]
    made = columns()
    stacked = {key: made[key][:, None] for key in ("rewards", "terminals", "timeouts")}
    wide = read_hdf5(file_of(tmp_path, **stacked), SMALL)[0]
    assert wide.reward.shape == (4,)
    for field in FIELDS:
        assert torch.equal(getattr(flat, field), getattr(wide, field))


def test_a_file_of_one_episode(tmp_path):
    path = file_of(tmp_path, rows=3, terminals=np.zeros(3, bool), timeouts=np.array([False, False, True]))
    data, returns = read_hdf5(path, SMALL)
    assert data.reward.tolist() == [0, 1]
    assert returns.tolist() == [3]


def test_without_timeouts_the_limit_is_counted_from_each_episode_start(tmp_path):
    terminals = np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 1], dtype=bool)
    assert np.flatnonzero(implied_timeouts(terminals, 3)).tolist() == [4, 7]
    path = file_of(tmp_path, rows=10, terminals=terminals, timeouts=None, next_observations=None)
    data, returns = read_hdf5(path, SMALL)
    assert data.reward.tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert returns.tolist() == [1, 9, 18, 17]


@settings(deadline=None)
@given(st.data())
def test_vectorised_equals_the_loop(data):
    rows = data.draw(st.integers(1, 40))
    flags = arrays(bool, rows)
    values = st.floats(-8, 8, width=16)
    made = {
        "observations": data.draw(arrays(np.float32, (rows, 2), elements=values)),
        "actions": data.draw(arrays(np.float32, (rows, 1), elements=st.floats(-1, 1, width=16))),
        "rewards": data.draw(arrays(np.float32, rows, elements=values)),
        "terminals": data.draw(flags),
        "timeouts": data.draw(flags),
    }
    made["next_observations"] = following(made["observations"], made["terminals"])
    keys = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    raw = Raw(*(made[key] for key in keys))
    assert_same_rows(to_transitions(raw), slow_qlearning(made))
    assert returns_of(raw).tolist() == pytest.approx(slow_returns(made))


def with_value(key, row, value, made):
    column = made[key].astype(np.float32)
    column[row] = value
    return {key: column}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rewards": None}, r"the keys are actions, next_observations, .*, timeouts, expected 'rewards'"),
        ({"observations": np.zeros((6, 5), np.float32)}, r"observations has shape \(6, 5\), expected \(N, 2\)"),
        ({"actions": np.zeros((6, 3), np.float32)}, r"actions has shape \(6, 3\), expected \(N, 1\)"),
        ({"actions": np.zeros(6, np.float32)}, r"actions has shape \(6,\), expected \(N, 1\)"),
        ({"rewards": np.zeros((6, 2), np.float32)}, r"rewards has shape \(6, 2\), expected \(N,\)"),
        ({"terminals": np.zeros((2, 3), bool)}, r"terminals has shape \(2, 3\), expected \(N,\)"),
        ({"rewards": np.zeros(5, np.float32)}, r"rewards has 5 rows, expected 6 as observations has"),
        ({"timeouts": np.zeros(7, bool)}, r"timeouts has 7 rows, expected 6 as observations has"),
        (with_value("next_observations", 1, np.nan, columns()), r"next_observations is not finite at row 1"),
        ({"next_observations": np.zeros((5, 2))}, r"next_observations has 5 rows, expected 6 as observations has"),
        ({"rewards": np.full(6, b"x")}, r"rewards holds \|S1, expected numbers"),
        (with_value("observations", 3, np.nan, columns()), r"observations is not finite at row 3"),
        (with_value("rewards", [1, 4], [np.inf, -np.inf], columns()), r"rewards is not finite at row 1"),
        ({"rewards": np.array([0, 0, 1e300, 0, 0, 0])}, r"rewards is not finite at row 2"),
        (with_value("actions", 2, -1.5, columns()), r"an action is 1.5 in absolute value at row 2"),
        ({key: column[:0] for key, column in columns().items()}, r"observations has 0 rows, expected"),
    ],
)
def test_faulty_files_are_refused_in_one_sentence(tmp_path, changed, sentence):
    path = file_of(tmp_path, **changed)
    with pytest.raises(ValueError, match=sentence) as error:
        read_hdf5(path, SMALL)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_actions_a_rounding_beyond_1_are_clipped(tmp_path):
    data, _ = read_hdf5(file_of(tmp_path, **with_value("actions", 0, -1.0001, columns())), SMALL)
    assert data.action[0] == -1.0


def test_truncated_and_foreign_files_are_refused(tmp_path):
    whole = file_of(tmp_path)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"small\.hdf5 is not a complete HDF5 file"):
        read_hdf5(whole, SMALL)
    whole.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"small\.hdf5 is not a complete HDF5 file"):
        read_hdf5(whole, SMALL)


def test_missing_files_name_the_address_and_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        load_dataset("d4rl:hopper-medium-replay-v2")
    address = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_medium_replay-v2.hdf5"
    assert address in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "cfdg-datasets download d4rl:hopper-medium-replay-v2" in str(error.value)
    with pytest.raises(FileNotFoundError):
        read_hdf5(tmp_path / "absent.hdf5", SMALL)


def test_the_names_are_d4rls_file_names(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    assert len(NAMES) == 22
    locomotion = [name for name in NAMES if not name.startswith("antmaze") and name.endswith("-v2")]
    assert len(locomotion) == 12
    names = {f"{name.removesuffix('-v2').replace('-', '_')}-v2.hdf5" for name in locomotion}
    names |= {f"{task}-human-v1.hdf5" for task in ("pen", "door", "hammer", "relocate")}
    names |= {
        f"Ant_maze_{maze}_noisy_multistart_{start}_multigoal_{goal}_sparse_fixed.hdf5"
        for maze, start, goal in (
            ("u-maze", False, False), ("u-maze", True, True), ("big-maze", True, False), ("big-maze", True, True),
            ("hardest-maze", True, False), ("hardest-maze", True, True),
        )
    }  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    assert {find_file(name).name for name in NAMES} == names


def pretend_published(monkeypatch, name, rows):
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], rows=rows))


def test_a_d4rl_dataset_is_evaluated_on_v4_and_cut_after_processing(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    pretend_published(monkeypatch, "hopper-medium-v2", 50)
    rows = 50
    wide = np.random.default_rng(0)
    ends = np.arange(rows) % 10 == 9
    made = columns(rows, observations=wide.normal(size=(rows, 11)), next_observations=None)
    made |= {"actions": np.zeros((rows, 3)), "terminals": np.zeros(rows, bool), "timeouts": ends}
    write_hdf5(tmp_path / "hopper_medium-v2.hdf5", made, {})
    whole = load_dataset("d4rl:hopper-medium-v2")
    cut = load_dataset("d4rl:hopper-medium-v2", rows=12)
    assert (whole.env_id, whole.obs_dim, whole.action_dim, len(whole.transitions)) == ("Hopper-v4", 11, 3, 45)
    assert torch.equal(cut.transitions.obs, whole.transitions.obs[:12])
    assert cut.episode_returns.tolist() == whole.episode_returns[:1].tolist(), "of the rows that are used"
    assert cut.notes == (
        "d4rl:hopper-medium-v2: the first 12 of 45 transitions are used; episodes and score are of these",
    )
    assert whole.behaviour_score == pytest.approx(whole.normalised_score(np.arange(50).reshape(5, 10).sum(1)).mean())


def test_a_broken_off_file_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    made = columns(50, observations=np.zeros((50, 11)), next_observations=None, actions=np.zeros((50, 3)))
    write_hdf5(tmp_path / "hopper_medium-v2.hdf5", made, {})
    with pytest.raises(ValueError, match=r"has 50 rows, expected 999,906 of hopper-medium-v2: it is incomplete"):
        load_dataset("d4rl:hopper-medium-v2")


def test_the_number_of_rows_may_differ_by_what_the_sources_differ():
    file = PUBLISHED["hopper-medium-v2"]
    assert row_fault(file, 999_906) is None
    assert row_fault(file, 1_000_000) is None
    assert "it is another file" in row_fault(file, 1_999_906)
    assert "it is incomplete" in row_fault(file, 990_000)
    assert row_fault(PUBLISHED["pen-human-v1"], 5000) is None


def maze_columns(**changed):
    """Two trajectories of 8 rows along a line, the first three rows at the goal and on, the second never there."""
    x = np.concatenate([np.arange(8.0), np.arange(8.0) + 50.0])
    goal = (x >= 4) & (x <= 6)
    return {
        "observations": np.stack([x, -x], axis=1).astype(np.float32),
        "actions": np.zeros((16, 1), np.float32),
        "rewards": goal.astype(np.float32)[:, None],
        "terminals": goal[:, None],
        "timeouts": np.arange(16) % 8 == 7,
    } | changed


def test_a_maze_trajectory_goes_on_behind_the_goal(tmp_path):
    path = tmp_path / "maze.hdf5"
    write_hdf5(path, maze_columns(), {})
    data, returns = read_hdf5(path, MAZE)
    assert returns.tolist() == [1, 0]  # three rows at the goal are one success
    assert len(data) == 14
    assert data.terminal.tolist() == data.reward.tolist() == [0] * 4 + [1] * 3 + [0] * 7
    assert data.next_obs[:, 0].tolist() == [*range(1, 8), *range(51, 58)]  # D4RL's own, true on terminal rows too


def test_a_maze_that_restarts_at_the_goal_is_mended(tmp_path):
    made = maze_columns(timeouts=np.arange(16) == 15)
    made["terminals"] = made["rewards"] = (np.arange(16) == 7)[:, None]  # the next row is 43 away
    path = tmp_path / "maze.hdf5"
    write_hdf5(path, made, {})
    data, returns = read_hdf5(path, MAZE)
    assert returns.tolist() == [1, 0]
    assert data.next_obs[7].tolist() == data.obs[7].tolist() == [7, -7]


def test_stored_next_observations_tell_whether_a_maze_restarts(tmp_path):
    made = maze_columns(timeouts=None)
    following = np.roll(made["observations"], -1, axis=0)
    following[6] += 0.5  # row 6 terminates and is not followed by its successor, rows 4 and 5 are
    made |= {"next_observations": following, "timeouts": np.arange(16) == 15}
    write_hdf5(tmp_path / "maze.hdf5", made, {})
    data, returns = read_hdf5(tmp_path / "maze.hdf5", MAZE)
    assert returns.tolist() == [1, 0]
    assert data.next_obs[6].tolist() == [7.5, -6.5]


def test_what_looks_like_a_maze():
    goal = np.array([False, True, False])
    assert looks_sparse(goal.astype(np.float32), goal)
    assert not looks_sparse(np.array([0.0, 0.5, 0.0]), goal)
    assert not looks_sparse(np.array([1.0, 1.0, 0.0]), goal)
    assert not looks_sparse(np.zeros(3), np.zeros(3, bool))


@pytest.mark.parametrize(
    ("name", "env_id", "sparse"),
    [("antmaze-medium-play-v2", "cfdg/AntMazeMedium-v2", True), ("door-human-v1", "AdroitHandDoor-v1", False)],
)
def test_mazes_and_hands_load_with_their_references(name, env_id, sparse, tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    pretend_published(monkeypatch, name, 16)
    family = PUBLISHED[name].family
    made = maze_columns() | {"actions": np.zeros((16, family.action_dim))}
    x = made["observations"][:, :1]
    made["observations"] = np.concatenate([x, np.zeros((16, family.obs_dim - 1))], axis=1)
    write_hdf5(PUBLISHED[name].local, made, {})
    data = load_dataset(f"d4rl:{name}")
    assert (data.env_id, data.sparse, data.reference) == (env_id, sparse, family.reference)
    assert (data.obs_dim, data.action_dim) == (family.obs_dim, family.action_dim)
    if sparse:
        assert data.behaviour_score == 50.0  # one of two trajectories succeeded


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path):
    path = file_of(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_hdf5(path, {"observations": np.zeros(3), "rewards": np.array([object()])}, {})
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["small.hdf5"]


def test_metadata_is_kept(tmp_path):
    path = tmp_path / "small.hdf5"
    write_hdf5(path, columns(), {"seed": 7, "generator": "test"})
    with h5py.File(path) as file:
        assert (file.attrs["metadata/seed"], file.attrs["metadata/generator"]) == (7, "test")
