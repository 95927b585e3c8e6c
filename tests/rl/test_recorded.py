import importlib.util
import json
import sys
from types import SimpleNamespace

import h5py
import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cfdg_rl.datasets import dataset_names, load_dataset
from cfdg_rl.datasets.cli import main
from cfdg_rl.datasets.recorded import pack, recording, replay, train_behaviour
from cfdg_rl.datasets.recorded import rollout as recorder
from cfdg_rl.datasets.recorded.actor import LAYERS, Actor, fresh_actor, select_actor
from cfdg_rl.datasets.scores import FAMILIES, normalised_score
from cfdg_rl.envs import make_env
from cfdg_rl.files import load_arrays, save_arrays

ENVS = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5")


def actors_of(name, seed=0):
    return recording.behaviour_actors(recording.plan_recording(name, None, seed))


@pytest.fixture(scope="module")
def hopper():
    """Some 6,000 rows of the medium policy: two streams."""
    return recorder.record("Hopper-v5", actors_of("hopper-medium"), 6_000, seed=3)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key])


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(hopper):
    actors = actors_of("hopper-medium")
    assert_same(recorder.record("Hopper-v5", actors, 6_000, seed=3), hopper)
    other = recorder.record("Hopper-v5", actors, 1_000, seed=4)
    assert not np.array_equal(other["observations"][0], hopper["observations"][0])


def test_the_rows_do_not_depend_on_the_number_of_processes(monkeypatch):
    monkeypatch.setattr(recorder, "STREAM_ROWS", 400)  # 2,500 rows are then 7 streams in 2 chunks
    actors = actors_of("hopper-medium-expert")
    assert_same(*(recorder.record("Hopper-v5", actors, 5_000, seed=1, jobs=jobs) for jobs in (1, 2)))


def test_rows_chain_inside_episodes_and_only_there(hopper):
    ended = hopper["terminals"] | hopper["timeouts"]
    follows = (hopper["next_observations"][:-1] == hopper["observations"][1:]).all(axis=1)
    np.testing.assert_array_equal(follows, ~ended[:-1])


def test_every_episode_is_whole_and_starts_at_the_reset_pose(hopper):
    ends = np.flatnonzero(hopper["terminals"] | hopper["timeouts"])
    starts = np.concatenate([[0], ends + 1])
    starts = starts[starts < len(hopper["rewards"])]
    assert np.abs(hopper["observations"][starts, 0] - 1.25).max() <= 0.005 + 1e-6  # the height, reset noise 0.005
    assert np.abs(hopper["observations"][starts, 5:]).max() <= 0.005 + 1e-6


def test_a_healthy_body_is_never_terminal_and_a_fallen_one_always(hopper):
    height = hopper["next_observations"][:, 0]
    angle = hopper["next_observations"][:, 1]
    fallen = (height <= 0.7) | (np.abs(angle) >= 0.2)
    np.testing.assert_array_equal(fallen & ~hopper["timeouts"], hopper["terminals"])


@pytest.mark.parametrize("env_id", ENVS)
def test_rows_are_the_dynamics_of_the_gymnasium_environment(env_id):
    actor = actors_of(f"{env_id.split('-')[0].lower()}-medium")
    rows = recorder.record(env_id, actor, 1_000, seed=0)
    env = make_env(env_id)
    env.reset(seed=0)
    for i in range(0, 1_000, 37):
        env.unwrapped.set_state(rows["infos/qpos"][i].astype(float), rows["infos/qvel"][i].astype(float))
        obs, reward, terminated, *_ = env.unwrapped.step(rows["actions"][i])
        np.testing.assert_allclose(obs, rows["next_observations"][i], atol=2e-3, rtol=1e-3)
        assert reward == pytest.approx(rows["rewards"][i], abs=5e-3)
        assert terminated == rows["terminals"][i] or rows["timeouts"][i]
    env.close()


def test_the_time_limit_is_no_terminal():
    rows = recorder.record("HalfCheetah-v5", actors_of("halfcheetah-random"), 2_500, seed=0)
    assert np.flatnonzero(rows["timeouts"]).tolist() == [999, 1999]
    assert not rows["terminals"].any()


def test_a_fall_on_the_last_step_is_a_time_limit(monkeypatch):
    stack = SimpleNamespace(
        envs=[make_env("Hopper-v5")],
        obs=np.zeros((1, 11), np.float32),
        step=lambda action, members: (np.ones(1), np.array([True]), np.array([True])),
        close=lambda: None,
        reset=lambda members: None,
    )
    stack.envs[0].reset(seed=0)
    monkeypatch.setattr(recorder, "EnvStack", lambda env_id, seeds: stack)
    rows = recorder.roll_out(recorder.Chunk("Hopper-v5", actors_of("hopper-medium")[0], 0, 1, 1))
    assert (rows["timeouts"].tolist(), rows["terminals"].tolist()) == ([True], [False])


