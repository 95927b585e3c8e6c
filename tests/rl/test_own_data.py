"""Data of one's own: rows in any order, and actions in any box, become right transitions or a sentence."""

import warnings

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cfdg_rl import from_arrays, load_dataset
from cfdg_rl.datasets.checksums import write_hdf5
from cfdg_rl.datasets.cli import main
from cfdg_rl.datasets.dataset import DataWarning
from cfdg_rl.envs import inspect_env, make_env

LINE = "CfdgTestLine-v0"
LIMIT = 50
KEYS = ("observations", "actions", "rewards", "next_observations", "terminals")
FLOAT_MAX = float(np.finfo(np.float32).max)


class Line(gymnasium.Env):
    """A point on a line; observations are its place and the clock."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, box=None):
        self.action_space = box or spaces.Box(-2, 2, (1,), np.float32)
        self.received = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        self.clock = 0
        return self._seen(), {}

    def step(self, action):
        self.received.append(action)
        self.x += 0.1 * float(np.ravel(action)[0])
        self.clock += 1
        return self._seen(), -abs(self.x), False, False, {}

    def _seen(self):
        return np.array([self.x, self.clock / LIMIT], np.float32)


def box_env(name, box):
    env_id = f"CfdgTestLine{name}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, Line, max_episode_steps=LIMIT, kwargs={"box": box})
    return env_id


def registered_box(box):
    """Register a box under one name, the last one's, so that a property leaves no hundreds behind."""
    gymnasium.registry.pop("CfdgTestLineAny-v0", None)
    return box_env("Any", box)


@pytest.fixture(scope="session", autouse=True)
def line():
    if LINE not in gymnasium.registry:
        gymnasium.register(LINE, Line, max_episode_steps=LIMIT)
    return LINE


def episodes(lengths, seed=0, ends=None):
    """True transitions of whole episodes, one dict of columns each; ``ends`` tells which of them terminate."""
    rng = np.random.default_rng(seed)
    made = []
    for k, length in enumerate(lengths):
        obs = rng.normal(size=(length + 1, 2)).astype(np.float32)
        terminal = np.zeros(length, bool)
        terminal[-1] = bool(ends and ends[k])
        last = np.arange(length) == length - 1
        action = (rng.integers(-32, 33, (length, 1)) / 16).astype(np.float32)  # halves are exact
        reward = -rng.uniform(0.5, 1, length).astype(np.float32)
        columns = (obs[:-1], action, reward, obs[1:], terminal)
        made.append(dict(zip(KEYS, columns, strict=True)) | {"timeouts": last & ~terminal})
    return made


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def written(folder, columns, name="own.hdf5", env_id=LINE):
    write_hdf5(folder / name, columns, {})
    return f"hdf5:{folder / name}@{env_id}"


