"""Tables of an environment and data of one's own: sparse rewards, faults through process borders, closing."""

import os

import gymnasium
import numpy as np
import pytest
import torch

from cfdg_experiments import cli
from cfdg_experiments.cells import Cell, Workspace
from cfdg_experiments.grid import run_grid
from cfdg_experiments.profile import profile_for
from cfdg_experiments.profile_files import load_profile
from cfdg_experiments.run import CellRun, pretrain_cell, run_cell
from cfdg_rl.datasets.d4rl import write_hdf5
from cfdg_rl.envs.errors import EnvError

SOURCE = '''
import gymnasium
import numpy as np

MADE = []


class SimError(Exception):
    def __init__(self, code, message):
        super().__init__(message)


class Line(gymnasium.Env):
    """A point that reaches a goal: reward 1 there, where the episode ends, and 0 elsewhere."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fault=""):
        self.fault = fault
        self.life = 0
        self.closings = 0
        MADE.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        self.clock = 0
        return self._seen(), {}

    def step(self, action):
        self.life += 1
        if self.life == 7 and self.fault == "own":
            raise SimError(7, "solver diverged")
        if self.life == 7 and self.fault == "value":
            raise ValueError("operands could not be broadcast together")
        self.x += 0.3 * float(action[0])
        self.clock += 1
        reached = self.x > 1.5
        reward = float("nan") if self.life == 7 and self.fault == "nan" else float(reached)
        return self._seen(), reward, bool(reached), False, {}

    def _seen(self):
        return np.array([self.x, self.clock / 50], np.float32)

    def close(self):
        self.closings += 1


for fault in ("", "own", "value", "nan"):
    gymnasium.register(f"CfdgLine{fault.title()}-v0", Line, max_episode_steps=50, kwargs={"fault": fault})
'''
TINY = {
    "seeds": [0, 1],
    "algorithms": ["iql"],
    "iql.hidden": [16, 16],
    "pretrain.steps": 10,
    "finetune.steps": 60,
    "finetune.warm_up": 10,
    "finetune.refresh_every": 40,
    "finetune.synthetic_rows": 400,
    "diffusion.width": 64,
    "diffusion.blocks": 2,
    "diffusion.sampling_steps": 8,
    "refresh.first_steps": 300,
    "evaluation.every": 60,
    "evaluation.episodes": 2,
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The folder of a module with the environments, and a file of rows that succeed nearly always."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "cfdg_test_lines.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        env = gymnasium.make("cfdg_test_lines:CfdgLine-v0")
        rng = np.random.default_rng(0)
        rows = []
        for episode in range(60):
            obs, _ = env.reset(seed=episode)
            over = False
            while not over:
                action = rng.uniform(-0.6, 1, 1).astype(np.float32)
                after, reward, terminal, truncated, _ = env.step(action)
                rows.append((obs, action, reward, after, terminal, truncated))
                obs = after
                over = terminal or truncated
        keys = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
        columns = {key: np.array(column) for key, column in zip(keys, zip(*rows, strict=True), strict=True)}
        write_hdf5(folder / "goal.hdf5", columns, {})
        yield folder


def cell_of(folder, arm="cfdg", fault="", **changes):
    name = f"hdf5:{folder / 'goal.hdf5'}@cfdg_test_lines:CfdgLine{fault.title()}-v0"
    profile = load_profile("quick", TINY | {"data.datasets": [name], "data.rows": None} | changes)
    return Cell(name, "iql", arm, profile_for(profile, name, "iql"))


@pytest.mark.parametrize(("reward", "pair"), [("raw", (0, 1)), ("return-range", (0, 1000)), ("minus-one", (-1, 0))])
def test_a_success_task_of_ones_own_gets_its_own_two_rewards(lines, tmp_path, reward, pair):
    """Synthetic rewards are the mapped pair, and the goal's share of terminals is near the data's."""
    space = Workspace(tmp_path)
    cell = cell_of(lines, **{"iql.reward": reward})
    pretrain_cell(cell, space, lambda event: None)
    run = CellRun(cell, space)
    if reward == "return-range" and np.ptp(run.data.episode_returns) == 0:
        pytest.skip("all episodes succeed")
    list(run.run())
    assert run.data.sparse
    offline = run.pools.decode(run.pools.offline.view())
    made = run.pools.decode(torch.cat([run.pools.offline_synthetic.view(), run.pools.online_synthetic.view()], 1))
    assert sorted(set(made.reward.flatten().tolist())) == list(pair)
    assert torch.equal(made.terminal.bool(), made.reward == pair[1])
    assert torch.equal(offline.terminal.bool(), offline.reward == pair[1])
    share = float(offline.terminal.mean())
    assert share / 5 < float(made.terminal.mean()) < 5 * share
    run.close()


def test_a_cell_closes_every_environment_that_it_made(lines, tmp_path):
    import cfdg_test_lines

    cfdg_test_lines.MADE.clear()
    run_cell(cell_of(lines, "base"), Workspace(tmp_path), lambda event: None)
    made = [env for env in cfdg_test_lines.MADE if isinstance(env, cfdg_test_lines.Line)]
    assert len(made) > 2 * 3
    assert {env.closings for env in made} == {1}


SENTENCES = {
    "own": "failed in step 7 of evaluation (SimError: solver diverged)",
    "nan": "gave reward nan in step 7 of evaluation, expected finite numbers",
}


@pytest.mark.parametrize("fault", SENTENCES)
def test_faults_of_the_environment_cross_process_borders(lines, tmp_path, fault):
    """Also an error that cannot be made from its message, which would break the pool on its way."""
    cell = cell_of(lines, "base", fault)
    with pytest.raises(EnvError) as error:
        run_grid([cell], Workspace(tmp_path), 1, lambda event: None, lambda cell, result: None)
    env_id = cell.dataset.rpartition("@")[2]
    assert str(error.value) == f"environment '{env_id}' {SENTENCES[fault]}"
    assert ("cfdg_test_lines.py" in error.value.details) == (fault != "nan"), "the environment's own traceback"


def test_the_command_prints_the_traceback_behind_the_sentence(monkeypatch, capsys):
    def fail(arguments):
        raise EnvError("environment 'X' failed in step 7", "Traceback (most recent call last):\n  mine.py\n")

    monkeypatch.setattr(cli, "_ui", fail)
    assert cli.main(["ui"]) == 2
    assert capsys.readouterr().err == (
        "cfdg: error: environment 'X' failed in step 7\nTraceback (most recent call last):\n  mine.py\n"
    )
