"""One cell of a table: R replicas of one (dataset, algorithm, arm), from data to curves, through kills."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdg_experiments.agents import (
    PRETRAINED_AS,
    captured,
    learner_settings,
    load_learner,
    make_mixer,
    offline_learner,
    offline_pools,
    online_learner,
    online_pools,
    plan_of,
    reward_map,
    save_learner,
)
from cfdg_experiments.arms import ARMS, Refitted, make_model
from cfdg_experiments.profile import Profile, settled
from cfdg_experiments.results import CellResult
from cfdg_rl.buffer import Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.collect import EnvCollector
from cfdg_rl.datasets.load import Dataset, load_dataset
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import finetune
from cfdg_rl.mixing import Batch, Bernoulli, Pools
from cfdg_rl.pretrain import pretrain
from cfdg_rl.protocols import Learner
from cfdg_rl.streams import Streams

SAVE_SECONDS = 60.0  # a kill loses at most about this much work
SPEAK_SECONDS = 1.0  # between progress events
PRE_TRAINING = " pre-training"  # ends the names of such jobs


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
        """The offline checkpoint that every arm of a dataset shares, and IQL with PEX."""
        name = f"{_slug(cell.dataset)}-{PRETRAINED_AS[cell.algorithm]}-{pretrain_key(profile, cell)}.safetensors"
        return self.folder / "pretrained" / name

    def checkpoint(self, profile: Profile, cell: Cell) -> Path:
        """The state of an unfinished cell."""
        return self.folder / "unfinished" / f"{_slug(cell.name)}-{cell_key(profile, cell)}.safetensors"

    def result(self, profile: Profile, cell: Cell) -> Path:
        """The curves of a finished cell."""
        return self.folder / "cells" / f"{_slug(cell.name)}-{cell_key(profile, cell)}.json"


def pretrain_key(profile: Profile, cell: Cell) -> str:
    """Hash of everything that an offline checkpoint depends on."""
    profile = settled(profile, cell.dataset, cell.algorithm)
    data = {"rows": profile.data.rows, "seed": profile.data.seed}
    agent = asdict(learner_settings(profile, cell.algorithm)) | {"online_learning_rate": None}  # for fine-tuning alone
    return _hash(
        cell.dataset, PRETRAINED_AS[cell.algorithm], data, agent, asdict(profile.pretrain), list(profile.seeds)
    )


def cell_key(profile: Profile, cell: Cell) -> str:
    """Hash of everything that a cell's curves depend on."""
    profile = settled(profile, cell.dataset, cell.algorithm)
    groups: list[Any] = [learner_settings(profile, cell.algorithm), profile.finetune, profile.mixing]
    groups += {"pex": [profile.pex], "apl": [profile.apl.replay]}.get(cell.algorithm, [])
    augment = (profile.diffusion, profile.refresh) if ARMS[cell.arm].augments else ()
    parts = [asdict(group) for group in (*groups, profile.evaluation, *augment)]
    return _hash(pretrain_key(profile, cell), cell.algorithm, cell.arm, *parts)


def pretraining(dataset: str, algorithm: str) -> str:
    """The name of an offline phase as a job."""
    return f"{dataset}/{PRETRAINED_AS[algorithm]}{PRE_TRAINING}"


def pretrain_cell(profile: Profile, cell: Cell, space: Workspace, speak: Speak) -> None:
    """Make sure that the offline checkpoint exists; training continues where a kill interrupted it."""
    path = space.pretrained(profile, cell)
    if path.exists():
        return
    profile, device = settled(profile, cell.dataset, cell.algorithm), _device(profile)
    data, steps = _data(profile, cell, space), profile.pretrain.steps
    agent = captured(profile, offline_learner(profile, cell.algorithm, (data.obs_dim, data.action_dim), device))
    agent.fit_scaler(data.transitions.obs.to(device))
    pools = offline_pools(profile, cell.algorithm, data, device)
    streams, draft = Streams(profile.seeds, "pretrain", device), path.with_suffix(".partial")
    start = _resume(draft, agent, streams, device)
    speaking, saving = _Pulse(SPEAK_SECONDS), _Pulse(SAVE_SECONDS)
    loop = pretrain(agent, pools, streams, steps=steps, batch_size=profile.pretrain.batch_size, start=start)
    for step, _ in loop:
        if speaking():
            speak(Event(pretraining(cell.dataset, cell.algorithm), step, steps))
        if saving():
            save_checkpoint(draft, _learner_state(agent, streams, step))
    save_checkpoint(path, _learner_state(agent, streams, steps))
    draft.unlink(missing_ok=True)


def run_cell(profile: Profile, cell: Cell, space: Workspace, speak: Speak) -> CellResult:
    """Fine-tune R replicas and return their curves; the finished result and unfinished states are files."""
    result = space.result(profile, cell)
    if result.exists():
        return CellResult.from_json(result)
    pretrain_cell(profile, cell, space, speak)
    session = Session(profile, cell, space, speak)
    for event in session.run():
        speak(event)
    finished = session.result()
    finished.to_json(result)
    space.checkpoint(profile, cell).unlink(missing_ok=True)
    return finished


