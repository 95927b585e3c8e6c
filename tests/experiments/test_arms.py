"""Arms: their batches in both paradigms and protocols, their rows, and a tiny cell of each from end to end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cfdg_experiments.arms import ARMS, find_arm
from cfdg_experiments.cells.agents import make_mixer
from cfdg_experiments.cells.augmentation import PresentPolicy
from cfdg_experiments.cells.cell import Cell, Workspace, cells_of
from cfdg_experiments.cells.keys import cell_key
from cfdg_experiments.cells.run import CellRun, pretrain_cell
from cfdg_experiments.cli import main
from cfdg_experiments.generators import Context, GeneratorSettings
from cfdg_experiments.generators.inspection import MEASURES
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.profile import profile_for
from cfdg_experiments.studies.run import without_gate
from cfdg_rl import check_generator
from cfdg_rl.agents.iql import IQL, IQLSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.envs.simulate import Outcome
from cfdg_rl.mixing import Pools
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams

HOPPER = "recorded:hopper-medium"
TINY = {
    "seeds": [0, 1],
    "device": "cpu",
    "data.rows": 1_000,
    "data.datasets": [HOPPER],
    "iql.hidden": [16, 16],
    "iql.reward": "raw",  # one episode has no range of returns
    "pretrain.steps": 10,
    "finetune.steps": 60,
    "finetune.warm_up": 10,
    "finetune.batch_size": 24,
    "finetune.refresh_every": 20,
    "finetune.synthetic_rows": 64,
    "finetune.margin": 100.0,  # models of two gradient steps are far out
    "diffusion.width": 16,
    "diffusion.blocks": 1,
    "diffusion.sampling_steps": 4,
    "refresh.first_steps": 4,
    "refresh.steps": 2,
    "generators.edis.first_steps": 4,
    "generators.edis.steps": 2,
    "generators.edis.pool_rows": 64,
    "generators.curiosity.steps": 4,
    "inspection.rows": 32,
    "inspection.neighbours": 200,
    "inspection.queries": 32,
    "evaluation.every": 30,
    "evaluation.episodes": 1,
}
AUGMENTING = [name for name, arm in ARMS.items() if arm.augments]


def cell_of(arm, algorithm="iql", profile="quick", **changes):
    settings = TINY if profile == "quick" else {}
    chosen = load_profile(profile, {**settings, **{key.replace("__", "."): value for key, value in changes.items()}})
    return Cell(HOPPER, algorithm, arm, profile_for(chosen, HOPPER, algorithm))


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache"))


def started(cell, space):
    """The run of a cell, with its offline checkpoint made."""
    pretrain_cell(cell, space, lambda event: None)
    return CellRun(cell, space)


@pytest.fixture(scope="module")
def finished(space):
    """``run(arm)``: a cell of 60 steps with refreshes at 20 and 40, run once."""
    known = {}

    def run(arm):
        if arm not in known:
            known[arm] = started(cell_of(arm), space)
            list(known[arm].run())
        return known[arm]

    return run


NAMES = ("offline", "online", "offline_synthetic", "online_synthetic")
SHARED = {  # arm: rows of a batch of 256 after a refresh, by NAMES
    "base": (128, 128, 0, 0),
    "base-updates": (128, 128, 0, 0),
    "base-share": (102, 154, 0, 0),
    "cfdg-offline-only": (17, 154, 85, 0),
} | dict.fromkeys(("synther", "edis", "pgr", "cfdg-online-only"), (102, 69, 0, 85))
NATIVE = {
    "base": (128, 128, 0, 0),
    "base-updates": (128, 128, 0, 0),
    "base-share": (102, 154, 0, 0),
    "edis": (0, 128, 0, 128),
    "cfdg-offline-only": (85, 85, 86, 0),
} | dict.fromkeys(("synther", "pgr", "cfdg-online-only"), (85, 85, 0, 86))
BRANCHES = {  # (online branch, offline branch)
    "cfdg-offline-only": ((0, 256, 0, 0), (171, 0, 85, 0)),
} | dict.fromkeys(("synther", "edis", "pgr", "cfdg-online-only"), ((0, 171, 0, 85), (256, 0, 0, 0)))
REAL = ((0, 256, 0, 0), (256, 0, 0, 0))


def pools_of(arm, online=200):
    """Buffers as after a refresh of the arm; rewards tell where a row comes from."""

    def rows(code, count):
        block = torch.zeros(1, count, 5)
        block[..., 2] = code
        return block

    share = arm.share(0.8)
    rings = [Ring(1, 200, 5) for _ in range(3)]
    rings[0].add(rows(1, online))
    if arm.augments and share < 1:
        rings[1].add(rows(2, 50))
    if arm.augments and share > 0:
        rings[2].add(rows(3, 50))
    first, off, on = rings
    return Pools(FixedRows(rows(0, 9)[0]), first, off, on, obs_dim=1, action_dim=1)


def counted(batch):
    return tuple(int((batch.data.reward == code).sum()) for code in range(4))


def mixer_of(name, match, algorithm="iql", **changes):
    cell = cell_of(name, algorithm, "paper", mixing__match=match, **changes)
    own = cell.profile
    plan = replace(own.finetune, refresh_every=150)
    replay = own.replay and replace(own.replay, gate=100)
    return make_mixer(plan, cell.augmentation, own.mixing, replay=replay, streams=Streams((0,), "test"))


@pytest.mark.parametrize("name", ARMS)
def test_batches_of_256_in_paradigm_one(name):
    pools = pools_of(ARMS[name])
    assert counted(mixer_of(name, "share")(pools, 256)) == SHARED.get(name, (85, 85, 17, 69))
    assert counted(mixer_of(name, "native")(pools, 256)) == NATIVE.get(name, (85, 85, 17, 69))


@pytest.mark.parametrize("name", ARMS)
def test_batches_before_the_first_refresh_are_the_bases(name):
    pools = pools_of(ARMS["base"], online=149)
    for match in ("share", "native"):
        assert counted(mixer_of(name, match)(pools, 256)) == (128, 128, 0, 0)


@pytest.mark.parametrize("name", ARMS)
def test_batches_of_256_in_paradigm_two(name):
    arm = ARMS[name]
    expected = BRANCHES.get(name, ((0, 171, 0, 85), (171, 0, 85, 0))) if arm.augments else REAL
    for probability, counts in zip((1.0, 0.0), expected, strict=True):
        mixer = mixer_of(name, "share", "apl", apl__replay__probability=probability)
        assert counted(mixer(pools_of(arm), 256)) == counts


def test_matched_arms_stay_matched_under_another_ratio():
    like = set()
    for name in ("cfdg", "synther", "edis", "base-share"):
        counts = counted(mixer_of(name, "share", mixing__synthetic_ratio=0.25)(pools_of(ARMS[name]), 256))
        like.add(counts[1] + counts[3])
    assert like == {147}  # (1 - .25) / 2 + .25 x .8 = .575


def test_the_cells_that_do_not_differ_between_protocols_are_the_same_cells():
    for name in ARMS:
        same = NATIVE.get(name) == SHARED.get(name)
        keys = {cell_key(cell_of(name, profile="paper", mixing__match=match)) for match in ("native", "share")}
        assert (len(keys) == 1) == same, name


def test_keys_follow_the_settings_that_an_arm_reads():
    def changed(arm, **changes):
        return cell_key(cell_of(arm)) != cell_key(cell_of(arm, **changes))

    assert changed("edis", generators__edis__pool_rows=99)
    assert changed("pgr", generators__curiosity__width=9)
    assert changed("base-updates", generators__updates_per_fit_step=9.0)
    assert changed("synther", diffusion__width=9)
    assert not changed("repeat", diffusion__width=9)
    assert not changed("cfdg", generators__edis__pool_rows=99, inspection__rows=9)


@pytest.mark.parametrize("name", ARMS)
def test_a_tiny_cell_of_every_arm(finished, name):
    run = finished(name)
    result = run.result()
    assert result.steps.tolist() == [0, 30, 60]
    assert np.isfinite(result.scores).all()
    if name not in AUGMENTING:
        assert "refresh/rejected" not in result.metrics
        assert not run.pools.has_synthetic
        return
    assert set(MEASURES) <= result.metrics.keys()
    assert np.isfinite(result.metrics["refresh/rejected"][:, 1:]).all()
    assert (result.metrics["refresh/inspect_seconds"][:, 1:] > 0).all()
    assert run.augmentation.refreshes == 2
    label = "offline" if name == "cfdg-offline-only" else "online"
    assert np.isfinite(result.metrics[f"refresh/swd_{label}"][:, 1:]).all()


def test_network_calls_tell_what_guidance_and_energies_cost(finished):
    calls = {name: finished(name).result().metrics["refresh/network_calls"][0, 1] for name in AUGMENTING}
    rows = 64 * 4  # generated rows and steps of the sampler
    assert (calls["cfdg"], calls["cfdg-unguided"], calls["synther"]) == (2 * rows, rows, rows)
    assert calls["pgr"] == 2 * rows + 20, "the relevance of the first twenty online rows"
    assert calls["edis"] == 4 * rows + TINY["generators.edis.pool_rows"] * 4
    assert calls["cfdg-split"] == 2 * (rows + 4 * 4) + 64, "four spare rows, and an outcome for each row"
    assert calls["repeat"] == calls["jitter"] == calls["simulated"] == 0


def test_all_arms_are_the_same_until_the_first_refresh(finished):
    for name in ARMS:
        assert torch.equal(finished(name).pools.online.view()[:, :20], finished("base").pools.online.view()[:, :20])


def test_repeated_rows_are_real_rows_of_their_label(finished):
    pools = finished("repeat").pools
    offline = pools.offline.view()
    for replica in range(2):
        for drawn, real in ((pools.offline_synthetic, offline), (pools.online_synthetic, pools.online.view()[replica])):
            assert (drawn.view()[replica][:, None] == real[None]).all(-1).any(1).all()


def test_simulated_rows_are_the_simulators(finished):
    for name in ("simulated", "cfdg-simulated"):
        metrics = finished(name).result().metrics
        known = np.isfinite(metrics["refresh/dynamics_mean"])
        assert (metrics["refresh/dynamics_mean"][known] < 1e-9).all()
        assert (metrics["refresh/reward_error"][known] < 1e-4).all()
    assert np.isfinite(finished("simulated").result().metrics["refresh/dynamics_mean"][:, 1:]).all()
    assert finished("cfdg").result().metrics["refresh/dynamics_mean"][0, 1] > 1e-4


def test_base_updates_spends_the_gradient_steps_of_a_generator(space):
    cell = cell_of("base-updates", generators__updates_per_fit_step=1.5)
    run = started(cell, space)
    count = 0
    update = run.agent.update

    def counting(batch):
        nonlocal count
        count += 1
        return update(batch)

    run.agent.update = counting
    list(run.run())
    assert count == (60 - 10) + 6 + 3, "one per step after the warm-up, and 1.5 x 4 and 1.5 x 2"
    assert (run.result().metrics["refresh/update_seconds"][:, 1:] > 0).all()


def test_inspection_can_be_switched_off_and_changes_nothing_else(space, finished):
    run = started(cell_of("cfdg", inspection__enabled=False), space)
    list(run.run())
    assert not set(MEASURES) & run.result().metrics.keys()
    assert np.array_equal(run.result().scores, finished("cfdg").result().scores)


@pytest.mark.parametrize("name", ["synther", "edis", "pgr", "jitter", "separate-models"])
def test_a_killed_cell_of_a_rival_continues_bit_for_bit(space, finished, name, tmp_path):
    whole = finished(name)
    first = CellRun(whole.cell, space)
    first.path = tmp_path / "state.safetensors"
    for event in first.run():
        if event.step == 30 and event.evaluation:
            break
    save_checkpoint(first.path, first.state())
    second = CellRun(whole.cell, space)
    second.path = first.path
    list(second.run())
    assert np.array_equal(second.result().scores, whole.result().scores)
    for ours, theirs in zip(second.agent.parameters(), whole.agent.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(second.pools.online_synthetic.view(), whole.pools.online_synthetic.view())
    timed = {key for key in whole.result().metrics if "seconds" in key or "second" in key}
    for key, values in whole.result().metrics.items():
        assert key in timed or np.array_equal(second.result().metrics[key], values, equal_nan=True), key


def test_a_checkpoint_of_an_earlier_version_is_refused(space, finished, tmp_path):
    run = finished("cfdg")
    state = run.state()
    del state["augmentation"]
    save_checkpoint(tmp_path / "old.safetensors", state)
    with pytest.raises(ValueError, match="is of an earlier version, expected one of this; delete it"):
        CellRun(run.cell, space).restore(load_checkpoint(tmp_path / "old.safetensors"))


def test_actions_of_the_present_policy_leave_exploration_as_it_was():
    agent = IQL(2, 1, IQLSettings(hidden=(8,)), seeds=(0, 1))
    policy = PresentPolicy(agent, Streams((0, 1), "present policy"))
    before = agent.streams["exploration"].state()
    obs = torch.zeros(2, 5, 2)
    first = policy(obs)
    assert torch.equal(agent.streams["exploration"].state(), before)
    assert not torch.equal(first, policy(obs)), "its own draws go on"
    assert not torch.equal(first, agent.act(obs, explore=True))


class Line:
    """A stand-in for the simulator: s' = s, and every state is possible."""

    def step_from(self, obs, action):
        return Outcome(obs[:, 0], obs, np.zeros(len(obs), bool))

    def is_impossible(self, obs):
        return np.zeros(len(obs), bool)

    def hides(self, obs):
        return np.zeros(len(obs), bool)


