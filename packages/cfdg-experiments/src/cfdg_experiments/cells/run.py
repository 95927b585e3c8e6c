"""Runs of a cell: R replicas of one (dataset, algorithm, arm), from data to curves, resumable after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from cfdg_experiments.cells.agents import choose_device, load_learner, make_mixer, online_pools, plan_of, reward_map
from cfdg_experiments.cells.augmentation import Augmentation
from cfdg_experiments.cells.cell import Cell, Event, Listener, Workspace
from cfdg_experiments.cells.offline_fit import load_start, start_files
from cfdg_experiments.cells.parts import (
    captured,
    learner_state,
    load_data,
    pools_of,
    pretrained_learner,
    resume,
    untrained,
)
from cfdg_experiments.cells.policy_store import PolicyKeeper, describe_learner
from cfdg_experiments.cells.results import CellResult, Curves, Evaluation
from cfdg_experiments.storage.named_checkpoints import load_named, save_named
from cfdg_experiments.storage.ring_files import RingFiles
from cfdg_experiments.storage.saver import NOTIFY_SECONDS, SAVE_SECONDS, Saver, Throttle
from cfdg_rl.buffer import Ring
from cfdg_rl.collect import EnvCollector
from cfdg_rl.evaluate import Evaluator
from cfdg_rl.finetune import finetune
from cfdg_rl.mixing import Batch, Bernoulli, Pools
from cfdg_rl.pretrain import pretrain
from cfdg_rl.protocols import Metrics
from cfdg_rl.streams import Streams


def pretrain_cell(cell: Cell, space: Workspace, notify: Listener) -> None:
    """Make the offline checkpoint unless it exists; training continues where a kill interrupted it."""
    path = space.pretrained(cell)
    if path.exists():
        return
    settings = cell.profile.pretrain
    device = choose_device(cell.profile.device)
    data = load_data(cell, space)
    agent = captured(untrained(cell, data, device), cell)
    agent.fit_scaler(data.transitions.obs.to(device))
    streams = Streams(cell.profile.seeds, "pretrain", device)
    draft = path.with_suffix(".partial")
    start = resume(draft, agent, streams, device)
    pools = pools_of(cell, data, device)
    progress = Throttle(NOTIFY_SECONDS)
    saver = Saver(draft, SAVE_SECONDS, space.stops)
    loop = pretrain(agent, pools, streams, steps=settings.steps, batch_size=settings.batch_size, start=start)
    for step, _ in loop:
        if progress.ready():
            notify(Event(cell, "pre-training", step, settings.steps))
        if saver.due():
            saver.save(partial(learner_state, agent, streams, step), partial(space.saved, step, [draft]))
    about = describe_learner(cell.profile.learner, (data.obs_dim, data.action_dim), cell.profile.seeds)
    save_named(path, learner_state(agent, streams, settings.steps) | {"learner": about})
    draft.unlink(missing_ok=True)


def run_cell(cell: Cell, space: Workspace, notify: Listener) -> CellResult:
    """Fine-tune R replicas and return their curves; the finished result and unfinished states are files."""
    path = space.result(cell)
    if path.exists():
        return CellResult.from_json(path, cell.key)
    pretrain_cell(cell, space, notify)
    run = CellRun(cell, space, notify)
    try:
        for event in run.run():
            notify(event)
    finally:
        run.close()
    result = run.result()
    result.to_json(path)
    space.discard(cell)
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
        self.space = space
        self.path = space.checkpoint(cell)
        self.notify = notify
        self.device = choose_device(cell.profile.device)
        self.data = load_data(cell, space)
        reward = reward_map(cell.profile.learner, self.data)
        self.plan = plan_of(cell.profile.finetune, cell.augmentation, self.data, reward)
        pretrained = load_named(space.pretrained(cell), self.device)
        self.agent = pretrained_learner(cell, self.data, pretrained["agent"], self.device)
        self.pools = self._pools()
        self.streams = Streams(cell.profile.seeds, "batches", self.device)  # the same for all arms until T_diff
        own = cell.profile
        self.mixer = make_mixer(own.finetune, cell.augmentation, own.mixing, replay=own.replay, streams=self.streams)
        self.augmentation = self._augmentation(load_start(cell, space, self.device, notify))
        self.pools = replace(self.pools, kept=self.augmentation.kept)
        self.collector, self.evaluator = self._environments()
        self.curves = Curves(cell.profile.seeds)
        self.policies = PolicyKeeper(cell, space, self.data)
        self.latest: dict[str, torch.Tensor] = {}  # metrics since the last evaluation, the newest of each name
        self.done = 0
        self.seconds = 0.0
        self.progress = Throttle(NOTIFY_SECONDS)

    def run(self) -> Iterator[Event]:
        """Fine-tune, evaluate and save; yields progress and evaluations."""
        files = RingFiles(self.path.with_suffix(".rings"))
        if self.path.exists():
            self.restore(load_named(self.path, self.device), files)
        began = time.perf_counter() - self.seconds
        saver = Saver(self.path, SAVE_SECONDS, self.space.stops)
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
                saver.save(partial(self.state, files), partial(self._saved, files))

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

    def state(self, files: RingFiles | None = None) -> dict[str, Any]:
        """Collect everything that changes: a restored run continues bit for bit.

        With ``files`` the rows of the rings are in files of their own, of which the new ones are written.
        """
        rings = self._rings()
        state: dict[str, Any] = {
            **learner_state(self.agent, self.streams, self.done),
            "rings": files.save(rings) if files else {name: ring.state_dict() for name, ring in rings.items()},
            "collector": self.collector.state(),
            **self.curves.state(),
            "seconds": self.seconds,
            "latest": dict(self.latest),
            "augmentation": self.augmentation.state(),
        }
        if isinstance(self.mixer, Bernoulli):
            state["coin"] = self.mixer.coin.state()
        return state

    def restore(self, state: Mapping[str, Any], files: RingFiles | None = None) -> None:
        """Continue where :meth:`state` was taken, with the same files.

        Raises:
            ValueError: if an earlier version of this package wrote it.
        """
        if "augmentation" not in state:
            raise ValueError(f"checkpoint {self.path} is of an earlier version, expected one of this; delete it")
        load_learner(self.agent, state["agent"])
        self.streams.restore(state["streams"])
        rings = self._rings()
        if files and all("pieces" in own for own in state["rings"].values()):
            files.load(rings, state["rings"])
        else:
            for name, ring in rings.items():
                ring.load_state_dict(state["rings"][name])
        if isinstance(self.mixer, Bernoulli):
            self.mixer.coin.restore(state["coin"])
        self.collector.restore({key: _numpy(value) for key, value in state["collector"].items()})
        self.curves.restore(state)
        self.done = state["step"]
        self.seconds = state["seconds"]
        self.latest = dict(state.get("latest", {}))  # a checkpoint of version 0.3 has none
        self.augmentation.restore(state["augmentation"])

    def _saved(self, files: RingFiles) -> None:
        files.prune()
        self.space.saved(self.done, [self.path, *start_files(self.cell, self.space), *files.files()])

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
        offline = pools_of(self.cell, self.data, self.device)
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


def _numpy(value: object) -> object:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value
