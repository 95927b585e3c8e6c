"""The public names of the package, and the names that are loaded with them."""

import subprocess
import sys

import pytest

import cfdg_rl

LAZY = ("from_arrays", "Dataset", "EnvCollector", "Evaluator", "dataset_names", "load_dataset", "make_env")


def loaded_after(code: str) -> set[str]:
    """Top-level modules in memory after some code has run in a new interpreter."""
    report = "import sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing_heavy():
    assert not loaded_after("import cfdg_rl; dir(cfdg_rl)") & {"torch", "numpy", "mujoco", "gymnasium", "h5py"}


def test_agents_and_the_loop_need_no_simulator():
    names = sorted(set(cfdg_rl.__all__) - set(LAZY))
    assert not loaded_after(f"from cfdg_rl import {', '.join(names)}") & {"mujoco", "gymnasium", "h5py"}


def test_every_name_is_there_once_and_listed():
    assert len(set(cfdg_rl.__all__)) == len(cfdg_rl.__all__)
    assert set(cfdg_rl.__all__) <= set(dir(cfdg_rl))
    for name in cfdg_rl.__all__:
        assert getattr(cfdg_rl, name) is not None
    assert cfdg_rl.IQL.__module__ == "cfdg_rl.agents.iql"
    assert cfdg_rl.load_dataset.__module__ == "cfdg_rl.datasets.load"


def test_functions_are_not_hidden_by_the_modules_of_their_name():
    code = "import cfdg_rl.finetune, cfdg_rl.pretrain; from cfdg_rl import finetune, pretrain; finetune.__code__; "
    loaded_after(code + "pretrain.__code__; from cfdg_rl.finetune import refresh")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'cfdg_rl' has no attribute 'SAC'"):
        cfdg_rl.SAC  # noqa: B018 - the access is the test
