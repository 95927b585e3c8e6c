"""Policies of finished cells: kept, listed, found, played and exported."""

import contextlib
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.keys import cell_key
from cfdg_experiments.cells.policy_store import files_of_cell, find_policy, load_offline, stored_policies
from cfdg_experiments.cells.run import CellRun, run_cell
from cfdg_experiments.cli import main
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_rl import load_policy
from cfdg_rl.policy_file import Policy, write_policy

HOPPER = "recorded:hopper-medium"
TINY = {
    "seeds": [0, 1],
    "data.rows": 10_000,
    "data.datasets": [HOPPER],
    "iql.hidden": [16, 16],
    "iql.normalise_obs": True,
    "pretrain.steps": 20,
    "finetune.steps": 60,
    "finetune.warm_up": 10,
    "finetune.refresh_every": 60,
    "evaluation.every": 20,
    "evaluation.episodes": 1,
}


def cell_of(algorithm):
    return Cell(HOPPER, algorithm, "base", profile_for(load_profile("quick", TINY), HOPPER, algorithm))


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    space = Workspace(folder / "runs", folder / "cache")
    for algorithm in ("iql", "pex"):
        run_cell(cell_of(algorithm), space, lambda event: None)
    return space


def test_every_seed_keeps_its_final_and_its_best_policy(space):
    cell = cell_of("iql")
    result = run_cell(cell, space, lambda event: None)
    files = files_of_cell(space.folder, cell_key(cell))
    assert [path.name for path in files] == [
        f"seed{n}-{kind}.safetensors" for n in (0, 1) for kind in ("best", "final")
    ]
    for replica, seed in enumerate((0, 1)):
        best, final = (
            load_policy(files[0].parent / f"seed{seed}-{kind}.safetensors").facts for kind in ("best", "final")
        )
        assert final.step == 60
        assert final.score == result.final[replica]
        assert best.score == result.scores[replica].max()
        assert best.step == result.steps[result.scores[replica].argmax()]
        assert (best.dataset, best.algorithm, best.seed, best.arm) == (HOPPER, "IQL", seed, "base")
        assert best.settings["normalise_obs"] is True


def test_the_final_policy_is_the_agents(space):
    cell = cell_of("iql")
    run = CellRun(cell, space)
    list(run.run())
    policy = load_policy(files_of_cell(space.folder, cell_key(cell))[3])
    obs = run.data.transitions.obs[:50]
    agents = run.agent.act(obs.expand(2, -1, -1), explore=False)[1].numpy()
    np.testing.assert_allclose(policy(obs.numpy()), agents, atol=1e-5)


def test_an_offline_checkpoint_carries_its_settings(space):
    cell = cell_of("iql")
    again = load_offline(space.pretrained(cell))
    run = CellRun(cell, space)
    obs = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.act(obs, explore=False), run.agent.act(obs, explore=False))


def test_a_policy_is_found_by_a_part_of_its_name(space):
    assert len(stored_policies(space.folder)) == 8
    best = find_policy(space.folder, "hopper-medium-iql")
    assert best.path.stem.endswith("best")
    assert best.score == max(policy.score for policy in stored_policies(space.folder) if "-iql-" in policy.name)
    assert find_policy(space.folder, "iql", seed=1, final=True).path.stem == "seed1-final"
    assert find_policy(space.folder, str(best.path)).facts == best.facts
    with pytest.raises(ValueError, match=r"'hopper' means 2 cells, expected a longer name of one of hopper-"):
        find_policy(space.folder, "hopper")
    with pytest.raises(ValueError, match=r"no policy 'walker' .* expected a file or a part of one of hopper-"):
        find_policy(space.folder, "walker")
    with pytest.raises(ValueError, match="holds no policies"):
        find_policy(space.folder / "elsewhere", "walker")


def test_the_commands_list_play_and_export(space, capsys, tmp_path):
    out = ["--out", str(space.folder)]
    assert main(["policies", *out]) == 0
    listed = capsys.readouterr().out
    assert "seed0-best" in listed
    assert all(line.endswith(f"Hopper-v5  {HOPPER}, arm base") for line in listed.splitlines())
    assert main(["play", "iql", "--episodes", "2", *out]) == 0
    first = capsys.readouterr().out
    assert "episode 2: return" in first
    assert main(["play", "iql", "--episodes", "2", *out]) == 0
    assert capsys.readouterr().out == first, "the same starts, the same actions"
    assert main(["export", "pex", "--format", "torchscript", "--to", str(tmp_path / "p.pt"), *out]) == 0
    told = capsys.readouterr().out
    assert "largest difference of an action" in told
    assert f"PEX in Hopper-v5, seed {find_policy(space.folder, 'pex').facts.seed}, {HOPPER}, arm base" in told
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such
        module = torch.jit.load(str(tmp_path / "p.pt"))
    assert module(torch.zeros(3, 11)).shape == (3, 3)
    assert main(["play", "walker", *out]) == 2
    assert "no policy 'walker'" in capsys.readouterr().err


