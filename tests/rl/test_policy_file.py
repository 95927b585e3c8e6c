"""Files of policies: they act as the agent does, in the environment's own units, also without these packages."""

import json
import subprocess
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cfdg_rl import (
    APL,
    IQL,
    PEX,
    TD3BC,
    APLSettings,
    IQLSettings,
    PEXSettings,
    TD3BCSettings,
    export_policy,
    load_policy,
    save_policy,
)
from cfdg_rl.envs import inspect_env, make_env
from cfdg_rl.policy_file import METADATA, make_policy, read_facts
from cfdg_rl.tensor_files import read_tensors, write_tensors

OWN = "CfdgTestOwnUnits-v0"
WHOLE = "CfdgTestWholeActions-v0"
DICT = "CfdgTestDictObservations-v0"
MIXED = "CfdgTestDiscreteParts-v0"
HIDDEN = (16, 16)


class Units(gymnasium.Env):
    """Three observations, two actions in a box of their own."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(np.array([-2, 0], np.float32), np.array([6, 1], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.observation_space.sample() * 0, 0.0, False, False, {}


class Whole(Units):
    action_space = spaces.Box(np.array([0, -3]), np.array([10, 250]), dtype=np.int64)


class Parts(Units):
    observation_space = spaces.Dict(
        {"z": spaces.Box(-9, 9, (2,), np.float32), "a": spaces.Dict({"c": spaces.Box(-9, 9, (1,), np.float32)})}
    )


class Mixed(Units):
    observation_space = spaces.Dict(
        {
            "z": spaces.Box(-9, 9, (2,), np.float32),
            "a": spaces.Dict({"mode": spaces.Discrete(3, start=4), "on": spaces.MultiBinary(2)}),
            "b": spaces.MultiDiscrete([2, 3]),
        }
    )


class Words(Units):
    observation_space = spaces.Dict({"x": spaces.Box(-9, 9, (1,), np.float32), "word": spaces.Text(3)})


@pytest.fixture(scope="module", autouse=True)
def registered():
    kinds = {OWN: Units, WHOLE: Whole, DICT: Parts, MIXED: Mixed, "CfdgTestWords-v0": Words}
    for name, kind in kinds.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, kind, max_episode_steps=7)


def agent_of(kind, seeds=(3, 4), normalise=True):
    if kind == "IQL":
        agent = IQL(3, 2, IQLSettings(hidden=HIDDEN, normalise_obs=normalise), seeds=seeds)
    elif kind == "PEX":
        agent = PEX(agent_of("IQL", seeds, normalise), PEXSettings(epsilon=0.0))  # evaluation is not random then
    elif kind == "APL":
        agent = APL(3, 2, APLSettings(hidden=HIDDEN, normalise_obs=normalise), seeds=seeds)
    else:
        agent = TD3BC(3, 2, TD3BCSettings(hidden=HIDDEN, normalise_obs=normalise), seeds=seeds)
    agent.fit_scaler(5 * torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) + 2)
    for weight in agent.parameters():  # APL's first weights are so small that every action is 0
        weight.data += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    return agent


def observations(count=64):
    return (5 * np.random.default_rng(1).normal(size=(count, 3)) + 2).astype(np.float32)


def units(agent, obs, replica):
    """The agent's own mean actions in the environment's units."""
    rows = torch.from_numpy(obs).expand(2, -1, -1)
    unit = agent.act(rows, explore=False)[replica].numpy()
    return np.array([-2, 0]) + (unit + 1) / 2 * np.array([8, 1])


KINDS = ("IQL", "PEX", "APL", "TD3BC")


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_policy_acts_as_its_agent(kind, normalise, tmp_path):
    agent = agent_of(kind, normalise=normalise)
    for replica in (0, 1):
        save_policy(tmp_path / "policy.safetensors", agent, replica, OWN)
        policy = load_policy(tmp_path / "policy.safetensors")
        obs = observations()
        np.testing.assert_allclose(policy(obs), units(agent, obs, replica), atol=2e-5)
        np.testing.assert_array_equal(policy(obs[3]), policy(obs)[3])
    assert np.ptp(policy(obs), axis=0).min() > 0.1, "the actions depend on the observation"


def test_pex_takes_either_policy(tmp_path):
    agent = agent_of("PEX")
    agent.act(torch.zeros(2, 1, 3), explore=False)
    policy = save_policy(tmp_path / "policy.safetensors", agent, 0, OWN)
    obs = torch.from_numpy((observations() - policy.network.obs_mean.numpy()) / policy.network.obs_std.numpy())
    chosen = policy.network.unit_action(obs.double())
    shares = [(chosen == torch.tanh(actor(obs.double()))).all(1).float().mean() for actor in policy.network.actors]
    assert sum(shares) == 1
    assert 0 < shares[0] < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["onnx", "torchscript", "safetensors"])
def test_exported_policies_act_equally_without_these_packages(kind, format, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnxscript", reason="the extra export is not installed")
    policy = save_policy(tmp_path / "policy.safetensors", agent_of(kind), 1, OWN)
    path = tmp_path / f"out.{format}"
    assert export_policy(policy, path, format) <= 6e-6
    np.save(tmp_path / "obs.npy", observations())
    reader = {
        "onnx": "import onnxruntime; s = onnxruntime.InferenceSession(p); a = s.run(None, {'obs': obs})[0]",
        "torchscript": "import torch; a = torch.jit.load(p)(torch.from_numpy(obs)).numpy()",
        "safetensors": "import safetensors.numpy; t = safetensors.numpy.load_file(p); a = None",
    }[format]
    code = f"import sys, numpy as np; p = {str(path)!r}; obs = np.load({str(tmp_path / 'obs.npy')!r}); {reader}; "
    code += "assert not any(name.startswith('cfdg') for name in sys.modules); "
    code += f"np.save({str(tmp_path / 'action.npy')!r}, a) if a is not None else None"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    if format != "safetensors":
        np.testing.assert_allclose(np.load(tmp_path / "action.npy"), policy(observations()), rtol=0, atol=1e-6)


def test_a_file_that_acts_differently_is_refused(tmp_path, monkeypatch):
    from cfdg_rl import policy_export

    policy = save_policy(tmp_path / "policy.safetensors", agent_of("IQL"), 0, OWN)
    write, read = policy_export.FORMATS["safetensors"]
    wrong = (write, lambda path: lambda obs: read(path)(obs) + 1e-4)
    monkeypatch.setitem(policy_export.FORMATS, "safetensors", wrong)
    with pytest.raises(ValueError, match=r"actions differ by 0\.0001, expected at most 6e-06"):
        export_policy(policy, tmp_path / "out.safetensors", "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.safetensors"], "nothing is left of it"


def test_whole_actions_are_whole_and_of_the_environments_type(tmp_path):
    policy = save_policy(tmp_path / "policy.safetensors", agent_of("TD3BC"), 0, WHOLE)
    env = gymnasium.make(WHOLE)
    env.reset(seed=0)
    for obs in observations():
        action = policy(obs)
        assert action.dtype == np.int64
        env.step(action)  # the environment asserts that it is in the box
    assert export_policy(policy, tmp_path / "out.pt", "torchscript") == 0


def saturated(low, high):
    """A policy whose actions are corners of a box, nearly all of them."""
    agent = agent_of("TD3BC")
    for weight in agent.parameters():
        weight.data *= 20
    return make_policy(agent, 0, OWN, replace(inspect_env(OWN), action_low=low, action_high=high))


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.int8]),
    st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 27)), min_size=2, max_size=2),
)
@example(np.float64, [(0.1, 0.0), (-0.7, 1.4)])  # one value only, which single precision does not have
@example(np.int64, [(-999_999_999, 1_999_999_998), (0, 1)])
def test_property_of_actions_inside_the_box(dtype, corners):
    """A policy never leaves its box, whatever its type, and its network does not where the box holds a float32."""
    low, width = np.array(corners).T
    box = spaces.Box(low.astype(dtype), (low + width).astype(dtype), dtype=dtype)
    policy = saturated(box.low, box.high)
    actions = policy(observations())
    assert all(map(box.contains, actions))
    single = policy.network(torch.from_numpy(observations())).numpy()
    held = np.nextafter(box.low.astype(np.float32), np.float32(np.inf)) < box.high
    assert ((single >= box.low) & (single <= box.high))[:, held].all()


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_exported_policies_stay_inside_a_box_of_double_precision(format, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnxscript", reason="the extra export is not installed")
    from cfdg_rl import policy_export

    low, high = np.array([-0.1, 0.1]), np.array([0.7, 0.3])  # -0.1 and 0.3 round out of the box
    policy = saturated(low, high)
    export_policy(policy, tmp_path / "policy", format)
    action = policy_export.FORMATS[format][1](tmp_path / "policy")(observations())
    assert (action >= low).all()
    assert (action <= high).all()
    np.testing.assert_array_equal(action, policy(observations()).astype(np.float32))


def test_dict_observations_are_taken_as_they_come(tmp_path):
    policy = save_policy(tmp_path / "policy.safetensors", agent_of("IQL"), 0, DICT)
    again = load_policy(tmp_path / "policy.safetensors")
    assert again.facts.obs_keys == ("a/c", "z")
    seen = Parts.observation_space.sample()
    np.testing.assert_array_equal(again(seen), policy(spaces.flatten(Parts.observation_space, seen)))


def test_discrete_parts_of_an_observation_are_flattened_as_in_training(tmp_path):
    space = Mixed.observation_space
    width = spaces.flatdim(space)
    agent = TD3BC(width, 2, TD3BCSettings(hidden=HIDDEN), seeds=(3,))
    save_policy(tmp_path / "policy.safetensors", agent, 0, MIXED)
    policy = load_policy(tmp_path / "policy.safetensors")
    env = make_env(MIXED)
    assert env.observation_space.shape == (width,)
    for seed in range(20):
        space.seed(seed)
        seen = space.sample()
        np.testing.assert_array_equal(policy(seen), policy(spaces.flatten(space, seen)))
    assert read_facts(tmp_path / "policy.safetensors") == policy.facts


def test_parts_that_no_policy_can_flatten_are_refused():
    with pytest.raises(ValueError, match=r"'CfdgTestWords-v0' has observations .*Text.*, expected a flat box"):
        make_env("CfdgTestWords-v0")


def test_the_origin_is_kept(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(
        path, agent_of("PEX"), 1, OWN, dataset="recorded:mine", seed=4, step=600, score=12.5, reference=(1, 2.5)
    )
    facts = load_policy(path).facts
    assert (facts.algorithm, facts.env_id, facts.dataset, facts.seed, facts.step, facts.score) == (
        "PEX", OWN, "recorded:mine", 4, 600, 12.5,
    )  # fmt: skip
    assert facts.reference == (1.0, 2.5)
    assert facts.settings["normalise_obs"] is True
    assert facts.settings["epsilon"] == 0.0
    assert read_facts(path) == facts


def rewritten(path, change):
    """Write the facts of a policy anew, with a checksum, after ``change`` of their dictionary."""
    tensors, metadata = read_tensors(path)
    facts = json.loads(metadata[METADATA])
    found = change(facts)
    write_tensors(path, tensors, {METADATA: json.dumps(facts if found is None else found)})


def test_a_file_without_an_arm_and_one_with_later_facts_are_read(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, agent_of("IQL"), 0, OWN, seed=4, arm="cfdg")
    assert load_policy(path).facts.arm == "cfdg"
    rewritten(path, lambda facts: facts.pop("arm") and None)
    assert load_policy(path).facts == read_facts(path)
    assert (read_facts(path).arm, read_facts(path).seed) == (None, 4)
    rewritten(path, lambda facts: facts.update(later=1))
    assert read_facts(path).seed == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("env_id") and None,
        lambda facts: facts.pop("obs_keys") and None,
        lambda facts: facts.update(obs_keys=3),
        lambda facts: facts.update(one_hot=3),
        lambda facts: facts.update(reference=[1]),
        lambda facts: facts.update(reference=["a", "b"]),
        lambda facts: facts.update(one_hot={"a": [1]}),
        lambda facts: facts.update(action_dtype="quantum"),
        lambda facts: facts.update(action_dtype=None) or facts.update(action_dtype=[1]),
        lambda facts: facts.update(format=3),
        lambda facts: [1],
        lambda facts: 0.5,
    ],
)
def test_strange_facts_are_one_sentence_with_the_file(tmp_path, change):
    path = tmp_path / "policy.safetensors"
    save_policy(path, agent_of("IQL"), 0, OWN)
    rewritten(path, change)
    with pytest.raises(ValueError, match=r"policy\.safetensors"):
        load_policy(path)


def test_faults_are_one_sentence(tmp_path):
    path = tmp_path / "policy.safetensors"
    with pytest.raises(FileNotFoundError, match=r"policy .* does not exist"):
        load_policy(path)
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        load_policy(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds no policy"):
        load_policy(path)
    with pytest.raises(ValueError, match="replica is 2, expected 0 to 1"):
        save_policy(path, agent_of("IQL"), 2, OWN)
    with pytest.raises(ValueError, match=r"width \(3, 2\), expected \(11, 3\) as 'Hopper-v5' has"):
        save_policy(path, agent_of("IQL"), 0, "Hopper-v5")
    with pytest.raises(TypeError, match="the agent is a object, expected an IQL"):
        save_policy(path, object(), 0, OWN)
    policy = save_policy(path, agent_of("IQL"), 0, OWN)
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \(3,\)"):
        policy(np.zeros(4))
    with pytest.raises(ValueError, match="format is 'tflite', expected one of onnx, torchscript, safetensors"):
        export_policy(policy, tmp_path / "x", "tflite")


def test_loading_a_policy_loads_no_simulator(tmp_path):
    save_policy(tmp_path / "policy.safetensors", agent_of("IQL"), 0, OWN)
    code = f"import sys, cfdg_rl; cfdg_rl.load_policy({str(tmp_path / 'policy.safetensors')!r}); "
    code += "assert not {'mujoco', 'gymnasium', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from(KINDS),
    st.integers(0, 99),
)
def test_property_of_policies_of_any_size(obs_dim, action_dim, hidden, kind, seed):
    """The network of a file acts as the agent in unit actions, whatever its widths."""
    from cfdg_rl.policy_network import extract_network, network_from

    made = {
        "IQL": lambda: IQL(obs_dim, action_dim, IQLSettings(hidden=tuple(hidden)), seeds=(seed, 1)),
        "APL": lambda: APL(obs_dim, action_dim, APLSettings(hidden=tuple(hidden)), seeds=(seed, 1)),
        "TD3BC": lambda: TD3BC(obs_dim, action_dim, TD3BCSettings(hidden=tuple(hidden)), seeds=(seed, 1)),
    }
    agent = PEX(made["IQL"](), replace(PEXSettings(), epsilon=0.0)) if kind == "PEX" else made[kind]()
    ones = torch.ones(action_dim, dtype=torch.float64)
    network = extract_network(agent, 0, -ones, ones)
    again = network_from(network.state_dict(), whole=False)
    obs = torch.randn(2, 9, obs_dim, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(again(obs[0]), agent.act(obs, explore=False)[0], rtol=0, atol=1e-5)
