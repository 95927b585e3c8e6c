"""Stacks of any environment: threads that change nothing, and states that survive a checkpoint."""

import threading
import time

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.envs import native
from cfdg_rl.envs import stack as stack_module
from cfdg_rl.envs.stack import Crew, EnvStack

SEEKER = "CfdgTestSeeker-v0"
SILENT = "CfdgTestSilent-v0"
FRAIL = "CfdgTestFrail-v0"
ENDLESS = "CfdgTestUnseeded-v0"


class Seeker(InvertedPendulumEnv):
    """A MuJoCo environment with a goal that its physics knows nothing of, drawn anew every episode."""

    def reset_model(self):
        self.goal = self.np_random.uniform(-1, 1, 2)
        return super().reset_model()

    @property
    def task_state(self):
        return self.goal.copy()

    @task_state.setter
    def task_state(self, value):
        self.goal = np.array(value)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, -abs(self.data.qpos[0] - self.goal[0]), terminated, truncated, info


class Unseeded(InvertedPendulumEnv):
    """A MuJoCo environment that never makes a generator: Gymnasium does so when it is first asked for."""

    task_state = np.zeros(0)  # all there is to know is in the physics

    def reset(self, *, seed=None, options=None):
        self.set_state(self.init_qpos, self.init_qvel)
        return self._get_obs(), {}


class Silent(InvertedPendulumEnv):
    """A MuJoCo environment of others, with something to hide: its model changes with the episode."""

    def reset_model(self):
        self.model.opt.gravity[2] = self.np_random.uniform(-12, -8)
        return super().reset_model()


class Frail(InvertedPendulumEnv):
    """Breaks on actions above 0.9."""

    def step(self, action):
        if action[0] > 0.9:
            raise RuntimeError("broken")
        return super().step(action)


@pytest.fixture(scope="module", autouse=True)
def registered():
    kinds = {SEEKER: (Seeker, 15), SILENT: (Silent, 200), FRAIL: (Frail, None), ENDLESS: (Unseeded, None)}
    for name, (kind, limit) in kinds.items():
        if name not in gymnasium.registry:  # a worker may come here twice
            gymnasium.register(name, entry_point=kind, max_episode_steps=limit)


def random_actions(stack, steps, seed=0):
    shape = (steps, len(stack), *stack.envs[0].action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def play(stack, actions):
    """Every observation and outcome, with resets where episodes end."""
    history = []
    everyone = np.arange(len(stack))
    for action in actions:
        reward, terminated, truncated = stack.step(action, everyone)
        history.append(np.column_stack((stack.obs.copy(), reward, terminated, truncated)))
        stack.reset(np.flatnonzero(terminated | truncated))
    return np.stack(history)


def through_a_file(state, tmp_path):
    """As a run does it: saved with everything else, and arrays that came back as tensors made arrays again."""
    save_checkpoint(tmp_path / "state.safetensors", {"stack": state})
    loaded = load_checkpoint(tmp_path / "state.safetensors")["stack"]
    return {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in loaded.items()}


@pytest.mark.parametrize("env_id", ["InvertedDoublePendulum-v5", "Pendulum-v1", "Hopper-v4"])
def test_any_number_of_workers_gives_the_same(env_id):
    histories = []
    for workers in (1, 2, 3, 8):
        stack = EnvStack(env_id, range(5), workers)
        histories.append(play(stack, random_actions(stack, 60)))
        stack.close()
    assert np.ptp(histories[0][:, :, 0]) > 0
    for history in histories[1:]:
        np.testing.assert_array_equal(history, histories[0])


def test_some_members_rest():
    stack = EnvStack("InvertedPendulum-v5", range(4), workers=2)
    before = stack.obs.copy()
    stack.step(np.ones((2, 1), np.float32), np.array([3, 1]))
    moved = (stack.obs != before).any(1)
    assert moved.tolist() == [False, True, False, True]
    stack.close()


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 20])
def test_a_crew_does_everything_once_in_even_parts(workers, count):
    crew = Crew(workers)
    parts = []
    crew(lambda begin, end: parts.append((begin, end)), count)
    crew.close()
    assert sorted(i for begin, end in parts for i in range(begin, end)) == list(range(count))
    sizes = [end - begin for begin, end in parts]
    assert len(parts) <= workers
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("env_id", "workers"), [("InvertedPendulum-v5", 1), ("Pendulum-v1", 3)])
def test_threads_that_cannot_help_are_not_started(env_id, workers):
    stack = EnvStack(env_id, range(3), workers)
    stack.step(np.zeros((3, 1), np.float32), np.arange(3))
    assert not threads()


def test_closing_ends_the_threads():
    stack = EnvStack("InvertedPendulum-v5", range(3), workers=3)
    stack.step(np.zeros((3, 1), np.float32), np.arange(3))
    assert 1 <= len(threads()) <= 2
    stack.close()
    assert not threads()


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("cfdg-env")]


