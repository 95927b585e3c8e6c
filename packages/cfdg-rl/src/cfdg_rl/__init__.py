"""Offline-to-online reinforcement learning: transitions, buffers, agents and synthetic-data mixing.

Every name is imported on first use (PEP 562), so that ``import cfdg_rl`` is quick, and MuJoCo, Gymnasium and h5py are
loaded only for the names that need them: datasets, environments, collection and evaluation.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # type checkers take this name for True; to import typing would be most of the import's time
if TYPE_CHECKING:
    from cfdg_rl.agents.apl import APL, APLSettings
    from cfdg_rl.agents.iql import IQL, IQLSettings
    from cfdg_rl.agents.pex import PEX, PEXSettings
    from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
    from cfdg_rl.buffer import FixedRows, Ring
    from cfdg_rl.check import check_generator
    from cfdg_rl.collect import EnvCollector
    from cfdg_rl.datasets.dataset import Dataset
    from cfdg_rl.datasets.hdf5 import from_arrays
    from cfdg_rl.datasets.load import dataset_names, load_dataset
    from cfdg_rl.envs.make import make_env
    from cfdg_rl.evaluate import Evaluator
    from cfdg_rl.finetune import FinetunePlan, finetune
    from cfdg_rl.mixing import OFFLINE, ONLINE, Batch, Bernoulli, Concatenated, Pools
    from cfdg_rl.policy_export import export_policy
    from cfdg_rl.policy_file import Policy, load_policy, save_policy
    from cfdg_rl.pretrain import pretrain
    from cfdg_rl.protocols import Agent, Collector, Generator, Learner, Metrics, Mixer
    from cfdg_rl.rewards import RewardMap
    from cfdg_rl.streams import Streams
    from cfdg_rl.transitions import Transitions, from_rows, row_width, to_rows

__version__ = "0.1.0"
__all__ = [
    "APL",
    "IQL",
    "OFFLINE",
    "ONLINE",
    "PEX",
    "TD3BC",
    "APLSettings",
    "Agent",
    "Batch",
    "Bernoulli",
    "Collector",
    "Concatenated",
    "Dataset",
    "EnvCollector",
    "Evaluator",
    "FinetunePlan",
    "FixedRows",
    "Generator",
    "IQLSettings",
    "Learner",
    "Metrics",
    "Mixer",
    "PEXSettings",
    "Policy",
    "Pools",
    "RewardMap",
    "Ring",
    "Streams",
    "TD3BCSettings",
    "Transitions",
    "check_generator",
    "dataset_names",
    "export_policy",
    "finetune",
    "from_arrays",
    "from_rows",
    "load_dataset",
    "load_policy",
    "make_env",
    "pretrain",
    "row_width",
    "save_policy",
    "to_rows",
]

_NAMES = {  # module -> its public names
    "agents.apl": "APL APLSettings",
    "agents.iql": "IQL IQLSettings",
    "agents.pex": "PEX PEXSettings",
    "agents.td3_bc": "TD3BC TD3BCSettings",
    "buffer": "FixedRows Ring",
    "check": "check_generator",
    "collect": "EnvCollector",
    "datasets.dataset": "Dataset",
    "datasets.hdf5": "from_arrays",
    "datasets.load": "dataset_names load_dataset",
    "envs.make": "make_env",
    "evaluate": "Evaluator",
    "finetune": "FinetunePlan finetune",
    "mixing": "OFFLINE ONLINE Batch Bernoulli Concatenated Pools",
    "policy_export": "export_policy",
    "policy_file": "Policy load_policy save_policy",
    "pretrain": "pretrain",
    "protocols": "Agent Collector Generator Learner Metrics Mixer",
    "rewards": "RewardMap",
    "streams": "Streams",
    "transitions": "Transitions from_rows row_width to_rows",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})


class _Face(ModuleType):
    """A module in which ``finetune`` and ``pretrain`` are the functions, also after import of the modules of that name.

    Python binds every imported submodule in its package, which would hide the functions.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
