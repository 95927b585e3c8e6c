"""Runs of a cell: R replicas of one (dataset, algorithm, arm), from data to curves, resumable after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfdg_experiments.agents import (
    choose_device,
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
from cfdg_experiments.augmentation import Augmentation
from cfdg_experiments.cells import Cell, Event, Listener, Workspace
from cfdg_experiments.offline_fit import load_start
from cfdg_experiments.policy_store import PolicyKeeper, describe_learner
from cfdg_experiments.results import CellResult, Curves, Evaluation
from cfdg_experiments.throttle import Saver, Throttle
from cfdg_rl.agents.capture import Captured
from cfdg_rl.buffer import Ring
from cfdg_rl.checkpoint import load_checkpoint, save_checkpoint
from cfdg_rl.collect import EnvCollector
from cfdg_rl.datasets.load import Dataset, content_digest, load_dataset
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import finetune
from cfdg_rl.mixing import Batch, Bernoulli, Pools
from cfdg_rl.pretrain import pretrain
from cfdg_rl.protocols import Learner, Metrics
from cfdg_rl.streams import Streams

SAVE_SECONDS = 60.0  # a kill loses about this much work, more where a checkpoint takes long
NOTIFY_SECONDS = 1.0  # between progress events


def pretrain_cell(cell: Cell, space: Workspace, notify: Listener) -> None:
    """Make the offline checkpoint unless it exists; training continues where a kill interrupted it."""
    path = space.pretrained(cell)
    if path.exists():
        return
    settings = cell.profile.pretrain
    device = choose_device(cell.profile.device)
    data = _load_data(cell, space)
    agent = _captured(_untrained(cell, data, device), cell)
    agent.fit_scaler(data.transitions.obs.to(device))
    streams = Streams(cell.profile.seeds, "pretrain", device)
    draft = path.with_suffix(".partial")
    start = _resume(draft, agent, streams, device)
    pools = _offline_pools(cell, data, device)
    progress = Throttle(NOTIFY_SECONDS)
    saver = Saver(draft, SAVE_SECONDS)
    loop = pretrain(agent, pools, streams, steps=settings.steps, batch_size=settings.batch_size, start=start)
    for step, _ in loop:
        if progress.ready():
            notify(Event(cell, "pre-training", step, settings.steps))
        if saver.due():
            saver.save(partial(_learner_state, agent, streams, step))
    about = describe_learner(cell.profile.learner, (data.obs_dim, data.action_dim), cell.profile.seeds)
    save_checkpoint(path, _learner_state(agent, streams, settings.steps) | {"learner": about})
    draft.unlink(missing_ok=True)


def run_cell(cell: Cell, space: Workspace, notify: Listener) -> CellResult:
    """Fine-tune R replicas and return their curves; the finished result and unfinished states are files."""
    path = space.result(cell)
    if path.exists():
        return CellResult.from_json(path)
    pretrain_cell(cell, space, notify)
    run = CellRun(cell, space, notify)
    try:
        for event in run.run():
            notify(event)
    finally:
        run.close()
    result = run.result()
    result.to_json(path)
    space.checkpoint(cell).unlink(missing_ok=True)
    return result


class CellRun:
    """The fine-tuning of a cell: its learner, buffers and environments, with one state that is saved and restored.

    Args:
        cell: the cell; its offline checkpoint has to exist.
        space: the folder of its files.
        notify: told of progress inside a long round of updates.

    Raises:
        FileNotFoundError: if there is no offline checkpoint.
    """

    def __init__(self, cell: Cell, space: Workspace, notify: Listener = lambda event: None) -> None:
        self.cell = cell
        self.path = space.checkpoint(cell)
        self.notify = notify
        self.device = choose_device(cell.profile.device)
        self.data = _load_data(cell, space)
        reward = reward_map(cell.profile.learner, self.data)
        self.plan = plan_of(cell.profile.finetune, cell.augmentation, self.data, reward)
        pretrained = load_checkpoint(space.pretrained(cell), self.device)
        self.agent = _pretrained(cell, self.data, pretrained["agent"], self.device)
        self.pools = self._pools()
        self.collector, self.evaluator = self._environments()
        self.streams = Streams(cell.profile.seeds, "batches", self.device)  # the same for all arms until T_diff
        own = cell.profile
        self.mixer = make_mixer(own.finetune, cell.augmentation, own.mixing, replay=own.replay, streams=self.streams)
        self.augmentation = self._augmentation(load_start(cell, space, self.device, notify))
        self.pools = replace(self.pools, kept=self.augmentation.kept)
        self.curves = Curves(cell.profile.seeds)
        self.policies = PolicyKeeper(cell, space, self.data.env_id)
        self.latest: dict[str, torch.Tensor] = {}  # metrics since the last evaluation
        self.done = 0
        self.seconds = 0.0
        self.progress = Throttle(NOTIFY_SECONDS)

    def run(self) -> Iterator[Event]:
        """Fine-tune, evaluate and save; yields progress and evaluations."""
        if self.path.exists():
            self.restore(load_checkpoint(self.path, self.device))
        began = time.perf_counter() - self.seconds
        saver = Saver(self.path, SAVE_SECONDS)
        if not self.curves.steps:
            yield self.evaluate({})
        loop = finetune(
            self.agent, self.collector, self.pools, mixer=self._mix, generator=self.augmentation.generator,
            plan=self.plan, start=self.done, after_refresh=self._after_refresh,
        )  # fmt: skip
        for step, metrics in loop:
            self.done = step
            self.seconds = time.perf_counter() - began
            self.latest.update(metrics)
            if self._evaluates_at(step):
                event = self.evaluate(self.latest)
                self.latest = {}
                yield event
            elif self.progress.ready():
                yield self._event()
            if saver.due():
                saver.save(self.state)

    def evaluate(self, latest: Mapping[str, torch.Tensor]) -> Event:
        """Score the mean policy, and note it with the latest training metrics."""
        returns = self.evaluator.returns(self.agent, round_number=len(self.curves.steps))
        scores = self.data.normalised_score(returns).mean(1)
        metrics = {name: value.detach().cpu().numpy().astype(float) for name, value in latest.items()}
        metrics["train/episode_return"] = self.collector.last_return.reshape(len(scores), -1).mean(1)
        if self.seconds:
            metrics["throughput/env_steps_per_second"] = np.full(len(scores), self.done / self.seconds)
        evaluation = Evaluation(self.done, scores, metrics)
        self.curves.add(evaluation)
        self.policies.keep(self.agent, self.curves, final=self.done == self.plan.steps)
        return self._event(evaluation)

    def close(self) -> None:
        """Close the environments."""
        self.collector.close()
        self.evaluator.close()

    def result(self) -> CellResult:
        """Return the curves so far."""
        behaviour_score = float(self.data.behaviour_score)
        return self.curves.result(self.cell.key, behaviour_score=behaviour_score, seconds=self.seconds)

    def state(self) -> dict[str, Any]:
        """Collect everything that changes: a restored run continues bit for bit."""
        state: dict[str, Any] = {
            **_learner_state(self.agent, self.streams, self.done),
            "rings": {name: ring.state_dict() for name, ring in self._rings().items()},
            "collector": self.collector.state(),
            **self.curves.state(),
            "seconds": self.seconds,
            "latest": dict(self.latest),
            "augmentation": self.augmentation.state(),
        }
        if isinstance(self.mixer, Bernoulli):
            state["coin"] = self.mixer.coin.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken.

        Raises:
            ValueError: if an earlier version of this package wrote it.
        """
        if "augmentation" not in state:
            raise ValueError(f"checkpoint {self.path} is of an earlier version, expected one of this; delete it")
        load_learner(self.agent, state["agent"])
        self.streams.restore(state["streams"])
        for name, ring in self._rings().items():
            ring.load_state_dict(state["rings"][name])
        if isinstance(self.mixer, Bernoulli):
            self.mixer.coin.restore(state["coin"])
        self.collector.restore({key: _numpy(value) for key, value in state["collector"].items()})
        self.curves.restore(state)
        self.done = state["step"]
        self.seconds = state["seconds"]
        self.latest = dict(state.get("latest", {}))  # a checkpoint of version 0.3 has none
        self.augmentation.restore(state["augmentation"])

    def _evaluates_at(self, step: int) -> bool:
        return step % self.cell.profile.evaluation.every == 0 or step == self.plan.steps

    def _event(self, evaluation: Evaluation | None = None) -> Event:
        return Event(self.cell, "fine-tuning", self.done, self.plan.steps, evaluation)

    def _mix(self, pools: Pools, batch_size: int) -> Batch:
        """Draw a batch, and notify in between, because a round may have thousands of updates."""
        if self.progress.ready():
            self.notify(self._event())
        return self.mixer(pools, batch_size)

    def _after_refresh(self) -> Metrics:
        def update() -> object:
            return self.agent.update(self._mix(self.pools, self.plan.batch_size))

        return self.augmentation.after_refresh(self.pools, update)

    def _rings(self) -> dict[str, Ring]:
        rings = {name: getattr(self.pools, name) for name in ("online", "offline_synthetic", "online_synthetic")}
        return rings if self.pools.archive is None else rings | {"archive": self.pools.archive}

    def _pools(self) -> Pools:
        offline = _offline_pools(self.cell, self.data, self.device)
        return online_pools(offline, self.plan, self.cell.profile.replay, self.cell.augmentation.augments)

    def _environments(self) -> tuple[EnvCollector, Evaluator]:
        """Make the environments of training and of evaluation."""
        own = self.cell.profile
        env_id = self.data.env_id
        workers = torch.get_num_threads()
        reward = reward_map(own.learner, self.data)
        collector = EnvCollector(env_id, own.seeds, reward, device=self.device, workers=workers)
        return collector, Evaluator(env_id, own.seeds, own.evaluation.episodes, self.device, workers)

    def _augmentation(self, start: Mapping[str, Any] | None) -> Augmentation:
        """Make the arm's part of the run."""
        own = self.cell.profile
        reward = reward_map(own.learner, self.data)
        arm = self.cell.augmentation
        return Augmentation(arm, own, self.data, agent=self.agent, reward=reward, device=self.device, start=start)


