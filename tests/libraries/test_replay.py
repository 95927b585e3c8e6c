"""Examples with other libraries: rows in and out unchanged, and batches of exact numbers of each kind of row."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cfdg_rl import Transitions

FOLDER = Path(__file__).parents[2] / "examples" / "libraries"
EXAMPLES = {  # what each needs
    "stable_baselines": "stable_baselines3",
    "cleanrl_sac": "stable_baselines3",
    "torchrl_sac": "torchrl",
    "d3rlpy_sac": "d3rlpy",
}
OFFLINE, ONLINE = 5.0, 7.0  # rewards that tell the rows apart


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def example(name):
    pytest.importorskip(EXAMPLES[name], reason="an environment of its own has it: hatch run libraries:test")
    return importlib.import_module(name)


def rows(count, reward, seed=0):
    rng = torch.Generator().manual_seed(seed)
    obs = torch.randn(count, 3, generator=rng)
    action = 2 * torch.rand(count, 1, generator=rng) - 1
    ends = (torch.arange(count) % 7 == 3).float()
    return Transitions(obs, action, torch.full((count,), reward), obs + 1, ends)


def equal(ours, theirs):
    return all(
        torch.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-6)
        for name in ("obs", "action", "reward", "next_obs", "terminal")
    )


@pytest.fixture
def replay():
    from mixed_replay import MixedReplay

    return MixedReplay(rows(50, OFFLINE), rows=40, fit_steps=2, width=8)


def shares(reward):
    """Count the offline and the online rows of a batch; the others are generated."""
    reward = np.asarray(reward).ravel()
    return int((reward == OFFLINE).sum()), int((reward == ONLINE).sum())


def test_batches_have_exact_shares(replay):
    assert replay.counts(256)[:2] == (128, 128)
    assert len(replay.others(replay.counts(256))) == 128
    replay.refresh(rows(30, ONLINE))
    counts = replay.counts(256)
    assert counts == (85, 85, 17, 69)
    others = replay.others(counts)
    assert len(others) == 256 - counts.online
    assert shares(others.reward) == (counts.offline, 0)
    assert others.action.abs().max() <= 1


@pytest.mark.parametrize("refreshed", [False, True])
def test_stable_baselines_buffer(replay, refreshed):
    module = example("stable_baselines")
    import gymnasium

    env = gymnasium.make("Pendulum-v1")
    buffer = module.MixedBuffer(60, env.observation_space, env.action_space, "cpu", n_envs=2)
    stored = rows(60, ONLINE)
    for step in range(0, 60, 2):
        obs, action, reward, after, ends = (
            getattr(stored, n)[step : step + 2].numpy() for n in ("obs", "action", "reward", "next_obs", "terminal")
        )
        limits = [{"TimeLimit.truncated": step == 8}] * 2
        buffer.add(obs, after, action, reward, np.maximum(ends, step == 8), limits)
    truncated = Transitions(stored.obs, stored.action, stored.reward, stored.next_obs, stored.terminal.clone())
    truncated.terminal[8:10] = 0
    assert equal(buffer.online_rows(), truncated)
    assert len(buffer.sample(64).rewards) == 64, "without other rows it is the library's own"
    buffer.replay = replay
    if refreshed:
        replay.refresh(buffer.online_rows())
    batch = buffer.sample(256)
    assert shares(batch.rewards) == ((85, 85) if refreshed else (128, 128))
    assert batch.observations.shape == batch.next_observations.shape == (256, 3)
    assert batch.dones.shape == (256, 1)


def test_cleanrl_lines(replay):
    module = example("cleanrl_sac")
    import gymnasium

    env = gymnasium.make("Pendulum-v1")
    buffer = module.ReplayBuffer(60, env.observation_space, env.action_space, "cpu", handle_timeout_termination=False)
    stored = rows(60, ONLINE)
    for step in range(60):
        obs, action, reward, after, ends = (
            getattr(stored, n)[step : step + 1].numpy() for n in ("obs", "action", "reward", "next_obs", "terminal")
        )
        buffer.add(obs, after, 2 * action, reward, ends, [{}])
    assert equal(module.rows(buffer), stored)
    replay.refresh(module.rows(buffer))
    counts = replay.counts(256)
    batch = module.mix(buffer.sample(counts.online), replay.others(counts))
    assert shares(batch.rewards) == (85, 85)
    assert batch.actions.abs().max() > 1, "in the environment's units"


def test_torchrl_batches(replay):
    module = example("torchrl_sac")
    stored = rows(60, ONLINE)
    assert equal(module.from_tensordict(module.to_tensordict(stored)), stored)
    buffer = module.ReplayBuffer(storage=module.LazyTensorStorage(60))
    buffer.extend(module.to_tensordict(stored))
    assert equal(module.from_tensordict(buffer[:]), stored)
    replay.refresh(module.from_tensordict(buffer[:]))
    batch = module.sample(buffer, replay)
    assert batch.batch_size == (256,)
    assert shares(batch["next", "reward"]) == (85, 85)


def test_d3rlpy_batches(replay):
    module = example("d3rlpy_sac")
    import gymnasium

    buffer = module.MixedBuffer(module.FIFOBuffer(100), env=gymnasium.make("Pendulum-v1"))
    obs = np.arange(63, dtype=np.float32).reshape(21, 3)
    for step in range(21):
        buffer.append(obs[step], np.array([2 * 0.25], np.float32), ONLINE)
    buffer.clip_episode(True)
    online = buffer.online_rows()
    assert torch.equal(online.obs[:20], torch.from_numpy(obs[:20]))
    assert torch.equal(online.next_obs[:20], torch.from_numpy(obs[1:]))
    assert set(online.action.flatten().tolist()) == {0.25}
    assert online.terminal.sum() == 1
    buffer.replay = replay
    replay.refresh(online)
    batch = buffer.sample_transition_batch(256)
    assert shares(batch.rewards) == (85, 85)
    assert batch.next_actions.shape == batch.actions.shape == (256, 1)


WATCHED = """
import faulthandler, os, runpy, sys
faulthandler.dump_traceback_later(1_800, exit=True)  # what hangs says where
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("options", [[], ["--plain"]], ids=["mixed", "plain"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains(name, options, tmp_path):
    example(name)
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, str(FOLDER / f"{name}.py"), "--quick", *options]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"mean return after 600 steps: -\d+\.\d", done.stdout)
