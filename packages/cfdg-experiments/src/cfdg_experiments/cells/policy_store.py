"""Policies of the cells of a table: for every seed the final one and the one that was evaluated best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdg_experiments.cells.agents import load_learner, offline_learner
from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.results import Curves
from cfdg_experiments.profiles.profile import LearnerSettings
from cfdg_rl.agents.apl import APLSettings
from cfdg_rl.agents.iql import IQLSettings
from cfdg_rl.agents.td3_bc import TD3BCSettings
from cfdg_rl.checkpoint import load_checkpoint
from cfdg_rl.datasets.dataset import Dataset
from cfdg_rl.envs.make import inspect_env
from cfdg_rl.policy_file import PolicyFacts, make_policy, read_facts, write_policy
from cfdg_rl.protocols import Agent, Learner

FOLDER = "policies"
BEST = "best"
FINAL = "final"


class PolicyKeeper:
    """Writer of a running cell's policies.

    Args:
        cell: the cell.
        space: the folder of its files.
        data: with the environment and the scale of its evaluation.
    """

    def __init__(self, cell: Cell, space: Workspace, data: Dataset) -> None:
        self.cell = cell
        self.env_id = data.env_id
        self.reference = data.reference
        self.folder = space.folder / FOLDER / space.result(cell).stem
        self.shape = inspect_env(data.env_id)

    def keep(self, agent: Agent, curves: Curves, *, final: bool) -> None:
        """Write the policies of the replicas whose last evaluation is their best so far; if ``final``, of all."""
        scores = np.array(curves.state()["curves"]["score"], dtype=float)  # (K, R)
        best = np.ones(scores.shape[1], bool) if len(scores) == 1 else scores[-1] > scores[:-1].max(axis=0)
        for replica, seed in enumerate(self.cell.profile.seeds):
            kinds = [BEST] * bool(best[replica]) + [FINAL] * final
            if kinds:
                score = float(scores[-1, replica])
                self._write(agent, replica, kinds, seed=seed, step=curves.steps[-1], score=score)

    def _write(self, agent: Agent, replica: int, kinds: Sequence[str], **origin: Any) -> None:  # noqa: ANN401
        own = {"dataset": self.cell.dataset, "arm": self.cell.arm, "reference": self.reference, **origin}
        policy = make_policy(agent, replica, self.env_id, self.shape, **own)
        for kind in kinds:
            write_policy(policy, self.folder / f"seed{origin['seed']}-{kind}.safetensors")


@dataclass(frozen=True)
class StoredPolicy:
    """A policy of a table's folder.

    Attributes:
        path: of its file.
        facts: its origin.
    """

    path: Path
    facts: PolicyFacts

    @property
    def cell(self) -> str:
        """Name of the cell's folder, such as ``hopper-medium-iql-cfdg-0123456789ab``."""
        return self.path.parent.name

    @property
    def name(self) -> str:
        """``CELL/seedN-best`` or ``CELL/seedN-final``."""
        return f"{self.cell}/{self.path.stem}"

    @property
    def origin(self) -> str:
        """Dataset and arm, as far as its file tells them: one of version 0.1 has no arm."""
        facts = self.facts
        return ", ".join(filter(None, (facts.dataset, facts.arm and f"arm {facts.arm}")))

    @property
    def score(self) -> float:
        """Score of its evaluation, minus infinity without one."""
        return -np.inf if self.facts.score is None else self.facts.score


def files_of_cell(folder: Path, key: str) -> list[Path]:
    """List the policy files of the cell with this key, which its folder's name ends with."""
    return sorted((folder / FOLDER).glob(f"*-{key}/*.safetensors"))


def stored_policies(folder: Path) -> list[StoredPolicy]:
    """List the policies of a table's folder."""
    paths = sorted((folder / FOLDER).glob("*/*.safetensors"))
    return [StoredPolicy(path, read_facts(path)) for path in paths]


def find_policy(folder: Path, word: str, *, seed: int | None = None, final: bool = False) -> StoredPolicy:
    """Find the policy that a word means: a file, or a part of the name of one cell, of which the best is taken.

    Args:
        folder: of the table.
        word: a path, or a part of :attr:`StoredPolicy.name`.
        seed: only of this seed.
        final: the final policies instead of the best-evaluated ones.

    Raises:
        ValueError: if the word means no cell or several.
    """
    if Path(word).is_file():
        return StoredPolicy(Path(word), read_facts(word))
    known = stored_policies(folder)
    matching = [policy for policy in known if word in policy.name and seed in (None, policy.facts.seed)]
    kind = FINAL if final else BEST
    wanted = [policy for policy in matching if policy.path.stem.endswith(kind)] or matching
    cells = sorted({policy.cell for policy in wanted})
    if len(cells) != 1:
        raise ValueError(_no_choice(word, cells or sorted({policy.cell for policy in known}), bool(cells), folder))
    return max(wanted, key=lambda policy: policy.score)


def _no_choice(word: str, cells: Sequence[str], several: bool, folder: Path) -> str:
    if several:
        return f"{word!r} means {len(cells)} cells, expected a longer name of one of {', '.join(cells)}"
    if not cells:
        return f"{folder / FOLDER} holds no policies, expected those of a finished table: see 'cfdg table1 --help'"
    return f"no policy {word!r} in {folder / FOLDER}, expected a file or a part of one of {', '.join(cells)}"


def describe_learner(settings: LearnerSettings, dims: tuple[int, int], seeds: Sequence[int]) -> dict[str, Any]:
    """Return what an offline checkpoint needs besides its weights: kind, hyper-parameters, widths and seeds."""
    return {"kind": type(settings).__name__, "settings": asdict(settings), "dims": list(dims), "seeds": list(seeds)}


def load_offline(path: Path, device: str | torch.device = "cpu") -> Learner:
    """Make the learner of an offline checkpoint, ``pretrained/*.safetensors``, as its training left it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or one without settings, of version 0.1.
    """
    state = load_checkpoint(path, device)
    if "learner" not in state:
        raise ValueError(f"checkpoint {path} has no settings, expected one that version 0.2 or newer wrote")
    about = state["learner"]
    kinds = {kind.__name__: kind for kind in (IQLSettings, APLSettings, TD3BCSettings)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in about["settings"].items()
    }
    settings: LearnerSettings = kinds[about["kind"]](**values)
    agent = offline_learner(settings, tuple(about["dims"]), tuple(about["seeds"]), torch.device(device))
    load_learner(agent, state["agent"])
    return agent