def test_a_played_return_is_the_evaluations_own(space):
    """The environment's own units and start states: an evaluation's episode, played by the file."""
    from cfdg_rl.envs import make_env
    from cfdg_rl.streams import derive_seed

    cell = cell_of("iql")
    result = run_cell(cell, space, lambda event: None)
    policy = find_policy(space.folder, "iql", seed=0, final=True)
    act = load_policy(policy.path)
    env = make_env("Hopper-v5")
    obs, _ = env.reset(seed=derive_seed(0, f"evaluate {len(result.steps) - 1} 0") % 2**31)
    total = 0.0
    over = False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(act(obs))
        total += reward
        over = terminated or truncated
    score = 100 * (total + 20.272305) / (3234.3 + 20.272305)
    assert score == pytest.approx(result.final[0], abs=0.5)


def test_a_played_score_is_on_the_scale_of_the_datas_own(space, tmp_path, capsys):
    policy = load_policy(find_policy(space.folder, "iql").path)
    assert policy.facts.reference == (-20.272305, 3234.3)
    path = tmp_path / "policy.safetensors"
    for facts, score_of in (
        ({"reference": (0.0, 1.0)}, lambda total: 100 * total),
        ({"reference": None}, lambda total: 100 * (total + 20.272305) / (3234.3 + 20.272305)),  # an older file
        ({"reference": None, "dataset": "minari:mine/hopper-v0"}, lambda total: float("nan")),
    ):
        write_policy(Policy(policy.network, replace(policy.facts, **facts)), path)
        assert main(["play", str(path), "--episodes", "1"]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        total, _, rest = line.partition("return ")[2].partition(" in ")
        score = float(rest.partition("score ")[2] or "nan")
        assert score == pytest.approx(score_of(float(total)), abs=1.1, nan_ok=True)


class Filmer:
    """Stands in for imageio-ffmpeg, which like it ends without a word where the last bytes do not fit."""

    def write_frames(self, path, size, **options):
        with Path(path).open("wb", buffering=0) as file:
            while True:
                picture = yield
                if picture is not None:
                    with contextlib.suppress(OSError):
                        file.write(picture.tobytes()[:1000])

    def count_frames_and_secs(self, path):
        return Path(path).stat().st_size // 1000, 1.0


@pytest.mark.parametrize("pictures", [3, 400])
@pytest.mark.parametrize("filmer", ["stand-in", "imageio_ffmpeg"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg leaves pipes open
def test_a_film_on_a_full_disk_keeps_the_earlier_one(tmp_path, small_files, monkeypatch, filmer, pictures):
    from cfdg_experiments import play

    if filmer == "stand-in":
        monkeypatch.setattr(play, "import_module", lambda name: Filmer())
    else:
        pytest.importorskip(filmer, reason="the extra video is not installed")
    (tmp_path / "out.mp4").write_text("the last good one")
    noise = np.random.default_rng(0)
    told = re.escape(f"film {tmp_path / 'out.mp4'} cannot be written whole")

    def make():
        with play.film(tmp_path / "out.mp4", 30.0) as show:
            for _ in range(pictures):
                show(noise.integers(0, 256, (48, 64, 3)).astype(np.uint8))

    with small_files(1500), pytest.raises(OSError, match=told):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_text() == "the last good one"


def test_the_command_says_that_a_film_does_not_fit(space, tmp_path, small_files, monkeypatch, capsys):
    monkeypatch.setattr("cfdg_experiments.play.import_module", lambda name: Filmer())
    drawn = lambda env, show, step, stride: show(np.zeros((48, 64, 3), np.uint8))  # noqa: E731 - needs no screen
    monkeypatch.setattr("cfdg_experiments.play._show", drawn)
    words = ["play", "iql", "--episodes", "1", "--video", str(tmp_path / "out.mp4"), "--out", str(space.folder)]
    with small_files(1500):
        assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"cfdg: error: film {tmp_path / 'out.mp4'} cannot be written whole")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg leaves pipes open
def test_a_film_is_made_without_a_screen(space, tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg", reason="the extra video is not installed")
    import imageio_ffmpeg

    from cfdg_experiments.play import film

    with film(tmp_path / "out.mp4", 30.0) as show:
        for level in range(12):
            show(np.full((48, 64, 3), 20 * level, np.uint8))
    frames = imageio_ffmpeg.read_frames(str(tmp_path / "out.mp4"))
    about = next(frames)
    assert about["size"] == (64, 48)
    levels = [np.frombuffer(frame, np.uint8).mean() for frame in frames]
    assert len(levels) == 12
    assert np.all(np.diff(levels) > 10)
