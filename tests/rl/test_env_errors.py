"""Faults of environments: told at once, with environment and step; and environments are closed."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from cfdg_rl import EnvCollector, Evaluator, RewardMap, load_dataset
from cfdg_rl.envs import make_env
from cfdg_rl.envs.errors import EnvError, check_finite
from cfdg_rl.envs.stack import EnvStack

FAULTY = "CfdgTestFaulty-v0"
MADE = []


class SimError(Exception):
    """An error that does not survive pickling: its arguments are not those of its message."""

    def __init__(self, code, message):
        super().__init__(f"{message} (code {code})")


class Faulty(gymnasium.Env):
    """Does something wrong at a step of its life."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault="", at=5):
        if fault == "init":
            raise RuntimeError("no licence")
        self.fault = fault
        self.at = at
        self.life = 0
        self.closings = 0
        MADE.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fault == "reset" and self.life >= self.at:
            raise KeyError("pose")
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.life += 1
        now = self.life == self.at
        if now and self.fault == "value":
            raise ValueError("operands could not be broadcast together")
        if now and self.fault == "own":
            raise SimError(7, "solver diverged")
        if now and self.fault == "exit":
            raise SystemExit(3)
        reward = {"reward": np.nan, "huge": 1e39}.get(self.fault, 1.0) if now else 1.0
        obs = np.array([0, np.inf if now and self.fault == "obs" else 0], np.float32)
        return obs, reward, False, False, {}

    def close(self):
        self.closings += 1
        if self.fault == "close":
            raise OSError("device busy")


def faulty(fault, at=5):
    env_id = f"CfdgTestFaulty{fault.title()}{at}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, Faulty, max_episode_steps=4, kwargs={"fault": fault, "at": at})
    return env_id


class Still:
    def act(self, obs, explore):
        return torch.zeros(*obs.shape[:2], 1)


SENTENCES = {
    "reward": "gave reward nan in step 5 of training, expected finite numbers",
    "huge": r"gave reward 1e\+39 in step 5 of training, expected finite numbers",
    "exit": r"failed in step 5 of training \(SystemExit: 3\)",
    "obs": "gave observation inf in column 1 in step 5 of training, expected finite numbers",
    "value": r"failed in step 5 of training \(ValueError: operands could not be broadcast together\)",
    "own": r"failed in step 5 of training \(SimError: solver diverged \(code 7\)\)",
    "reset": r"failed in the reset after step 8 of training \(KeyError: 'pose'\)",
}


@pytest.mark.parametrize("fault", SENTENCES)
def test_a_fault_is_told_at_once_with_environment_and_step(fault):
    collector = EnvCollector(faulty(fault), (0, 1), RewardMap())
    with pytest.raises(EnvError, match=rf"environment '{faulty(fault)}' {SENTENCES[fault]}") as error:
        list(collector.step(Still()) for _ in range(20))
    assert ("in step\n" in error.value.details) == (fault in ("value", "own", "exit"))
    again = type(error.value)(*error.value.args)  # the way between processes
    assert (str(again), again.details) == (str(error.value), error.value.details)
    collector.close()


def test_a_fault_in_an_evaluation_says_so():
    evaluator = Evaluator(faulty("reward", 3), (0,), episodes=2)
    with pytest.raises(EnvError, match="gave reward nan in step 3 of evaluation"):
        evaluator.returns(Still())
    evaluator.close()


def test_a_fault_of_making_names_the_environment():
    with pytest.raises(EnvError, match=r"cannot be made \(RuntimeError: no licence\)") as error:
        make_env(faulty("init"))
    assert "in __init__" in error.value.details


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.data(), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_property_of_numbers_that_are_not_finite(members, width, data, value):
    """One bad number anywhere is found, and its column named; finite ones pass."""
    obs = np.zeros((members, width), np.float32)
    reward = np.zeros(members)
    check_finite("Any-v0", "step 1", reward=reward, observation=obs)
    row = data.draw(st.integers(0, members - 1))
    column = data.draw(st.integers(0, width - 1))
    obs[row, column] = value
    with pytest.raises(EnvError, match=rf"observation {value:g} in column {column} in step 1"):
        check_finite("Any-v0", "step 1", reward=reward, observation=obs)
    reward[row] = value
    with pytest.raises(EnvError, match=rf"gave reward {value:g} in step 1"):
        check_finite("Any-v0", "step 1", reward=reward)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["", "reward", "own", "reset"]), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_property_of_closing(fault, seeds, episodes, at):
    """Every environment that collector and evaluator made is closed once, also after a fault, also if closed twice."""
    MADE.clear()
    env_id = faulty(fault, at)
    collector = EnvCollector(env_id, range(seeds), RewardMap())
    evaluator = Evaluator(env_id, range(seeds), episodes)
    for work in (lambda: [collector.step(Still()) for _ in range(6)], lambda: evaluator.returns(Still())):
        try:
            work()
        except EnvError:
            assert fault
    for each in (collector, evaluator, collector, evaluator):
        each.close()
    assert len(MADE) >= seeds
    assert {env.closings for env in MADE} == {1}


def test_every_copy_is_closed_also_if_one_fails():
    MADE.clear()
    stack = EnvStack(faulty("close"), (0, 1, 2))
    with pytest.raises(EnvError, match=r"failed in closing \(OSError: device busy\)"):
        stack.close()
    assert [env.closings for env in MADE] == [1, 1, 1]


def test_a_stack_that_cannot_begin_closes_what_it_made():
    MADE.clear()
    with pytest.raises(EnvError, match="failed in the reset after step 0"):
        EnvStack(faulty("reset", 0), (0, 1, 2))
    assert [env.closings for env in MADE] == [1, 1, 1]


def test_an_unwritable_cache_is_noticed_before_the_work(tmp_path, monkeypatch):
    from cfdg_rl.datasets.recorded import recording

    monkeypatch.setattr(recording, "_columns", lambda *a: pytest.fail("rolled out before the folder was looked at"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CFDG_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cache folder .* cannot be written \(.*\): set CFDG_CACHE to a folder that can"):
        load_dataset("recorded:hopper-random")


def test_hints_for_environments_that_cannot_be_made():
    with pytest.raises(ValueError, match=r"Put the folder of cfdg_no_such_module on PYTHONPATH, such as PYTHONPATH=\."):
        make_env("cfdg_no_such_module:Line-v0")
    with pytest.raises(ValueError, match=r"'Hopper-v3' cannot be made: .*; Hopper-v4 has the same physics"):
        make_env("Hopper-v3")
