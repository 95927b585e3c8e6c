"""Minari's datasets, made on this machine by Minari itself."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from cfdg_rl.datasets import content_digest, is_sparse, load_dataset, minari, resolve_name, suite
from cfdg_rl.datasets.minari import flat_rows, split_name
from cfdg_rl.envs import make_env


@pytest.fixture
def library(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari", reason="minari is not installed (extra minari, Python 3.11 or newer)")


ODD = '''
import gymnasium
import numpy as np
from gymnasium import spaces

class Odd(gymnasium.Env):
    """Dict observations that count the steps; actions in [-2, 2]; ends at the third step where told so."""

    observation_space = spaces.Dict(z=spaces.Box(-9, 99, (2,), np.float32), a=spaces.Box(-9, 99, (1,), np.float32))

    def __init__(self, reward=0.5, end=False, bound=2):
        self.reward, self.end = reward, end
        self.action_space = spaces.Box(-bound, bound, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self._seen(), {}

    def step(self, action):
        self.clock += 1
        over = self.end and self.clock == 3
        return self._seen(), float(over) if self.end else self.reward, over, False, {}

    def _seen(self):
        return {"z": np.array([self.clock, -self.clock], np.float32), "a": np.array([10 + self.clock], np.float32)}
'''


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """An environment that Minari can name: it wants one that is found by module and class."""
    (tmp_path / "cfdg_test_odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, kwargs in (("CfdgTestOddCount-v0", {}), ("CfdgTestOddGoal-v0", {"end": True})):
        if name not in gymnasium.registry:
            gymnasium.register(name, "cfdg_test_odd:Odd", max_episode_steps=5, kwargs=kwargs)
    return "CfdgTestOddCount-v0"


def recorded(library, env_id, dataset_id, episodes=2, make=None, **metadata):
    """A Minari dataset of episodes of random actions."""
    env = gymnasium.make(env_id, **(make or {}))
    buffers = []
    for seed in range(episodes):
        obs = [env.reset(seed=seed)[0]]
        actions = []
        rest = []
        over = False
        env.action_space.seed(seed)
        while not over:
            actions.append(env.action_space.sample())
            step = env.step(actions[-1])
            obs.append(step[0])
            rest.append(step[1:4])
            over = step[2] or step[3]
        rewards, terminations, truncations = (list(column) for column in zip(*rest, strict=True))
        if isinstance(obs[0], dict):
            obs = {key: np.stack([each[key] for each in obs]) for key in obs[0]}
        fields = {"rewards": rewards, "terminations": terminations, "truncations": truncations}
        buffers.append(library.data_collector.EpisodeBuffer(seed, seed, None, obs, actions, **fields))
    about = {"algorithm_name": "random", "author": "us", "author_email": "us@example.org", "code_permalink": "-"}
    library.create_dataset_from_buffers(dataset_id, buffers, env, env, description="-", **about, **metadata)
    env.close()


@pytest.fixture
def hopper(library):
    recorded(library, "Hopper-v5", "cfdg/hopper/test-v0", episodes=3)
    return library.load_dataset("cfdg/hopper/test-v0")


def test_every_step_becomes_a_row_with_its_own_next_observation(hopper):
    data = load_dataset("minari:cfdg/hopper/test-v0")
    assert (data.env_id, data.obs_dim, data.action_dim, data.sparse) == ("Hopper-v5", 11, 3, False)
    episodes = list(hopper.iterate_episodes())
    assert len(data.transitions) == sum(len(episode) for episode in episodes)
    begin = 0
    for episode in episodes:
        rows = data.transitions.map(lambda column, at=slice(begin, begin + len(episode)): column[at])  # noqa: B008
        np.testing.assert_array_equal(rows.obs.numpy(), episode.observations[:-1].astype(np.float32))
        np.testing.assert_array_equal(rows.next_obs.numpy(), episode.observations[1:].astype(np.float32))
        np.testing.assert_array_equal(rows.terminal.numpy(), episode.terminations.astype(np.float32))
        begin += len(episode)
    assert data.episode_returns.tolist() == pytest.approx([episode.rewards.sum() for episode in episodes], rel=1e-5)


def test_d4rls_reference_serves_where_the_dataset_has_none(hopper):
    assert load_dataset("minari:cfdg/hopper/test-v0").reference == (-20.272305, 3234.3)


def test_rows_are_taken_from_the_beginning(hopper):
    assert len(load_dataset("minari:cfdg/hopper/test-v0", rows=7).transitions) == 7


def test_another_environment_may_be_named_and_must_fit(hopper):
    assert load_dataset("minari:cfdg/hopper/test-v0@Hopper-v4").env_id == "Hopper-v4"
    with pytest.raises(ValueError, match=r"observations have shape \(\d+, 11\), expected \(N, 17\)"):
        load_dataset("minari:cfdg/hopper/test-v0@Walker2d-v5")


def test_dict_observations_lie_as_the_environment_shows_them(library, odd):
    recorded(library, odd, "cfdg/odd-v0")
    data = load_dataset("minari:cfdg/odd-v0")
    env = make_env(data.env_id)
    assert data.transitions.obs[0].tolist() == env.reset(seed=0)[0].tolist() == [0, 0, 10]
    assert data.transitions.next_obs[4].tolist() == [5, -5, 15]  # the time limit fell, and s' is known
    assert len(data.transitions) == 10
    assert data.episode_returns.tolist() == [2.5, 2.5]
    assert data.reference is None
    assert data.behaviour_score == 2.5


def test_actions_are_mapped_as_the_environment_maps_them_back(library, odd):
    recorded(library, odd, "cfdg/odd-v0", episodes=1)
    stored = next(iter(library.load_dataset("cfdg/odd-v0").iterate_episodes())).actions
    action = load_dataset("minari:cfdg/odd-v0").transitions.action
    assert np.abs(stored).max() > 1
    np.testing.assert_allclose(action.numpy(), stored / 2, rtol=1e-6)


def test_the_references_of_the_dataset_come_first(library, odd):
    recorded(library, odd, "cfdg/odd-v0", ref_min_score=0.5, ref_max_score=4.5)
    data = load_dataset("minari:cfdg/odd-v0")
    assert data.reference == (0.5, 4.5)
    assert data.behaviour_score == pytest.approx(50.0)


def test_a_dataset_with_rewards_of_a_maze_is_one(library, odd):
    recorded(library, "CfdgTestOddGoal-v0", "cfdg/goal-v0")
    data = load_dataset("minari:cfdg/goal-v0")
    assert data.sparse
    assert data.reference == (0.0, 1.0)
    assert data.behaviour_score == 100.0
    assert is_sparse("minari:cfdg/goal-v0"), "and is known before it is loaded"


def test_a_dataset_made_anew_under_its_id_has_another_digest(library, odd):
    assert content_digest("minari:cfdg/odd-v0") == ""
    recorded(library, odd, "cfdg/odd-v0")
    first = content_digest("minari:cfdg/odd-v0")
    assert len(first) == 16
    assert content_digest(f"minari:cfdg/odd-v0@{odd}") == first
    library.delete_dataset("cfdg/odd-v0")
    recorded(library, odd, "cfdg/odd-v0", episodes=3)
    assert content_digest("minari:cfdg/odd-v0") not in ("", first)
    assert not is_sparse("minari:cfdg/odd-v0")


def test_an_environment_with_arguments_of_its_own_is_evaluated_with_them(library, odd):
    recorded(library, odd, "cfdg/own-v0", make={"reward": 2.0, "max_episode_steps": 4})
    data = load_dataset("minari:cfdg/own-v0")
    assert data.env_id == "cfdg-minari/cfdg.own-v0"
    env = make_env(data.env_id)
    env.reset(seed=0)
    steps = [env.step(np.zeros(1, np.float32)) for _ in range(4)]
    assert [step[1] for step in steps] == [2.0] * 4
    assert [step[3] for step in steps] == [False] * 3 + [True]


def test_an_environment_with_arguments_of_its_own_is_known_to_its_dataset(library, odd):
    recorded(library, odd, "cfdg/known-v0", make={"reward": 3.0, "bound": 1})
    env_id = load_dataset("minari:cfdg/known-v0?actions=normalised").env_id
    assert env_id == "cfdg-minari/cfdg.known-v0"
    gymnasium.registry.pop(env_id)  # as in another process
    minari.register_environment(env_id)
    env = make_env(env_id)
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[1] == 3.0
    gymnasium.registry.pop(env_id)
    library.delete_dataset("cfdg/known-v0")
    with pytest.raises(FileNotFoundError, match=r"without its dataset: no Minari dataset cfdg/known-v0 in Minari's"):
        minari.register_environment(env_id)
    minari.register_environment("Hopper-v5")


def test_a_missing_dataset_is_one_sentence_with_the_commands(library):
    with pytest.raises(FileNotFoundError, match=r"cfdg-datasets download minari:mujoco/hopper/medium-v0") as error:
        load_dataset("minari:mujoco/hopper/medium-v0")
    assert "minari download mujoco/hopper/medium-v0" in str(error.value)


def test_without_minari_the_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(ImportError, match=r"pip install 'cfdg-rl\[minari\]'"):
        load_dataset("minari:mujoco/hopper/medium-v0")
    assert minari.local_names() == []


def test_a_failed_download_is_one_sentence(library, monkeypatch):
    def broken(dataset_id):
        raise RuntimeError("no route to host\nmore about it")

    monkeypatch.setattr(library, "download_dataset", broken)
    with pytest.raises(OSError, match=r"minari:a/b-v0 could not be downloaded: no route to host$"):
        minari.download("a/b-v0")


@pytest.mark.parametrize("rest", ["", "hopper", "a/b-v0@", "../b-v0", "a b-v0"])
def test_what_is_no_name(rest):
    with pytest.raises(ValueError, match="expected minari:ID or minari:ID@ENV_ID"):
        resolve_name(f"minari:{rest}")


def test_names():
    assert split_name("mujoco/hopper/medium-v0") == ("mujoco/hopper/medium-v0", None)
    assert split_name("hopper-v0@cfdg/PointMazeUMaze-v0") == ("hopper-v0", "cfdg/PointMazeUMaze-v0")
    assert suite("minari:mujoco/hopper/medium-v0") == "locomotion"
    assert suite("minari:D4RL/pen/human-v2") == "adroit"
    assert suite("minari:D4RL/antmaze/medium-play-v1") == "maze"
    assert suite("minari:mine/hopper/medium-v0") == "custom"
    assert suite("minari:mine/jump-v0@Hopper-v5") == "locomotion"


def test_flat_rows_equal_gymnasiums_flatten():
    space = spaces.Dict(
        {"b": spaces.Box(-1, 1, (2, 3), np.float32), "a": spaces.Dict({"x": spaces.Box(0, 1, (1,), np.float32)})}
    )
    rows = [space.sample() for _ in range(4)]
    stacked = {
        "b": np.stack([row["b"] for row in rows]),
        "a": {"x": np.stack([row["a"]["x"] for row in rows])},
    }
    expected = np.stack([spaces.flatten(space, row) for row in rows])
    np.testing.assert_array_equal(flat_rows(space, stacked), expected)
    with pytest.raises(ValueError, match="expected a box or a dict of boxes"):
        flat_rows(spaces.Discrete(3), np.zeros(4))