@pytest.mark.parametrize("name", AUGMENTING)
@pytest.mark.filterwarnings("ignore:the mean observation of sampled rows")
def test_every_generator_passes_the_check(name, monkeypatch):
    monkeypatch.setattr("cfdg_experiments.generators.context.make_simulator", lambda env_id, threads: Line())
    own = cell_of("cfdg").profile
    small = replace(own.generators.edis, first_steps=4, steps=2, pool_rows=64)

    def make():
        context = Context(
            dims=(3, 2),
            seeds=(0, 1),
            device="cpu",
            diffusion=own.diffusion,
            schedule=own.refresh,
            settings=GeneratorSettings(edis=small, curiosity=own.generators.curiosity),
            policy=lambda obs: torch.zeros(*obs.shape[:2], 2),
            env_id="Line-v0",
            reward=RewardMap(),
        )
        return ARMS[name].generator(context)

    check_generator(make)


OWN = """
from cfdg_rl import Streams


class Copies:
    def __init__(self, obs_dim, action_dim, seeds, device):
        self.streams = Streams(seeds, "copies", device)

    def fit(self, rows, labels):
        self.rows = rows

    def sample(self, labels):
        index = self.streams.integers(self.rows.shape[1], labels.shape[1])[..., None]
        return self.rows.gather(1, index.expand(-1, -1, self.rows.shape[2]))


class Forgetful(Copies):
    sample = None


def without_arguments():
    return Copies(3, 2, (0,), "cpu")


NUMBER = 5
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module in the current folder, whose name no other test uses."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.filterwarnings("ignore:the mean observation of sampled rows")
def test_a_generator_of_ones_own_is_an_arm(own_module, space):
    cell = cell_of(f"{own_module}:Copies", arms=["base", f"{own_module}:Copies"])
    run = started(cell, space)
    list(run.run())
    assert len(run.pools.online_synthetic) == 51
    assert np.isnan(run.result().metrics["refresh/network_calls"]).all()
    assert space.result(cell).name.startswith(f"hopper-medium-iql-{own_module}-Copies-")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Copy", r"is not a class or function of its module \(did you mean Copies"),
        ("NUMBER", "is not a class or function of its module"),
        ("Forgetful", "is no generator for this loop: Forgetful has no method 'sample'"),
        ("without_arguments", r"raised TypeError .* expected to be called as \(obs_dim, action_dim, seeds, device\)"),
    ],
)
def test_generators_that_do_not_fit_are_refused(own_module, attribute, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_profile("quick", {"arms": [f"{own_module}:{attribute}"]})
    assert "\n" not in str(caught.value)


def test_unknown_arms_and_modules_are_refused():
    with pytest.raises(ValueError, match=r"arms is 'sinther' \(did you mean synther"):
        find_arm("sinther")
    with pytest.raises(ValueError, match="module 'no_such_module' of arm no_such_module:X cannot be imported: No mod"):
        find_arm("no_such_module:X")


def test_an_arm_that_a_dataset_cannot_have_is_refused_before_any_work(tmp_path):
    name = f"hdf5:{tmp_path / 'mine.hdf5'}@Pendulum-v1"
    changes = {"data.datasets": [name], "arms": ["base", "simulated"], "algorithms": ["iql"]}
    with pytest.raises(ValueError, match=r"arm simulated needs a simulator .* none for environment Pendulum-v1"):
        cells_of(load_profile("quick", changes))
    assert len(cells_of(load_profile("quick", changes | {"arms": ["base"]}))) == 1
    crowded = {"mixing.match": "share", "mixing.synthetic_ratio": 0.6, "arms": ["cfdg-offline-only"]}
    with pytest.raises(ValueError, match=r"arm cfdg-offline-only with match share: .* expected room"):
        cells_of(load_profile("quick", crowded))


@pytest.mark.parametrize("algorithm", ["iql", "apl"])
def test_generated_rows_on_top_of_no_real_ones_are_refused_before_any_work(algorithm):
    alone = {"mixing.extra": True, "mixing.synthetic_ratio": 1, "algorithms": [algorithm], "arms": ["cfdg"]}
    alone["data.datasets"] = ["recorded:hopper-medium"]
    sentence = r"arm cfdg with match native: synthetic_ratio is 1.0 with extra generated rows, expected less than 1"
    with pytest.raises(ValueError, match=sentence):
        cells_of(load_profile("quick", alone))
    assert len(cells_of(load_profile("quick", alone | {"arms": ["base"]}))) == 1
    assert len(cells_of(load_profile("quick", alone | {"mixing.extra": False}))) == 1


def test_a_generator_of_ones_own_without_the_gate_is_told(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    changes = {"arms": ["base", "cfdg", "own_generator:LinearDynamics"], "mixing.gate": True}
    assert without_gate(cells_of(load_profile("quick", changes))) == [
        "mixing.gate does nothing in arm own_generator:LinearDynamics: it is for this package's learnt generators"
    ]
    assert len(without_gate(cells_of(load_profile("quick", changes | {"mixing.adaptive": True})))) == 2
    assert without_gate(cells_of(load_profile("quick", changes | {"mixing.gate": False}))) == []


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_of_a_generator_is_an_arm(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    assert find_arm("own_generator:LinearDynamics").augments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "base", "sinther"], "arms is 'sinther' (did you mean synther"),
        (["--arms", "no_such_module:X"], "module 'no_such_module' of arm no_such_module:X cannot be imported"),
        (["--arms", "simulated", "--file", "x.hdf5", "--env", "Pendulum-v1"], "arm simulated needs a simulator"),
        (["--set", "mixing.match=equal"], "mixing.match is 'equal', expected 'native' or 'share'"),
    ],
)
def test_refusals_are_one_sentence_and_status_2(words, message, tmp_path, capsys):
    assert main(["table1", "--algorithms", "iql", "--out", str(tmp_path / "runs"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert not (tmp_path / "runs").exists()
