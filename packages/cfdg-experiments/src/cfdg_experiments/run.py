"""One cell of a table: R replicas of one (dataset, algorithm, arm), from data to curves, through kills."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdg_experiments.arms import ARMS, Refitted, make_model
from cfdg_experiments.profile import Profile
from cfdg_experiments.results import CellResult
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.collect import EnvCollector
from cfdg_rl.datasets import Dataset, load_dataset
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import FinetunePlan, finetune
from cfdg_rl.iql import IQL
from cfdg_rl.mixing import Concatenated, Pools
from cfdg_rl.pretrain import pretrain
from cfdg_rl.rewards import RewardMap, by_return_range
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import row_width, to_rows

SAVE_SECONDS = 60.0  # a kill loses at most about this much work
SPEAK_SECONDS = 1.0  # between progress events


@dataclass(frozen=True)
class Cell:
    """One (dataset, algorithm, arm) of a table."""

    dataset: str
    algorithm: str
    arm: str

    @property
    def name(self) -> str:
        """``dataset/algorithm/arm``."""
        return "/".join(self.key)

    @property
    def key(self) -> tuple[str, str, str]:
        """(dataset, algorithm, arm), as results have it."""
        return (self.dataset, self.algorithm, self.arm)


@dataclass(frozen=True)
class Event:
    """What a running job tells its parent: where it is, and a new evaluation if there is one.

    Attributes:
        job: name of the job.
        step: steps done.
        total: steps of the job.
        evaluation: environment step, scores ``(R,)`` and other metrics, each ``(R,)``; or None.
    """

    job: str
    step: int
    total: int
    evaluation: tuple[int, np.ndarray, Mapping[str, np.ndarray]] | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The key of the cell that an evaluation is of."""
        dataset, algorithm, arm = self.job.rsplit("/", 2)
        return dataset, algorithm, arm


Speak = Callable[[Event], None]


@dataclass(frozen=True)
class Workspace:
    """Where a table keeps its files, and where datasets are cached (None: the user's cache folder)."""

    folder: Path
    cache: Path | None = None

    def pretrained(self, profile: Profile, cell: Cell) -> Path:
        """The offline checkpoint that every arm of a dataset shares."""
        return self.folder / "pretrained" / f"{_slug(cell.dataset)}-iql-{pretrain_key(profile, cell)}.safetensors"

    def checkpoint(self, profile: Profile, cell: Cell) -> Path:
        """The state of an unfinished cell."""
        return self.folder / "unfinished" / f"{_slug(cell.name)}-{cell_key(profile, cell)}.safetensors"

    def result(self, profile: Profile, cell: Cell) -> Path:
        """The curves of a finished cell."""
        return self.folder / "cells" / f"{_slug(cell.name)}-{cell_key(profile, cell)}.json"


def pretrain_key(profile: Profile, cell: Cell) -> str:
    """Hash of everything that an offline checkpoint depends on."""
    data = {"rows": profile.data.rows, "seed": profile.data.seed}
    agent = asdict(replace(profile.iql, online_learning_rate=0.0))  # fine-tuning alone uses it
    return _hash(cell.dataset, data, agent, asdict(profile.pretrain), list(profile.seeds))


def cell_key(profile: Profile, cell: Cell) -> str:
    """Hash of everything that a cell's curves depend on."""
    groups = (profile.iql, profile.finetune, profile.mixing, profile.evaluation)
    augment = (profile.diffusion, profile.refresh) if ARMS[cell.arm].augments else ()
    return _hash(pretrain_key(profile, cell), cell.algorithm, cell.arm, *(asdict(g) for g in (*groups, *augment)))


def pretraining(dataset: str) -> str:
    """The name of a dataset's offline phase as a job."""
    return f"{dataset} pre-training"


def pretrain_cell(profile: Profile, cell: Cell, space: Workspace, speak: Speak) -> None:
    """Make sure that the offline checkpoint exists; training continues where a kill interrupted it."""
    path = space.pretrained(profile, cell)
    if path.exists():
        return
    data, steps = _data(profile, cell, space), profile.pretrain.steps
    agent = _agent(profile, data)
    agent.see(data.transitions.obs.to(agent.obs_mean))
    streams = Streams(profile.seeds, "pretrain", _device(profile))
    start = _resume(path.with_suffix(".partial"), agent, streams)
    loop = pretrain(
        agent, _pools(profile, data), streams, steps=steps, batch_size=profile.pretrain.batch_size, start=start
    )
    speaking, saving = _Pulse(SPEAK_SECONDS), _Pulse(SAVE_SECONDS)
    for step, _ in loop:
        if speaking():
            speak(Event(pretraining(cell.dataset), step, steps))
        if saving():
            save_checkpoint(path.with_suffix(".partial"), _learner_state(agent, streams, step))
    save_checkpoint(path, _learner_state(agent, streams, steps))
    path.with_suffix(".partial").unlink(missing_ok=True)


