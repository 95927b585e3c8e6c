"""The native path takes Gymnasium's steps, bit for bit."""

import mujoco
import numpy as np
import pytest

from cfdg_rl.envs import make_env, native
from cfdg_rl.envs.native import FULL_STATE, TASKS, BatchEngine, Locomotion, LoopEngine, is_healthy
from cfdg_rl.envs.stack import Crew, EnvStack

BATCH = pytest.param(True, marks=pytest.mark.skipif(not native.HAS_BATCH, reason="MuJoCo is older than 4.0"))
ENGINES = pytest.mark.parametrize("has_batch", [BATCH, False], ids=["batch", "loop"])
SEEDS = (3, 4, 5)


@pytest.fixture
def engine(has_batch, monkeypatch):
    monkeypatch.setattr(native, "HAS_BATCH", has_batch)


class Reference:
    """The same copies, stepped by Gymnasium."""

    def __init__(self, env_id, seeds=SEEDS):
        self.envs = [make_env(env_id) for _ in seeds]
        self.obs = np.stack([env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)])

    def step(self, actions, members):
        ends = []
        for i, action in zip(members, actions, strict=True):
            self.obs[i], *rest, _ = self.envs[i].step(action)
            ends.append(rest)
        return [np.array(column) for column in zip(*ends, strict=True)]

    def reset(self, members):
        for i in members:
            self.obs[i] = self.envs[i].reset()[0]


def assert_same(stack, reference, found, expected):
    np.testing.assert_array_equal(stack.obs, reference.obs.astype(np.float32))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@ENGINES
@pytest.mark.parametrize("env_id", sorted(TASKS))
def test_every_step_is_gymnasiums(env_id, engine):
    """Random actions, also beyond the motors' range, through many falls or, for HalfCheetah, a time limit."""
    stack = EnvStack(env_id, SEEDS, workers=2)
    reference = Reference(env_id)
    rng = np.random.default_rng(0)
    assert isinstance(stack._stepper, Locomotion)
    members = np.arange(len(SEEDS))
    ends = np.zeros(2, int)
    for step in range(1050):
        size = 0.3 if step % 400 < 200 else 1.8
        actions = rng.uniform(-size, size, (len(SEEDS), *stack.envs[0].action_space.shape)).astype(np.float32)
        found = stack.step(actions, members)
        expected = reference.step(actions, members)
        assert_same(stack, reference, found, expected)
        over = np.flatnonzero(found[1] | found[2])
        ends += found[1].sum(), found[2].sum()
        stack.reset(over)
        reference.reset(over)
        np.testing.assert_array_equal(stack.obs, reference.obs.astype(np.float32))
    assert ends[0] > 20 or ends.tolist() == [0, 3]
    stack.close()


@ENGINES
def test_the_time_limit_of_a_hopper_that_does_not_fall(engine):
    """The members' clocks differ, a fallen member's begins anew, and the limit comes without a fall."""
    stack = EnvStack("Hopper-v4", SEEDS)
    members = np.arange(len(SEEDS))
    for env, elapsed in zip(stack.envs, (997, 998, 0), strict=True):
        native.time_limit(env)._elapsed_steps = elapsed
    still = np.zeros((3, 3), np.float32)
    truncated = [stack.step(still, members)[2].tolist() for _ in range(3)]
    assert truncated == [[False, False, False], [False, True, False], [True, True, False]]
    assert [native.time_limit(env)._elapsed_steps for env in stack.envs] == [1000, 1001, 3]
    stack.reset(np.array([1]))
    stack.step(still, members)
    assert [native.time_limit(env)._elapsed_steps for env in stack.envs] == [1001, 1, 4]


@ENGINES
def test_some_members_in_any_order_and_precision(engine):
    stack = EnvStack("Walker2d-v5", SEEDS)
    reference = Reference("Walker2d-v5")
    rng = np.random.default_rng(1)
    for members in ([2, 0], [1], [2, 1, 0], [0, 2]) * 5:
        actions = rng.uniform(-1, 1, (len(members), 6))[:, ::-1]
        found = stack.step(actions, np.array(members))
        assert_same(stack, reference, found, reference.step(actions, members))


@ENGINES
def test_what_is_done_to_a_lent_simulator_counts(engine):
    stack = EnvStack("Hopper-v5", SEEDS)
    reference = Reference("Hopper-v5")
    rng = np.random.default_rng(2)
    members = np.arange(len(SEEDS))
    for step in range(12):
        actions = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        assert_same(stack, reference, stack.step(actions, members), reference.step(actions, members))
        if step % 4 == 2:
            lean = np.array([0, 1.25, 0, 0, 0, 0]) + rng.uniform(-0.1, 0.1, 6)
            for envs in (stack.envs, reference.envs):
                envs[1].unwrapped.set_state(lean, np.zeros(6))