@pytest.mark.parametrize("culprit", [0, 3])
def test_an_error_in_any_thread_is_raised(culprit):
    stack = EnvStack(FRAIL, range(4), workers=2)
    actions = np.zeros((4, 1), np.float32)
    actions[culprit] = 1
    with pytest.raises(RuntimeError, match="broken"):
        stack.step(actions, np.arange(4))
    stack.close()


def test_no_thread_is_still_at_work_after_an_error():
    """Or it would go on stepping simulators that the caller believes at rest."""
    crew = Crew(2)
    finished = []

    def work(begin, end):
        if begin == 0:
            raise RuntimeError("broken")
        time.sleep(0.1)
        finished.append(begin)

    with pytest.raises(RuntimeError, match="broken"):
        crew(work, 2)
    assert finished == [1]
    crew.close()


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="workers is 0, expected at least 1"):
        EnvStack("Pendulum-v1", (0,), workers=0)


@pytest.mark.parametrize("env_id", ["Walker2d-v4", "HalfCheetah-v5", "InvertedPendulum-v5", SEEKER])
def test_a_restored_mujoco_stack_continues_bit_for_bit(env_id, tmp_path):
    first = EnvStack(env_id, (0, 1, 2))
    second = EnvStack(env_id, (7, 8, 9), workers=2)
    actions = random_actions(first, 80)
    play(first, actions[:30])
    play(second, actions[:7])
    state = through_a_file(first.state(), tmp_path)
    expected = play(first, actions[30:])
    assert second.restore(state)
    np.testing.assert_array_equal(play(second, actions[30:]), expected)


def test_taking_a_state_changes_nothing():
    watched = EnvStack("Hopper-v5", range(3))
    alone = EnvStack("Hopper-v5", range(3))
    actions = random_actions(alone, 40)
    history = []
    for action in actions:
        history.append(play(watched, action[None]))
        watched.state()
    np.testing.assert_array_equal(np.concatenate(history), play(alone, actions))


def test_native_and_ordinary_stacks_understand_each_others_states(monkeypatch):
    stack = EnvStack("Hopper-v5", (0, 1))
    monkeypatch.setattr(stack_module, "TASKS", {})
    ordinary = EnvStack("Hopper-v5", (5, 6))
    assert not isinstance(ordinary._stepper, native.Locomotion)
    actions = random_actions(stack, 90)
    play(stack, actions[:30])
    ordinary.restore(stack.state())
    np.testing.assert_array_equal(play(ordinary, actions[30:60]), play(stack, actions[30:60]))
    play(ordinary, actions[:10])
    stack.restore(ordinary.state())
    np.testing.assert_array_equal(play(stack, actions[60:]), play(ordinary, actions[60:]))


def test_a_goal_is_saved_with_the_physics():
    first = EnvStack(SEEKER, (0, 1))
    second = EnvStack(SEEKER, (2, 3))
    second.restore(first.state())
    for ours, theirs in zip(second.envs, first.envs, strict=True):
        np.testing.assert_array_equal(ours.unwrapped.task_state, theirs.unwrapped.task_state)
    assert "task" not in EnvStack("InvertedPendulum-v5", (0,)).state()


def test_a_lazy_generator_and_a_missing_time_limit_are_no_obstacle(tmp_path):
    first = EnvStack(ENDLESS, (0, 1))
    second = EnvStack(ENDLESS, (2, 3))
    actions = random_actions(first, 8)
    play(first, actions[:4])
    second.restore(through_a_file(first.state(), tmp_path))
    draws = [env.unwrapped.np_random.random() for env in (*first.envs, *second.envs)]
    assert draws[:2] == draws[2:]
    np.testing.assert_array_equal(play(second, actions[4:]), play(first, actions[4:]))


def test_an_environment_that_may_hide_something_begins_new_episodes():
    stack = EnvStack(SILENT, (0, 1))
    play(stack, random_actions(stack, 3))
    assert stack.restore(stack.state()) is False
    assert [native.time_limit(env)._elapsed_steps for env in stack.envs] == [0, 0]


def test_another_kind_of_environment_begins_new_episodes(tmp_path):
    first = EnvStack("Pendulum-v1", (0, 1))
    others = [EnvStack("Pendulum-v1", (0, 1)) for _ in range(3)]
    actions = random_actions(first, 250)
    play(first, actions[:150])
    early = through_a_file(first.state(), tmp_path)
    play(first, actions[150:160])
    late = through_a_file(first.state(), tmp_path)
    for stack, state in zip(others, (early, early, late), strict=True):
        assert stack.restore(state) is False
    starts = [stack.obs.copy() for stack in others]
    assert np.array_equal(starts[0], starts[1]), "the same checkpoint begins the same episodes"
    assert not np.array_equal(starts[0], starts[2]), "another one begins others"
    histories = [play(stack, actions) for stack in others[:2]]
    np.testing.assert_array_equal(*histories)
    assert histories[0][:199, :, -1].sum() == 0, "their clock begins anew too"
    assert histories[0][199, :, -1].all()