def test_a_mixture_is_whole_medium_episodes_then_the_expert():
    medium, expert = actors_of("hopper-medium-expert")
    rows = recorder.record("Hopper-v5", [medium, expert], 4_000, seed=5)
    alone = recorder.record("Hopper-v5", [medium], 2_000, seed=5)
    end = recorder.last_complete_row(alone, 2_000)
    assert 1_000 <= end <= 2_000
    assert len(rows["rewards"]) == 4_000
    np.testing.assert_array_equal(rows["observations"][:end], alone["observations"][:end])
    medium_best = max(whole_returns(rows, 0, end))
    assert medium_best < 2_000 < max(whole_returns(rows, end, 4_000))


def whole_returns(rows, begin, end):
    ends = begin + np.flatnonzero((rows["terminals"] | rows["timeouts"])[begin:end]) + 1
    return [part.sum() for part in np.split(rows["rewards"][begin:end], ends - begin)[:-1]]


def test_a_stochastic_action_is_the_squashed_gaussian_of_its_network():
    actor = fresh_actor(4, 2, np.random.default_rng(0), width=8)
    obs = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    noise = np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32)
    layers = []
    for name in LAYERS:
        layer = torch.nn.Linear(*actor.weights[f"{name}/weight"].shape)
        layer.weight.data = torch.from_numpy(actor.weights[f"{name}/weight"].T)
        layer.bias.data = torch.from_numpy(actor.weights[f"{name}/bias"])
        layers.append(layer)
    with torch.no_grad():
        hidden = layers[1](layers[0](torch.from_numpy(obs)).relu()).relu()
        expected = torch.tanh(layers[2](hidden) + layers[3](hidden).clamp(-20, 2).exp() * torch.from_numpy(noise))
    np.testing.assert_allclose(actor.act(obs, noise), expected.numpy(), atol=1e-6)


def test_the_deviation_of_an_actor_is_bounded():
    actor = fresh_actor(2, 1, np.random.default_rng(0), width=4)
    weights = dict(actor.weights) | {
        "log_std/bias": np.full(1, 50, np.float32),
        "mean/bias": np.full(1, -1, np.float32),
    }
    weights |= {f"{name}/weight": np.zeros_like(weights[f"{name}/weight"]) for name in ("mean", "log_std")}
    action = Actor(weights).act(np.zeros((1, 2), np.float32), np.full((1, 1), 0.1, np.float32))
    assert action[0, 0] == pytest.approx(np.tanh(-1 + 0.1 * np.exp(2)), rel=1e-5)


# Wide, because 4,000 rows are few episodes. Over 20,000 rows of each policy: Hopper 31 and 97, HalfCheetah 41 and 69,
# Walker2d 26 and 77.
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("hopper-random", 0, 3),
        ("hopper-medium", 24, 40),
        ("hopper-medium-expert", 35, 75),
        ("halfcheetah-random", -3, 2),
        ("halfcheetah-medium", 25, 46),
        ("halfcheetah-medium-expert", 40, 66),
        ("walker2d-random", -1, 2),
        ("walker2d-medium", 18, 34),
        ("walker2d-medium-expert", 30, 70),
    ],
)
def test_every_level_scores_in_its_band(name, low, high, tmp_path):
    data = load_dataset(f"recorded:{name}", rows=4_000, cache=tmp_path)
    assert low < data.behaviour_score < high
    assert data.env_id == f"{FAMILIES[name.split('-')[0]].env}-v5"


@pytest.mark.parametrize("env_id", ENVS)
def test_the_expert_stage_is_an_expert(env_id):
    family = env_id.split("-")[0].lower()
    returns = train_behaviour.deterministic_returns(actors_of(f"{family}-medium-expert")[1], env_id, 0, episodes=3)
    assert normalised_score(family, returns).mean() > 65