def loaded(name, **options):
    """The dataset, and the sentences of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        data = load_dataset(name, **options)
    return data, [str(each.message) for each in caught]


def rows_of(columns):
    return {
        tuple(np.concatenate([o, a / 2, [r], n, [d]]).astype(np.float32).tolist())
        for o, a, r, n, d in zip(*(columns[key] for key in KEYS), strict=True)
    }


def rows_in(data):
    t = data.transitions
    table = torch.cat([t.obs, t.action, t.reward[:, None], t.next_obs, t.terminal[:, None]], 1)
    return {tuple(row) for row in table.tolist()}


def assert_true_rows(data, columns):
    assert rows_in(data) <= rows_of(columns), "no row has the next observation of another"


@pytest.mark.parametrize("key", ["timeouts", "truncations", None])
def test_trajectories_break_where_their_next_observations_say(key, tmp_path):
    true = joined(episodes([30] * 8))
    columns = {name: column for name, column in true.items() if name != "timeouts"}
    if key:
        columns[key] = true["timeouts"]
    data, notes = loaded(written(tmp_path, columns))
    assert_true_rows(data, true)
    assert len(data.transitions) == 240, "also the rows at a time limit, whose next observation is stored"
    assert len(data.episode_returns) == (8 if key else 7)  # without a key nothing tells that the file's last row ends
    assert data.episode_returns[:7].tolist() == pytest.approx(
        [part["rewards"].sum() for part in episodes([30] * 8)][:7], rel=1e-5
    )
    assert notes == []


def test_rows_that_were_cut_out_are_told_and_their_returns_not_counted(tmp_path):
    true = joined(episodes([30] * 8))
    keep = np.ones(240, bool)
    keep[40:50] = False
    data, notes = loaded(written(tmp_path, {key: column[keep] for key, column in true.items()}))
    assert_true_rows(data, true)
    assert len(data.episode_returns) == 7
    assert notes == [f"{data.name}: 1 trajectories break off without an end: no return is counted before and behind"]


@pytest.mark.parametrize("order", ["interleaved", "shuffled"])
@pytest.mark.parametrize("key", ["timeouts", None])
def test_rows_in_no_order_are_read_one_by_one(order, key, tmp_path, capsys):
    parts = episodes([50] * 8)
    if order == "interleaved":
        sides = [joined(parts[:4]), joined(parts[4:])]
        columns = {
            name: np.stack([side[name] for side in sides], 1).reshape(400, *sides[0][name].shape[1:])
            for name in sides[0]
        }
    else:
        index = np.random.default_rng(0).permutation(400)
        columns = {name: column[index] for name, column in joined(parts).items()}
    if key is None:
        del columns["timeouts"]
    name = written(tmp_path, columns)
    data, notes = loaded(name)
    assert rows_in(data) == rows_of(joined(parts)), "all 400, each with its own next observation"
    assert len(data.episode_returns) == 0
    assert "rows are in no order of time" in notes[0]
    assert main(["verify", name]) == 1
    assert "wrong: " in (said := capsys.readouterr().out)
    assert "rows are in no order of time; each keeps its own next observation" in said


def vector_rows(count, steps, mode=None):
    """Rows as a loop over a vector environment of Gymnasium records them."""
    options = {} if mode is None else {"vector_kwargs": {"autoreset_mode": mode}}
    envs = gymnasium.make_vec(LINE, num_envs=count, vectorization_mode="sync", **options)
    obs, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    rows = []
    for _ in range(steps):
        action = envs.action_space.sample()
        after, reward, terminated, truncated, _ = envs.step(action)
        rows += zip(obs, action, reward, after, terminated, truncated, strict=True)
        obs = after
    names = (*KEYS, "truncations")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.mark.parametrize("count", [1, 3])
def test_reset_rows_of_vector_environments_are_left_out_with_their_number(count, tmp_path, capsys):
    columns = vector_rows(count, 200)
    resets = 3 * count
    name = written(tmp_path, columns)
    data, notes = loaded(name)
    jumps = (data.transitions.next_obs[:, 1] - data.transitions.obs[:, 1] - 1 / LIMIT).abs()
    assert jumps.max() < 1e-5, "the clock goes on in every row"
    assert f"{name}: {resets:,} rows are resets of a vector environment, no transitions, and are left out" == notes[0]
    assert len(data.transitions) == 200 * count - resets
    assert main(["verify", name]) == 1
    assert f"{resets} rows are resets of a vector environment" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("ends", ["terminals", "timeouts", None])
def test_ends_of_environments_that_reset_in_the_same_step_lead_to_no_other_episode(count, ends, tmp_path, capsys):
    """A time limit leaves no break there, so that without a key it is counted off, unless rows are in turns."""
    columns = vector_rows(count, 199, AutoresetMode.SAME_STEP)
    limits = columns.pop("truncations")
    if ends:
        columns[ends] = limits
    name = written(tmp_path, columns)
    if count > 1 and ends is None:
        return
    data, notes = loaded(name)
    clock = data.transitions.next_obs[:, 1] - data.transitions.obs[:, 1]
    assert ((clock - 1 / LIMIT).abs() < 1e-5).logical_or((clock == 0) & (data.transitions.terminal == 1)).all()
    assert len(data.transitions) == 199 * count - (0 if ends == "terminals" else 3 * count)
    assert f"{3 * count} rows lead to the first observation of the next episode" in " ".join(notes)
    assert len(data.episode_returns) == (3 if count == 1 else 0)
    assert main(["verify", name]) == 1
    assert "lead to the first observation of the next episode" in capsys.readouterr().out


def test_a_robot_that_stays_at_its_goal_leads_to_no_other_episode(tmp_path):
    columns = joined(episodes([50, 50]))
    columns["terminals"] = np.arange(100) % 50 > 39
    columns["rewards"] = columns["terminals"].astype(np.float32)
    columns["timeouts"] = np.arange(100) % 50 == 49
    data, notes = loaded(written(tmp_path, columns))
    assert rows_in(data) == rows_of(columns)
    assert (notes, data.sparse, data.episode_returns.tolist()) == ([], True, [1, 1])


def test_a_file_whose_episodes_are_longer_than_the_limit_is_wrong(tmp_path, capsys):
    true = joined(episodes([51] * 4))
    del true["next_observations"]
    assert main(["verify", written(tmp_path, true)]) == 1
    assert "51 rows, expected at most 50" in capsys.readouterr().out


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 12), min_size=2, max_size=8),
    ends=st.lists(st.booleans(), min_size=8, max_size=8),
    key=st.sampled_from(["timeouts", "truncations", None]),
    order=st.sampled_from(["time", "turns", "shuffled", "reversed", "thinned"]),
    seed=st.integers(0, 99),
)
def test_property_of_next_observations(lengths, ends, key, order, seed, tmp_path):
    """In whatever order rows lie, with whatever flags, every transition that is loaded is a true one."""
    true = joined(episodes(lengths, seed, ends))
    count = len(true["rewards"])
    rng = np.random.default_rng(seed)
    index = {
        "time": np.arange(count),
        "turns": np.argsort(np.arange(count) % 3, kind="stable"),
        "shuffled": rng.permutation(count),
        "reversed": np.arange(count)[::-1],
        "thinned": np.flatnonzero(rng.random(count) < 0.7),
    }[order]
    columns = {name: column[index] for name, column in true.items() if name != "timeouts"}
    if key:
        columns[key] = true["timeouts"][index]
    if len(index) == 0:
        return
    try:
        data, _ = loaded(written(tmp_path, columns))
    except ValueError as error:
        assert "has no transitions" in str(error)  # noqa: PT017 - one row, or nothing but ends
        return
    assert_true_rows(data, true)


def test_arrays_become_a_dataset_of_all_their_rows():
    parts = episodes([50, 20, 50], ends=[False, True, False])
    columns = joined(parts)
    data = from_arrays(*(columns[key] for key in KEYS), columns["timeouts"], env_id=LINE)
    assert rows_in(data) == rows_of(columns)
    assert data.episode_returns.tolist() == pytest.approx([part["rewards"].sum() for part in parts], rel=1e-5)
    assert (data.name, data.env_id, data.notes) == ("arrays", LINE, ())


def test_arrays_of_a_replay_buffer_may_have_any_order_and_unit_actions():
    columns = joined(episodes([50, 20, 50]))
    index = np.random.default_rng(0).permutation(120)
    shuffled = {key: column[index] for key, column in columns.items()}
    with pytest.warns(DataWarning, match="rows are in no order of time"):
        data = from_arrays(*(shuffled[key] for key in KEYS), env_id=LINE)
    assert rows_in(data) == rows_of(columns)
    unit = columns["actions"] / 2
    arrays = {**columns, "actions": unit}
    data = from_arrays(*(arrays[key] for key in KEYS), columns["timeouts"], env_id=LINE, actions_normalised=True)
    np.testing.assert_array_equal(data.transitions.action.numpy(), unit)
    with pytest.raises(ValueError, match=r"arrays: rewards has 7 rows, expected 120"):
        from_arrays(
            *(column[: 7 if key == "rewards" else None] for key, column in list(columns.items())[:5]), env_id=LINE
        )


REWARDS = st.sampled_from([0, 1, -1, 100, -0.01, 0.1])


@settings(deadline=None, max_examples=40)
@given(REWARDS, REWARDS, st.lists(st.booleans(), min_size=3, max_size=3), st.booleans())
def test_property_of_tasks_with_two_rewards(elsewhere, goal, ends, is_odd):
    """Whatever the two are, they are known if one belongs to the terminal rows and the other to all others."""
    columns = joined(episodes([5, 3, 4], ends=ends))
    columns["rewards"] = np.where(columns["terminals"], goal, elsewhere).astype(np.float32)
    columns["rewards"][2] += is_odd
    data = from_arrays(*(columns[key] for key in KEYS), columns["timeouts"], env_id=LINE)
    known = any(ends) and goal != elsewhere and not is_odd
    assert data.goal_rewards == (pytest.approx((elsewhere, goal)) if known else None)
    assert data.sparse == (known and (elsewhere, goal) == (0, 1))


def test_normalised_actions_are_taken_as_they_are(tmp_path):
    columns = joined(episodes([50] * 3))
    columns["actions"] = columns["actions"] / 2
    name = written(tmp_path, columns)
    kept = columns["actions"]
    np.testing.assert_array_equal(load_dataset(f"{name}?actions=normalised").transitions.action.numpy(), kept)
    np.testing.assert_allclose(load_dataset(name).transitions.action.numpy(), kept / 2, atol=1e-6)
    with pytest.raises(ValueError, match="is 'actions=raw', expected 'actions=normalised'"):
        load_dataset(f"{name}?actions=raw")
    assert main(["verify", f"{name}?actions=normalised"]) == 0


def test_the_first_rows_come_with_their_own_score_and_a_note(tmp_path):
    parts = episodes([50] * 4)
    for part, reward in zip(parts, (-1, -1, 5, 5), strict=True):
        part["rewards"] = np.full(50, reward, np.float32)
    name = written(tmp_path, joined(parts))
    assert load_dataset(name).behaviour_score == 100
    data = load_dataset(name, rows=100)
    assert data.episode_returns.tolist() == [-50, -50]
    assert data.notes == (f"{name}: the first 100 of 200 transitions are used; episodes and score are of these",)
    assert load_dataset(name, rows=99).episode_returns.tolist() == [-50]
    assert load_dataset(name, rows=200).notes == ()


BOXES = {
    "Wide": spaces.Box(-2, 2, (1,), np.float32),
    "Positive": spaces.Box(0, 10, (1,), np.float64),
    "Whole": spaces.Box(0, 10, (1,), np.int64),
    "Byte": spaces.Box(0, 255, (1,), np.uint8),
    "Small": spaces.Box(-128, 127, (1,), np.int8),
    "Frozen": spaces.Box(np.array([-2, 0.5], np.float32), np.array([2, 0.5], np.float32)),
}


@pytest.mark.parametrize("kind", BOXES)
def test_actions_of_every_box_are_scaled_there_and_back(kind, tmp_path):
    box = BOXES[kind]
    env_id = box_env(kind, box)
    columns = joined(episodes([50] * 2))
    box.seed(0)
    columns["actions"] = np.array([box.sample() for _ in range(100)])
    data = load_dataset(written(tmp_path, columns, env_id=env_id))
    kept = columns["actions"]
    assert data.transitions.action.dtype == torch.float32
    assert data.transitions.action.abs().max() <= 1
    env = make_env(env_id)
    assert (env.action_space.low == -1).all()
    env.reset(seed=0)
    for unit, own in zip(data.transitions.action[:40].numpy(), kept, strict=False):
        env.step(unit)
        received = env.unwrapped.received[-1]
        assert received.dtype == box.dtype
        np.testing.assert_allclose(received, own, rtol=1e-5, atol=1e-5)
    for edge in (-1.0, 1.0, 0.999):
        env.step(np.full(box.shape, edge, np.float32))
        assert box.contains(env.unwrapped.received[-1])


def test_a_frozen_action_of_another_value_is_refused(tmp_path):
    env_id = box_env("Frozen", BOXES["Frozen"])
    columns = joined(episodes([50]))
    columns["actions"] = np.full((50, 2), 0.5, np.float32)
    columns["actions"][7, 1] = 0.6
    name = written(tmp_path, columns, env_id=env_id)
    with pytest.raises(ValueError, match=r"own\.hdf5: column 1 of actions is 0\.6 at row 7, expected 0\.5"):
        load_dataset(name)


@pytest.mark.parametrize("bound", [FLOAT_MAX, 2.0**31])
def test_bounds_that_stand_for_none_are_refused(bound):
    env_id = box_env(f"Endless{bound:.0f}"[:20], spaces.Box(-bound, bound, (1,), np.float32))
    with pytest.raises(ValueError, match=r"has an action bound of .*, which stands for none, expected at most 1e\+09"):
        inspect_env(env_id)


@settings(deadline=None, max_examples=100)
@given(
    dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, np.int8]),
    corners=st.lists(st.tuples(st.floats(-120, 120), st.floats(0, 1)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_property_of_action_boxes(dtype, corners, seed):
    """Any bounded box: the data's map is finite in [-1, 1], and the environment's map is its inverse within the box."""
    from cfdg_rl.datasets.d4rl import bounded_actions
    from cfdg_rl.envs.make import EnvShape, ScaledActions

    low = np.array([corner for corner, _ in corners])
    low = np.abs(low) if dtype is np.uint8 else low
    high = np.minimum(low + np.array([2 * abs(c) * share for c, share in corners]), 120)
    box = spaces.Box(np.trunc(low).astype(dtype), np.maximum(np.trunc(low), np.trunc(high)).astype(dtype), dtype=dtype)
    box.seed(seed)
    env = Line(box)
    shape = EnvShape(env.observation_space, 2, box.low, box.high, LIMIT)
    own = np.array([box.sample() for _ in range(20)])
    unit = bounded_actions("box", shape.unit_actions(own.astype(np.float32)))
    assert unit.dtype == np.float32
    assert np.isfinite(unit).all()
    assert np.abs(unit).max() <= 1
    scaled = ScaledActions(env)
    back = np.array([scaled.action(each) for each in unit])
    assert back.dtype == box.dtype
    assert all(map(box.contains, back))
    np.testing.assert_allclose(back, own, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=200)
@given(
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    corners=st.lists(st.tuples(st.floats(-100, 100), st.floats(1e-3, 100)), min_size=1, max_size=3),
    inner=st.floats(-1, 1, width=32),
)
@example(dtype=np.float32, corners=[(-0.4, 1.3)], inner=0.0)  # Gymnasium's map alone gives 0.90000004
@example(dtype=np.float32, corners=[(0.01, 0.99), (0.05, 0.15), (10, 25.5)], inner=0.0)
def test_property_of_an_environment_that_refuses_actions_out_of_its_box(dtype, corners, inner):
    """Whatever the box, rounding leaves no action outside it, and within it the map is Gymnasium's to the bit."""
    low, width = np.array(corners).T
    box = spaces.Box(low.astype(dtype), (low + width).astype(dtype), dtype=dtype)
    assume((box.low < box.high).all())
    env = make_env(registered_box(box))
    env.reset(seed=0)
    plain = gymnasium.wrappers.RescaleAction(Line(box), np.full_like(box.low, -1), np.full_like(box.high, 1))
    for unit in (-1.0, 1.0, inner):
        action = np.full(box.shape, unit, np.float32)
        env.step(action)
        received = env.unwrapped.received[-1]
        assert box.contains(received)
        if box.contains(alone := plain.action(action)):
            np.testing.assert_array_equal(received, alone)


@pytest.mark.parametrize("link", [h5py.SoftLink, h5py.ExternalLink])
def test_a_link_to_nothing_is_said(link, tmp_path):
    columns = joined(episodes([50]))
    name = written(tmp_path, {key: column for key, column in columns.items() if key != "rewards"})
    with h5py.File(tmp_path / "own.hdf5", "a") as file:
        file["rewards"] = link("/nowhere") if link is h5py.SoftLink else link("nowhere.hdf5", "/rewards")
    with pytest.raises(ValueError, match="rewards is a group or a link to nothing, expected a dataset"):
        load_dataset(name)