class Session:
    """All the moving parts of a cell, with one state that can be saved and restored."""

    def __init__(self, profile: Profile, cell: Cell, space: Workspace, speak: Speak = lambda event: None) -> None:
        self.path, pretrained = space.checkpoint(profile, cell), space.pretrained(profile, cell)
        self.profile = profile = settled(profile, cell.dataset, cell.algorithm)
        self.cell, self.arm, self.speak, device = cell, ARMS[cell.arm], speak, _device(profile)
        self.data = _data(profile, cell, space)
        self.plan = plan_of(profile, cell.arm, self.data)
        offline = offline_learner(profile, cell.algorithm, (self.data.obs_dim, self.data.action_dim), device)
        load_learner(offline, load_checkpoint(pretrained, device)["agent"])
        self.agent = captured(profile, online_learner(profile, cell.algorithm, offline))
        pools = offline_pools(profile, cell.algorithm, self.data, device)
        self.pools = online_pools(pools, profile, cell.algorithm, self.plan, self.arm.augments)
        reward, env_id = reward_map(profile, cell.algorithm, self.data), self.data.env_id
        workers = torch.get_num_threads()
        self.collector = EnvCollector(env_id, profile.seeds, reward, device=device, workers=workers)
        self.evaluator = Evaluator(env_id, profile.seeds, profile.evaluation.episodes, device, workers)
        self.streams = Streams(profile.seeds, "batches", device)  # the same for all arms, which differ from T_diff on
        self.mixer = make_mixer(profile, cell.algorithm, self.plan, self.streams)
        self.generator = self._generator() if self.arm.augments else None
        self.curves: dict[str, list[list[float]]] = defaultdict(list)
        self.steps: list[int] = []
        self.done, self.seconds = 0, 0.0
        self.speaking = _Pulse(SPEAK_SECONDS)

    def run(self) -> Iterator[Event]:
        """Fine-tune, evaluate and save; yields progress and evaluations."""
        if self.path.exists():
            self.restore(load_checkpoint(self.path, _device(self.profile)))
        began, before = time.perf_counter(), self.seconds
        if not self.steps:
            yield self.evaluate({})
        loop = finetune(self.agent, self.collector, self.pools, self._mix, self.generator, self.plan, self.done)
        saving = _Pulse(SAVE_SECONDS)
        latest: dict[str, torch.Tensor] = {}
        for self.done, metrics in loop:
            latest.update(metrics)
            self.seconds = before + time.perf_counter() - began
            if self.done % self.profile.evaluation.every == 0 or self.done == self.plan.steps:
                yield self.evaluate(latest)
                latest = {}
            elif self.speaking():
                yield Event(self.cell.name, self.done, self.plan.steps)
            if saving():
                save_checkpoint(self.path, self.state())

    def _mix(self, pools: Pools, batch_size: int) -> Batch:
        """The mixer, which also says that a long round of updates is alive."""
        if self.speaking():
            self.speak(Event(self.cell.name, self.done, self.plan.steps))
        return self.mixer(pools, batch_size)

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
            "rings": {name: ring.state_dict() for name, ring in self._rings().items()},
            "collector": self.collector.state(),
            "curves": dict(self.curves),
            "steps": list(self.steps),
            "seconds": self.seconds,
        }
        if isinstance(self.mixer, Bernoulli):
            state["coin"] = self.mixer.coin.state()
        if self.generator:
            state |= {"model": self.generator.model.state_dict(), "fits": self.generator.fits}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        load_learner(self.agent, state["agent"])
        self.streams.restore(state["streams"])
        for name, ring in self._rings().items():
            ring.load_state_dict(state["rings"][name])
        if isinstance(self.mixer, Bernoulli):
            self.mixer.coin.restore(state["coin"])
        self.collector.restore({key: _numpy(value) for key, value in state["collector"].items()})
        self.curves = defaultdict(list, {name: list(rows) for name, rows in state["curves"].items()})
        self.steps, self.done, self.seconds = list(state["steps"]), state["step"], state["seconds"]
        if self.generator:
            self.generator.model.load_state_dict(state["model"])
            self.generator.fits = state["fits"]

    def _rings(self) -> dict[str, Ring]:
        rings = {name: getattr(self.pools, name) for name in ("online", "offline_synthetic", "online_synthetic")}
        return rings if self.pools.archive is None else rings | {"archive": self.pools.archive}

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


def _learner_state(agent: Learner, streams: Streams, step: int) -> dict[str, Any]:
    return {"agent": save_learner(agent), "streams": streams.state(), "step": step}


def _resume(path: Path, agent: Learner, streams: Streams, device: torch.device) -> int:
    """Restore an interrupted pre-training; the number of updates it had done."""
    if not path.exists():
        return 0
    state = load_checkpoint(path, device)
    load_learner(agent, state["agent"])
    streams.restore(state["streams"])
    return int(state["step"])


def _data(profile: Profile, cell: Cell, space: Workspace) -> Dataset:
    return load_dataset(cell.dataset, rows=profile.data.rows, seed=profile.data.seed, cache=space.cache)


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