def run_cell(profile: Profile, cell: Cell, space: Workspace, speak: Speak) -> CellResult:
    """Fine-tune R replicas and return their curves; the finished result and unfinished states are files."""
    result = space.result(profile, cell)
    if result.exists():
        return CellResult.from_json(result)
    pretrain_cell(profile, cell, space, speak)
    session = Session(profile, cell, space)
    for event in session.run():
        speak(event)
    finished = session.result()
    finished.to_json(result)
    space.checkpoint(profile, cell).unlink(missing_ok=True)
    return finished


class Session:
    """All the moving parts of a cell, with one state that can be saved and restored."""

    def __init__(self, profile: Profile, cell: Cell, space: Workspace) -> None:
        self.profile, self.cell, self.arm, self.space = profile, cell, ARMS[cell.arm], space
        self.data = _data(profile, cell, space)
        self.plan = _plan(profile, cell)
        self.agent = _agent(profile, self.data)
        load_agent(self.agent, load_checkpoint(space.pretrained(profile, cell), _device(profile))["agent"])
        self.agent.go_online()
        self.pools = _pools(profile, self.data, self.plan, self.arm.augments)
        reward, device = _reward(profile, self.data), _device(profile)
        self.collector = EnvCollector(self.data.env_id, profile.seeds, reward, device=device)
        self.evaluator = Evaluator(self.data.env_id, profile.seeds, profile.evaluation.episodes, device)
        self.streams = Streams(profile.seeds, "batches", device)  # the same for all arms, which differ from T_diff on
        self.generator = self._generator() if self.arm.augments else None
        self.curves: dict[str, list[list[float]]] = defaultdict(list)
        self.steps: list[int] = []
        self.done, self.seconds = 0, 0.0

    def run(self) -> Iterator[Event]:
        """Fine-tune, evaluate and save; yields progress and evaluations."""
        path = self.space.checkpoint(self.profile, self.cell)
        if path.exists():
            self.restore(load_checkpoint(path, _device(self.profile)))
        began, before = time.perf_counter(), self.seconds
        if not self.steps:
            yield self.evaluate({})
        mixer = Concatenated(self.streams, self.profile.mixing.synthetic_ratio, self.plan.online_share)
        loop = finetune(self.agent, self.collector, self.pools, mixer, self.generator, self.plan, self.done)
        speaking, saving = _Pulse(SPEAK_SECONDS), _Pulse(SAVE_SECONDS)
        latest: dict[str, torch.Tensor] = {}
        for self.done, metrics in loop:
            latest.update(metrics)
            self.seconds = before + time.perf_counter() - began
            if self.done % self.profile.evaluation.every == 0 or self.done == self.plan.steps:
                yield self.evaluate(latest)
                latest = {}
            elif speaking():
                yield Event(self.cell.name, self.done, self.plan.steps)
            if saving():
                save_checkpoint(path, self.state())

    def evaluate(self, latest: Mapping[str, torch.Tensor]) -> Event:
        """Score the mean policy, and note it with the latest training metrics."""
        returns = self.evaluator.returns(self.agent, round_number=len(self.steps))
        score = self.data.normalised_score(returns).mean(1)
        metrics = {name: value.detach().cpu().numpy().astype(float) for name, value in latest.items()}
        metrics["train/episode_return"] = self.collector.last_return.reshape(len(self.profile.seeds), -1).mean(1)
        if self.seconds:
            metrics["throughput/env_steps_per_second"] = np.full(len(score), self.done / self.seconds)
        for name, values in {"score": score, **metrics}.items():
            self._pad(self.curves[name]).append([float(value) for value in values])
        self.steps.append(self.done)
        return Event(self.cell.name, self.done, self.plan.steps, (self.done, score, metrics))

    def result(self) -> CellResult:
        """The curves so far."""
        curves = {name: np.array(self._pad(curve)).T for name, curve in self.curves.items()}
        score = curves.pop("score")
        return CellResult(
            dataset=self.cell.dataset,
            algorithm=self.cell.algorithm,
            arm=self.cell.arm,
            seeds=self.profile.seeds,
            steps=np.array(self.steps),
            scores=score,
            behaviour_score=float(self.data.behaviour_score),
            seconds=self.seconds,
            metrics=curves,
        )

    def state(self) -> dict[str, Any]:
        """Everything that changes: a restored session continues bit for bit."""
        state: dict[str, Any] = {
            **_learner_state(self.agent, self.streams, self.done),
            "online": self.pools.online.state_dict(),
            "offline_synthetic": self.pools.offline_synthetic.state_dict(),
            "online_synthetic": self.pools.online_synthetic.state_dict(),
            "collector": self.collector.state(),
            "curves": dict(self.curves),
            "steps": list(self.steps),
            "seconds": self.seconds,
        }
        if self.generator:
            state |= {"model": self.generator.model.state_dict(), "fits": self.generator.fits}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        load_agent(self.agent, state["agent"])
        self.streams.restore(state["streams"])
        for name in ("online", "offline_synthetic", "online_synthetic"):
            getattr(self.pools, name).load_state_dict(state[name])
        self.collector.restore({key: _numpy(value) for key, value in state["collector"].items()})
        self.curves = defaultdict(list, {name: list(rows) for name, rows in state["curves"].items()})
        self.steps, self.done, self.seconds = list(state["steps"]), state["step"], state["seconds"]
        if self.generator:
            self.generator.model.load_state_dict(state["model"])
            self.generator.fits = state["fits"]

    def _pad(self, curve: list[list[float]]) -> list[list[float]]:
        """Fill a curve, in place, with NaN for the evaluations at which its metric did not exist."""
        missing = [float("nan")] * len(self.profile.seeds)
        curve.extend([missing] * (len(self.steps) - len(curve)))
        return curve

    def _generator(self) -> Refitted:
        profile, data = self.profile, self.data
        device = str(_device(profile))
        model = make_model(self.arm, profile.diffusion, data.obs_dim, data.action_dim, profile.seeds, device)
        return Refitted(model, **asdict(profile.refresh))