def _untrained(cell: Cell, data: Dataset, device: torch.device) -> Learner:
    return offline_learner(cell.profile.learner, (data.obs_dim, data.action_dim), cell.profile.seeds, device)


def _pretrained(cell: Cell, data: Dataset, state: Mapping[str, Any], device: torch.device) -> Learner:
    """Make the learner of the online phase from the offline checkpoint."""
    offline = _untrained(cell, data, device)
    load_learner(offline, state)
    return _captured(online_learner(offline, cell.profile.pex), cell)


def _captured(agent: Learner, cell: Cell) -> Learner:
    """Replay the learner's updates as CUDA graphs where the profile asks for it; a CPU refuses."""
    return Captured(agent) if cell.profile.capture else agent


def _offline_pools(cell: Cell, data: Dataset, device: torch.device) -> Pools:
    return offline_pools(data, reward_map(cell.profile.learner, data), len(cell.profile.seeds), device)


def _learner_state(agent: Learner, streams: Streams, step: int) -> dict[str, Any]:
    return {"agent": save_learner(agent), "streams": streams.state(), "step": step}


def _resume(path: Path, agent: Learner, streams: Streams, device: torch.device) -> int:
    """Restore an interrupted pre-training; returns the number of updates that are done."""
    if not path.exists():
        return 0
    state = load_checkpoint(path, device)
    load_learner(agent, state["agent"])
    streams.restore(state["streams"])
    return int(state["step"])


def _load_data(cell: Cell, space: Workspace) -> Dataset:
    if cell.content and content_digest(cell.dataset) != cell.content:
        raise ValueError(f"{cell.dataset} has changed since the command began, expected the same files; run it again")
    return load_dataset(cell.dataset, rows=cell.profile.rows, seed=cell.profile.data_seed, cache=space.cache)


def _numpy(value: object) -> object:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value