@ENGINES
def test_a_lent_simulator_is_up_to_date(engine):
    stack = EnvStack("HalfCheetah-v5", SEEDS)
    reference = Reference("HalfCheetah-v5")
    actions = np.random.default_rng(3).uniform(-1, 1, (4, 3, 6)).astype(np.float32)
    for step in range(4):
        stack.step(actions[step], np.arange(3))
        reference.step(actions[step], np.arange(3))
    for ours, theirs in zip(stack.envs, reference.envs, strict=True):
        states = [np.empty(mujoco.mj_stateSize(env.unwrapped.model, FULL_STATE)) for env in (ours, theirs)]
        for env, state in zip((ours, theirs), states, strict=True):
            mujoco.mj_getState(env.unwrapped.model, env.unwrapped.data, state, FULL_STATE)
        np.testing.assert_array_equal(*states)
        mujoco.mj_forward(theirs.unwrapped.model, theirs.unwrapped.data)
        if stack._stepper.engine.__class__ is BatchEngine:
            np.testing.assert_array_equal(ours.unwrapped.data.xpos, theirs.unwrapped.data.xpos)


@pytest.mark.parametrize("env_id", [name for name, task in TASKS.items() if task.health])
def test_health_is_gymnasiums_also_at_its_bounds(env_id):
    env = make_env(env_id).unwrapped
    health = TASKS[env_id].health
    rng = np.random.default_rng(0)
    qpos = rng.uniform(-0.3, 0.3, (400, env.model.nq))
    qvel = rng.uniform(-1, 1, (400, env.model.nv))
    qpos[:, 1] += 1.0
    qpos[:50, 1] = rng.uniform(-1, 3, 50)
    qpos[50:60, 1] = health.height[0]
    qpos[60:70, 2] = health.angle[0]
    qpos[70:80, 2] = health.angle[1]
    qpos[80:120, 3] = rng.uniform(-200, 200, 40)
    qvel[120:160, 2] = rng.uniform(-200, 200, 40)
    qvel[160:165, 0] = 100.0
    qvel[165:170, -1] = -100.0
    qpos[170:175, 1] = np.nan
    expected = []
    for position, velocity in zip(qpos, qvel, strict=True):
        env.data.qpos[:] = position
        env.data.qvel[:] = velocity
        expected.append(env.is_healthy)
    assert 20 < sum(expected) < 380
    np.testing.assert_array_equal(is_healthy(health, qpos, qvel), expected)


def test_the_settings_are_gymnasiums():
    for env_id, task in TASKS.items():
        env = make_env(env_id).unwrapped
        assert (env._forward_reward_weight, env._ctrl_cost_weight) == (1.0, task.control_cost)
        assert env._exclude_current_positions_from_observation
        if task.health:
            assert (env._healthy_reward, env._terminate_when_unhealthy) == (1.0, True)
            assert (env._healthy_z_range, env._healthy_angle_range) == (task.health.height, task.health.angle)


@ENGINES
def test_any_number_of_workers_and_both_engines_agree(engine):
    actions = np.random.default_rng(4).uniform(-1, 1, (60, 7, 3)).astype(np.float32)
    histories = []
    for workers in (1, 2, 5, 9):
        stack = EnvStack("Hopper-v5", range(7), workers)
        for action in actions:
            _, terminated, truncated = stack.step(action, np.arange(7))
            stack.reset(np.flatnonzero(terminated | truncated))
        histories.append(stack.obs.copy())
        stack.close()
    for history in histories[1:]:
        np.testing.assert_array_equal(history, histories[0])


def test_the_engine_is_the_fastest_there_is(monkeypatch):
    envs = [make_env("Hopper-v5")]
    assert isinstance(native.make_engine(envs, 1, Crew(1)), BatchEngine if native.HAS_BATCH else LoopEngine)
    monkeypatch.setattr(native, "HAS_BATCH", False)
    assert isinstance(native.make_engine(envs, 1, Crew(1)), LoopEngine)


@ENGINES
def test_actions_of_another_shape_are_refused(engine):
    stack = EnvStack("Hopper-v5", SEEDS)
    with pytest.raises(ValueError, match=r"actions have shape \(3, 1\), expected \(3, 3\)"):
        stack.step(np.zeros((3, 1), np.float32), np.arange(3))