def save_agent(agent: IQL) -> dict[str, Any]:
    """Weights, optimiser and exploration stream."""
    return {
        "weights": agent.state_dict(),
        "optimiser": agent.optimiser.state_dict(),
        "exploration": agent.exploration.state(),
    }


def load_agent(agent: IQL, state: Mapping[str, Any]) -> None:
    """The inverse of :func:`save_agent`."""
    agent.load_state_dict(state["weights"])
    agent.optimiser.load_state_dict(state["optimiser"])
    agent.exploration.restore(state["exploration"])


def _learner_state(agent: IQL, streams: Streams, step: int) -> dict[str, Any]:
    return {"agent": save_agent(agent), "streams": streams.state(), "step": step}


def _resume(path: Path, agent: IQL, streams: Streams) -> int:
    """Restore an interrupted pre-training; the number of updates it had done."""
    if not path.exists():
        return 0
    state = load_checkpoint(path)
    load_agent(agent, state["agent"])
    streams.restore(state["streams"])
    return int(state["step"])


def _data(profile: Profile, cell: Cell, space: Workspace) -> Dataset:
    return load_dataset(cell.dataset, rows=profile.data.rows, seed=profile.data.seed, cache=space.cache)


def _agent(profile: Profile, data: Dataset) -> IQL:
    return IQL(data.obs_dim, data.action_dim, profile.iql, seeds=profile.seeds, device=_device(profile))


def _reward(profile: Profile, data: Dataset) -> RewardMap:
    """The one map that dataset and environment share."""
    return by_return_range(data.episode_returns) if profile.iql.reward == "return-range" else RewardMap()


def _plan(profile: Profile, cell: Cell) -> FinetunePlan:
    share = ARMS[cell.arm].online_share
    return profile.finetune if share is None else replace(profile.finetune, online_share=share)


def _pools(profile: Profile, data: Dataset, plan: FinetunePlan | None = None, augments: bool = False) -> Pools:
    """The four buffers; without a plan (offline) or a generator the ones that stay empty hold one row."""
    columns, device = row_width(data.obs_dim, data.action_dim), _device(profile)
    transitions = replace(data.transitions, reward=_reward(profile, data)(data.transitions.reward))
    online = min(plan.steps, 1_000_000) if plan else 1  # PEX: first in, first out beyond 1M
    synthetic = plan.synthetic_rows if plan and augments else 1
    first, second, third = (Ring(len(profile.seeds), size, columns, device) for size in (online, synthetic, synthetic))
    offline = FixedRows(to_rows(transitions).to(device))
    return Pools(offline, first, second, third, data.obs_dim, data.action_dim)


def _device(profile: Profile) -> torch.device:
    if profile.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(profile.device)


class _Pulse:
    """True at most once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.perf_counter()

    def __call__(self) -> bool:
        due = time.perf_counter() - self.last >= self.seconds
        if due:
            self.last = time.perf_counter()
        return due


def _numpy(value: object) -> object:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


def _slug(name: str) -> str:
    return name.replace("recorded:", "").replace(":", "-").replace("/", "-")


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
