"""Tables of an environment and data of one's own: sparse rewards, faults through process borders, closing."""

import importlib
import os
import shutil
from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfdg_experiments import cli
from cfdg_experiments.cells.cell import Cell, Workspace, cells_of, finished_cells
from cfdg_experiments.cells.run import CellRun, pretrain_cell, run_cell
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_experiments.studies.workers import run_grid
from cfdg_rl.datasets.checksums import write_hdf5
from cfdg_rl.datasets.load import content_digest, is_sparse, load_dataset, suite
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
    "maze.iql.hidden": [16, 16],
    "pretrain.steps": 10,
    "finetune.steps": 60,
    "finetune.warm_up": 10,
    "finetune.refresh_every": 40,
    "finetune.synthetic_rows": 400,
    "diffusion.width": 64,
    "diffusion.blocks": 2,
    "diffusion.sampling_steps": 8,
    "refresh.first_steps": 300,
    "maze.evaluation.every": 60,
    "maze.evaluation.episodes": 2,
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


def test_a_success_task_has_the_settings_of_a_maze_and_no_apl(lines, tmp_path, capsys):
    """Decided from the rewards, as the dataset itself does, and not from the name."""
    name = cell_of(lines).dataset
    profile = load_profile("quick", {"data.datasets": [name], "data.apl_datasets": None, "algorithms": ["iql", "apl"]})
    assert load_dataset(name).sparse
    assert is_sparse(name)
    assert suite(name) == "custom"
    cells = cells_of(profile)
    assert {cell.algorithm for cell in cells} == {"iql"}
    assert cells[0].profile.learner == profile.maze.iql
    assert cells[0].profile.learner.reward == "minus-one"
    assert cells[0].profile.evaluation == profile.maze.evaluation
    words = ["--file", str(lines / "goal.hdf5"), "--env", name.rpartition("@")[2], "--out", str(tmp_path)]
    assert cli.main(["table1", *words, "--algorithms", "apl", "--dry-run"]) == 2
    assert "apl cannot learn from the sparse rewards of hdf5:" in capsys.readouterr().err
    assert is_sparse("hdf5:nowhere.hdf5@Own-v0") is False


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--file", "nowhere.hdf5", "--env", "Pendulum-v1"], "nowhere.hdf5 does not exist"),
        (["--file", "goal.hdf5", "--env", "Nowhere-v0"], "if it is your own, write module:ENV_ID"),
    ],
)
def test_a_dry_run_reads_own_data_as_a_run_does(words, told, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(lines)
    assert cli.main(["table1", *words, "--out", str(tmp_path / "runs"), "--dry-run"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), scale=st.sampled_from([1, 2, -1]), data=st.data())
def test_property_of_what_is_sparse(lines, lengths, scale, data):
    """The decision before loading is the one of the loaded data, whatever the rewards are."""
    ends = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    paid = data.draw(st.sampled_from([ends, [True] * len(ends)]))
    count = sum(lengths)
    last = np.cumsum(lengths) - 1
    terminal = np.zeros(count, bool)
    terminal[last] = ends
    reward = np.zeros(count, np.float32)
    reward[last] = scale * np.array(paid)
    obs = np.arange(2 * count, dtype=np.float32).reshape(-1, 2)
    obs += 100 * np.repeat(np.arange(len(lengths)), lengths)[:, None].astype(np.float32)
    columns = {"observations": obs, "actions": np.zeros((count, 1), np.float32), "rewards": reward}
    columns |= {"next_observations": obs + 2, "terminals": terminal}
    columns["timeouts"] = np.isin(np.arange(count), last) & ~terminal
    write_hdf5(lines / "any.hdf5", columns, {})
    name = f"hdf5:{lines / 'any.hdf5'}@cfdg_test_lines:CfdgLine-v0"
    try:
        assert is_sparse(name) == load_dataset(name).sparse
    except ValueError as error:
        assert "has no transitions" in str(error)  # noqa: PT017 - a single row that is an end


def test_another_file_under_the_same_name_is_trained_again(lines, tmp_path):
    """Results, offline checkpoints and half-finished ones belong to contents, not to names."""
    path = tmp_path / "mine.hdf5"
    shutil.copy(lines / "goal.hdf5", path)
    space = Workspace(tmp_path / "runs")

    def planned():
        name = f"hdf5:{path}@cfdg_test_lines:CfdgLine-v0"
        return cells_of(load_profile("quick", TINY | {"data.datasets": [name], "data.rows": None, "arms": ["base"]}))[0]

    first = planned()
    run_cell(first, space, lambda event: None)
    assert list(finished_cells([planned()], space)) == [first], "the same file: skipped"
    os.utime(path)
    assert list(finished_cells([planned()], space)) == [first], "its time does not matter"
    with h5py.File(path, "a") as file:
        file["observations"][3, 0] += 1e-3
    second = planned()
    assert finished_cells([second], space) == {}
    for files in (space.pretrained, space.generator, space.checkpoint, space.result):
        assert files(first) != files(second)
    with pytest.raises(ValueError, match="has changed since the command began"):
        run_cell(replace(first, arm="cfdg"), space, lambda event: None)


def test_another_environment_under_the_same_name_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.hdf5").write_bytes(b"rows")
    module = tmp_path / "cfdg_test_edited.py"
    name = f"hdf5:{tmp_path}/mine.hdf5@cfdg_test_edited:Own-v0"
    found = [content_digest(name)]
    for text in ("speed = 1", "speed = 2", "speed = 1"):
        module.write_text(text)
        importlib.invalidate_caches()
        found.append(content_digest(name))
    assert len(set(found)) == 3
    assert found[1] == found[3]
    assert found[0] == content_digest(f"hdf5:{tmp_path}/mine.hdf5@Pendulum-v1"), "without a module the rows alone"


@pytest.mark.parametrize(("reward", "pair"), [("raw", (0, 1)), ("return-range", (0, 1000)), ("minus-one", (-1, 0))])
def test_a_success_task_of_ones_own_gets_its_own_two_rewards(lines, tmp_path, reward, pair):
    """Synthetic rewards are the mapped pair, and the share of terminals is near that of the rows it was fitted on."""
    space = Workspace(tmp_path)
    cell = cell_of(lines, **{"maze.iql.reward": reward})
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
    online = run.pools.decode(run.pools.online.view())
    sizes = [ring.view().shape[1] for ring in (run.pools.offline_synthetic, run.pools.online_synthetic)]
    share = np.average([offline.terminal.mean(), online.terminal.mean()], weights=sizes)
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