@pytest.mark.parametrize("family", FAMILIES)
def test_the_replay_is_a_chain_that_learns(family, tmp_path):
    data = load_dataset(f"{family}-medium-replay", cache=tmp_path)
    plan = recording.plan_recording(f"{family}-medium-replay", None, 0)
    rows = recording.replay_columns(plan)
    ended = rows["terminals"] | rows["timeouts"]
    inside = ~ended[:-1]
    np.testing.assert_array_equal(rows["next_observations"][:-1][inside], rows["observations"][1:][inside])
    assert not (rows["terminals"] & rows["timeouts"]).any()
    assert np.abs(rows["actions"]).max() <= 1.0
    assert len(data.transitions) == len(ended) - 1 - np.count_nonzero(rows["timeouts"][:-1])
    early, late = np.array_split(data.episode_returns, 2)
    assert late.mean() > 1.5 * max(early.mean(), 1.0)


def test_the_first_rows_of_a_replay_and_no_more_than_there_are(tmp_path):
    short = load_dataset("halfcheetah-medium-replay", rows=2_500, cache=tmp_path)
    whole = load_dataset("halfcheetah-medium-replay", rows=10**7, cache=tmp_path)
    assert (len(short.transitions), len(whole.transitions)) == (2_500 - 1 - 2, 60_000 - 60)
    assert len(short.episode_returns) == 2
    assert torch.equal(short.transitions.obs, whole.transitions.obs[: len(short.transitions)])


def test_the_second_load_reads_the_cache(tmp_path, monkeypatch):
    first = load_dataset("recorded:hopper-random", rows=1_000, cache=tmp_path)
    monkeypatch.setattr(recording, "record", lambda *_, **__: pytest.fail("rolled out again"))
    second = load_dataset("hopper-random", rows=1_000, cache=tmp_path)
    assert first.name == second.name == "recorded:hopper-random"
    for field in ("obs", "action", "reward", "next_obs", "terminal"):
        assert torch.equal(getattr(first.transitions, field), getattr(second.transitions, field))
    np.testing.assert_array_equal(first.episode_returns, second.episode_returns)


def test_a_recorded_file_that_was_changed_is_refused(tmp_path):
    load_dataset("hopper-random", rows=1_000, cache=tmp_path)
    (path,) = (tmp_path / "datasets").iterdir()
    with h5py.File(path, "a") as file:
        file["rewards"][7] += 1e-3
    with pytest.raises(ValueError, match="is damaged, its content has not the SHA-256 that is in it"):
        load_dataset("hopper-random", rows=1_000, cache=tmp_path)
    assert len(load_dataset(f"hdf5:{path}@Hopper-v5").transitions) == 1_000, "as one's own data it may be changed"


def test_the_file_has_d4rls_layout_and_says_what_made_it(tmp_path):
    load_dataset("hopper-random", rows=1_000, seed=2, cache=tmp_path)
    (path,) = (tmp_path / "datasets").iterdir()
    assert path.name == f"hopper-random-rows1000-seed2-v{recording.FORMAT}.hdf5"
    with h5py.File(path) as file:
        shapes = {
            key: file[key].shape for key in ("next_observations", "actions", "timeouts", "infos/qpos", "infos/qvel")
        }
        assert shapes == {
            "next_observations": (1_000, 11),
            "actions": (1_000, 3),
            "timeouts": (1_000,),
            "infos/qpos": (1_000, 6),
            "infos/qvel": (1_000, 6),
        }
        assert file.attrs["metadata/mujoco"] == mujoco.__version__
        assert file.attrs["metadata/seed"] == 2


def test_an_interrupted_recording_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "record", fail)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("hopper-random", rows=1_000, cache=tmp_path)
    assert not list(tmp_path.rglob("*.hdf5"))


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("CFDG_CACHE", raising=False)
    assert recording.cache_folder() == tmp_path / "xdg" / "cfdg" / "datasets"
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "own"))
    assert recording.cache_folder() == tmp_path / "own" / "datasets"
    assert recording.cache_folder(tmp_path) == tmp_path / "datasets"


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("recorded:hoper-medium", {}, "no dataset 'recorded:hoper-medium'; near names: recorded:hopper-medium"),
        ("d4rl:hopper-medium", {}, "near names: d4rl:hopper-medium-v2"),
        ("zzz", {}, "no dataset 'zzz'; known: recorded:hopper-random"),
        ("hopper-medium", {"rows": 0}, "rows is 0, expected at least 1"),
        ("hopper-medium", {"rows": 999}, "rows is 999 for .*, expected at least 1,000, 1 x one whole episode"),
        ("hopper-medium-expert", {"rows": 1999}, "rows is 1999 for .*, expected at least 2,000, 2 x one whole episode"),
        ("hopper-medium", {"seed": -1}, "seed is -1, expected a non-negative integer"),
        ("hopper-medium", {"jobs": 0}, "jobs is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(name, settings, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        load_dataset(name, cache=tmp_path, **settings)


def test_there_are_seventeen_recorded_names():
    names = [name for name in dataset_names() if name.startswith("recorded:")]
    assert len(names) == len(set(names)) == 17
    assert {"recorded:walker2d-medium-expert", "recorded:pointmaze-umaze"} < set(names)


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(-1e4, 1e4, width=32)))
def test_fixed_point_is_within_half_a_step_and_within_bounds(values):
    back = replay.decode(replay.encode(values))
    low = values.min(axis=0)
    high = values.max(axis=0)
    step = (high.astype(np.float64) - low) / (2**16 - 1)
    rounding = np.spacing(np.abs(values).max(axis=0))
    assert (np.abs(back.astype(np.float64) - values) <= step / 2 + rounding).all()
    assert (back >= low).all()
    assert (back <= high).all()


