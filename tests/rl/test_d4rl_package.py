"""Our constants and our transitions against those of the d4rl package, where it is installed.

d4rl is imported in a process of its own: it needs modules that no longer work (mujoco_py) hidden, and it warns a lot.
"""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.checksums import write_hdf5
from cfdg_rl.datasets.d4rl import implied_timeouts, read_hdf5, read_rows
from cfdg_rl.datasets.scores import Family
from cfdg_rl.datasets.trajectories import continues

ROBOT = Family("Small", 3, 2, 0.0, 1.0, max_episode_steps=5)
MAZE = replace(ROBOT, sparse=True)

SCRIPT = """
import json, os, sys
for name in ("mujoco_py", "dm_control", "pybullet", "pybullet_envs", "flow", "carla"):
    sys.modules[name] = None
os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"
import d4rl
import d4rl.infos as infos
import d4rl.offline_env
import gym
import numpy as np

class Env(d4rl.offline_env.OfflineEnv):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,))
    _max_episode_steps = 5

for path in sys.argv[2:]:
    env = Env()
    np.savez(path + ".npz", **d4rl.qlearning_dataset(env, env.get_dataset(path)))
tables = {"url": infos.DATASET_URLS, "min": infos.REF_MIN_SCORE, "max": infos.REF_MAX_SCORE}
with open(sys.argv[1], "w") as file:
    json.dump(tables, file)
"""


def columns(rows, seed=0, **changed):
    rng = np.random.default_rng(seed)
    made = {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "next_observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": rng.random(rows) < 0.1,
        "timeouts": rng.random(rows) < 0.1,  # anywhere, also beside and upon terminal rows
    } | changed
    return {key: column for key, column in made.items() if column is not None}


def maze(rows=60):
    """Trajectories of 20 rows that stay at the goal for four of them, then go on; the third starts at the goal."""
    step = np.arange(rows) % 20
    goal = ((step >= 11) & (step <= 14)) | (np.arange(rows) == 40)
    obs = np.stack([step * 0.1 + np.arange(rows) // 20 * 30, np.zeros(rows), np.ones(rows)], axis=1)
    return columns(
        rows,
        observations=obs.astype(np.float32),
        next_observations=None,
        rewards=goal.astype(np.float32)[:, None],
        terminals=goal[:, None],
        timeouts=step == 19,
    )


CASES = {
    "misplaced time-outs": (ROBOT, columns(200)),
    "no next observations": (ROBOT, columns(200, 1, next_observations=None)),
    "rewards and terminals in a column": (
        ROBOT,
        columns(50, 2, rewards=np.arange(50.0)[:, None], terminals=np.arange(50)[:, None] % 7 == 3),
    ),
    "the last row terminates": (ROBOT, columns(9, 3, terminals=np.arange(9) == 8, timeouts=np.zeros(9, bool))),
    "the last row times out": (ROBOT, columns(9, 4, terminals=np.zeros(9, bool), timeouts=np.arange(9) == 8)),
    "one episode": (ROBOT, columns(5, 5, terminals=np.zeros(5, bool), timeouts=np.arange(5) == 4)),
    "one episode that falls": (ROBOT, columns(4, 6, terminals=np.arange(4) == 3, timeouts=np.zeros(4, bool))),
    "no time-outs stored": (ROBOT, columns(23, 7, terminals=np.zeros(23, bool), timeouts=None)),
    "double precision": (ROBOT, columns(40, 8, observations=np.random.default_rng(8).normal(size=(40, 3)))),
    "a maze": (MAZE, maze()),
}
COUNTED = "no time-outs stored, and falls"


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """Folder of the files, and D4RL's transitions of each and its tables."""
    if importlib.util.find_spec("d4rl") is None:
        pytest.skip("d4rl is not installed (extra d4rl)")
    folder = tmp_path_factory.mktemp("d4rl")
    falls = columns(14, 9, terminals=np.arange(14) == 1, timeouts=None)
    paths = [folder / f"{name}.hdf5" for name in (*CASES, COUNTED)]
    for path, made in zip(paths, [*(made for _, made in CASES.values()), falls], strict=True):
        write_hdf5(path, made, {})
    command = [sys.executable, "-c", SCRIPT, str(folder / "tables.json"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ImportError" in done.stderr:
        pytest.skip(f"d4rl cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def tables(official):
    return json.loads((official / "tables.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reference_returns_are_d4rls(name, tables):
    assert PUBLISHED[name].family.reference == (tables["min"][name], tables["max"][name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_addresses_are_d4rls(name, tables, monkeypatch):
    monkeypatch.delenv("CFDG_D4RL_URL", raising=False)
    assert PUBLISHED[name].url().rpartition("/")[2] == tables["url"][name].rpartition("/")[2]
    assert PUBLISHED[name].url() == tables["url"][name]


@pytest.mark.parametrize("case", CASES)
def test_the_transitions_are_d4rls_but_for_the_mended_next_observation_of_terminal_rows(case, official):
    path = official / f"{case}.hdf5"
    family = CASES[case][0]
    with np.load(f"{path}.npz") as theirs:
        ours = read_hdf5(path, family)[0]
        raw = read_rows(path, family)
        assert len(ours) == len(theirs["rewards"])
        np.testing.assert_array_equal(ours.obs.numpy(), theirs["observations"])
        np.testing.assert_array_equal(ours.action.numpy(), theirs["actions"])
        np.testing.assert_array_equal(ours.reward.numpy(), theirs["rewards"])
        np.testing.assert_array_equal(ours.terminal.numpy(), theirs["terminals"].astype(np.float32))
        kept = ~raw.timeout
        kept[-1] = False
        mended = (raw.terminal & ~continues(raw, sparse=family.sparse))[kept]
        np.testing.assert_array_equal(ours.next_obs.numpy()[~mended], theirs["next_observations"][~mended])
        stored = CASES[case][1].get("next_observations", CASES[case][1]["observations"])
        np.testing.assert_array_equal(ours.next_obs.numpy()[mended], stored[kept][mended].astype(np.float32))
        if family.sparse:
            assert not mended.any()
            assert theirs["terminals"].sum() == 13


def test_without_stored_time_outs_d4rls_counter_is_one_ahead_after_a_terminal_and_ours_is_not(official):
    """A difference on purpose: D4RL drops a good row there and keeps one that leads into the next episode."""
    path = official / f"{COUNTED}.hdf5"
    raw = read_rows(path, ROBOT)
    assert np.flatnonzero(implied_timeouts(raw.terminal, 5)).tolist() == [6, 11]  # rows 2 to 6 and 7 to 11
    with np.load(f"{path}.npz") as theirs:
        kept = [int(np.flatnonzero((raw.obs == row).all(axis=1))[0]) for row in theirs["observations"]]
    assert kept == [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12]  # rows 5 and 10 instead of 6 and 11; 13 is the last