def raw_material(folder, rows=2_000, stages=(1_000, 2_000, 3_000)):
    rng = np.random.default_rng(0)
    named = {f"{s:07d}/{n}": a for s in stages for n, a in fresh_actor(11, 3, rng).weights.items()}
    save_arrays(folder / "Hopper-v5.npz", named)
    scores = [{"step": step, "mean_return": value} for step, value in zip(stages, (100.0, 1100.0, 3000.0), strict=True)]
    (folder / "Hopper-v5.json").write_text(json.dumps(scores))
    replay_rows = {
        "obs": rng.normal(size=(rows, 11)).astype(np.float32),
        "action": np.tanh(rng.normal(size=(rows, 3))).astype(np.float32),
        "reward": rng.normal(size=rows).astype(np.float32),
        "terminal": np.arange(rows) % 50 == 49,
        "timeout": np.zeros(rows, bool),
        "end_row": np.arange(49, rows, 50, dtype=np.int32),
        "end_next_obs": rng.normal(size=(rows // 50, 11)).astype(np.float32),
    }
    save_arrays(folder / "Hopper-v5-replay.npz", replay_rows)
    return named, replay_rows


def test_pack_keeps_the_two_stages_and_the_rows(tmp_path, capsys):
    named, rows = raw_material(tmp_path)
    assert pack.main([str(tmp_path), str(tmp_path / "out")]) == 0
    assert "Hopper-v5-actors.npz" in capsys.readouterr().out
    packed = load_arrays(tmp_path / "out" / "Hopper-v5-actors.npz")
    assert (packed["medium/step"], packed["expert/step"]) == (2_000, 3_000)
    for level, step in (("medium", "0002000"), ("expert", "0003000")):
        weights = select_actor(packed, level).weights
        assert all(np.array_equal(weights[name], named[f"{step}/{name}"]) for name in weights)
    back = replay.unpack_replay(load_arrays(tmp_path / "out" / "Hopper-v5-replay.npz"))
    assert back.keys() == rows.keys()
    for key in rows:
        assert back[key].shape == rows[key].shape
        assert back[key].dtype == rows[key].dtype
        exact = key not in ("obs", "action", "reward")
        tolerance = 0 if exact else np.ptp(rows[key], axis=0).max() / (2**17 - 2) * 1.01
        assert np.abs(back[key].astype(np.float64) - rows[key]).max() <= tolerance


def test_pack_refuses_what_it_cannot_use(tmp_path, capsys):
    assert pack.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "holds no ENV.npz" in capsys.readouterr().err
    raw_material(tmp_path, rows=1_500)
    assert pack.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "replay has 1500 rows, expected one of [1000, 2000, 3000], at least 2000" in capsys.readouterr().err
    (tmp_path / "Hopper-v5-replay.npz").unlink()
    assert pack.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "Hopper-v5-replay.npz does not exist" in capsys.readouterr().err


def test_the_shipped_files_stay_small():
    folder = recording._BEHAVIOUR
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6
    for env_id in ENVS:
        stage = int(load_arrays(folder / f"{env_id}-actors.npz")["medium/step"])
        assert stage == {"Hopper-v5": 180_000, "HalfCheetah-v5": 40_000, "Walker2d-v5": 240_000}[env_id]
        assert stage <= recording.replay_rows(env_id)


def test_the_command_line_records_then_finds_the_cache(tmp_path, capsys):
    command = ["record", "hopper-random", "--rows", "2000", "--jobs", "1", "--cache", str(tmp_path)]
    assert main(command) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["name", "rows", "episodes"]
    assert line.split()[:2] == ["hopper-random", "2,000"]
    assert "cached" not in line
    assert main(command) == 0
    assert "cached" in capsys.readouterr().out
    assert main(["record", "--list", *command[2:]]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 17
    assert [line.split()[0] for line in listed if "not recorded yet" not in line] == ["hopper-random"]


def test_the_command_line_makes_them_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recording, "record", lambda env_id, actors, rows, seed, **_: tiny(env_id, rows))
    assert main(["record", "all", "--rows", "2000", "--cache", str(tmp_path)]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == list(recording.NAMES)


def tiny(env_id, rows):
    robot = FAMILIES[env_id.split("-")[0].lower()]
    obs = np.zeros((rows, robot.obs_dim))
    flags = np.arange(rows) % 1_000 == 999
    named = {"observations": obs, "next_observations": obs, "actions": np.zeros((rows, robot.action_dim))}
    return named | {"rewards": np.ones(rows), "terminals": ~flags & flags, "timeouts": flags}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["hopper-medum"], "near names: recorded:hopper-medium"),
        (["d4rl:hopper-medium-v2"], "is a file to download, expected a dataset to record"),
        ([], "no name given"),
        (["hopper-medium", "--rows", "5"], "rows is 5 for recorded:hopper-medium, expected at least 1,000"),
        (["hopper-random", "walker2d-medium-expert", "--rows", "1000"], "expected at least 2,000, 2 x one whole"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(command, sentence, tmp_path, capsys):
    assert main(["record", *command, "--cache", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["record", "--help"])
    assert stop.value.code == 0
    assert "cfdg-datasets record all --rows 20000" in capsys.readouterr().out


def test_the_medium_stage_is_the_one_nearest_a_third_of_the_last():
    scores = [{"step": i, "mean_return": value} for i, value in enumerate((100.0, 350.0, 320.0, 990.0, 900.0))]
    assert train_behaviour.nearest_a_third(scores) == 2


def test_the_replay_of_a_buffer_tells_falls_from_time_limits():
    rng = np.random.default_rng(0)
    rows = 20
    dones = np.zeros((25, 1))
    dones[[3, 13, 18]] = 1  # lengths 4, 10 (the limit) and 5
    buffer = SimpleNamespace(
        dones=dones,
        observations=rng.normal(size=(25, 1, 2)),
        next_observations=rng.normal(size=(25, 1, 2)),
        actions=rng.normal(size=(25, 1, 1)),
        rewards=rng.normal(size=(25, 1)),
    )
    arrays_ = train_behaviour.replay_arrays(buffer, rows, max_episode_steps=10)
    assert np.flatnonzero(arrays_["terminal"]).tolist() == [3, 18]
    assert np.flatnonzero(arrays_["timeout"]).tolist() == [13]
    assert arrays_["end_row"].tolist() == [3, 13, 18, 19]
    np.testing.assert_allclose(arrays_["end_next_obs"], buffer.next_observations[[3, 13, 18, 19], 0], rtol=1e-6)


def test_training_without_stable_baselines_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    assert train_behaviour.main(["--env", "Hopper-v5", "--out", str(tmp_path)]) == 2
    assert "pip install 'cfdg-rl[behaviour]'" in capsys.readouterr().err
    assert train_behaviour.main(["--env", "Hopper-v5", "--out", str(tmp_path), "--steps", "30000"]) == 2
    assert "expected a multiple of 20,000" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3 (cfdg-rl[behaviour])"
)
@pytest.mark.filterwarnings("ignore")  # of the libraries that Stable-Baselines3 brings
def test_training_writes_what_pack_reads(tmp_path):
    training = train_behaviour.Training("HalfCheetah-v5", 1_200, snapshot_every=400, width=16, random_steps=1_100)
    written = train_behaviour.train(training, tmp_path, medium_step=1_200)
    assert [path.name for path in written] == ["HalfCheetah-v5.npz", "HalfCheetah-v5.json", "HalfCheetah-v5-replay.npz"]
    assert [score["step"] for score in json.loads(written[1].read_text())] == [400, 800, 1_200]
    rows = load_arrays(written[2])
    assert rows["end_row"].tolist() == [999, 1_199]
    assert np.flatnonzero(rows["timeout"]).tolist() == [999]
    assert [path.name for path in pack.pack(tmp_path, tmp_path / "out")] == [
        "HalfCheetah-v5-actors.npz",
        "HalfCheetah-v5-replay.npz",
    ]
    assert (
        np.abs(rows["obs"][1_000, :8]).max() < 0.11
    )  # the reset noise, although a snapshot at 800 interrupted learning
    assert np.abs(rows["obs"][[400, 800, 999], :8]).max(axis=1).min() > 0.11
