"""Estimate of a table's time, from a few seconds of its real work on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from cfdg_experiments.cells.agents import offline_learner, online_learner
from cfdg_experiments.cells.cell import Cell
from cfdg_experiments.generators.context import row_model
from cfdg_experiments.generators.edis import Edis
from cfdg_experiments.generators.energies import Contrast, train_energy
from cfdg_experiments.generators.fitted import unconditional
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.profiles.profile import CellProfile
from cfdg_rl.collect import EnvCollector
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch
from cfdg_rl.rewards import RewardMap
from cfdg_rl.transitions import from_rows, row_width

PROBE_ENV = "Hopper-v5"  # with Walker2d the slowest of the locomotion environments to step
PROBE_DIMS = (11, 3)  # its S and A

Costs = TypeVar("Costs")


@dataclass(frozen=True)
class AgentCosts:
    """Seconds on this machine, for all replicas of a cell together.

    Attributes:
        offline_update: one gradient step of the pre-training.
        update: one gradient step of the fine-tuning.
        env_step: one step of every replica's environment.
    """

    offline_update: float
    update: float
    env_step: float


@dataclass(frozen=True)
class ModelCosts:
    """Seconds on this machine, for all replicas of a cell together.

    Attributes:
        step: one gradient step of the generator.
        row: one generated row for every replica.
    """

    step: float
    row: float


@dataclass(frozen=True)
class EdisCosts:
    """Seconds on this machine, for all replicas of a cell together.

    Attributes:
        step: one gradient step of all energies.
        row: one row of the pool for every replica.
        guided: one generated row for every replica.
    """

    step: float
    row: float
    guided: float


def agent_costs(own: CellProfile) -> AgentCosts:
    """Time a cell's updates and environment steps briefly, with its own sizes on one core per job."""
    offline = offline_learner(own.learner, PROBE_DIMS, own.seeds, torch.device("cpu"))
    size = own.pretrain.batch_size
    rows = torch.rand(len(own.seeds), size, row_width(*PROBE_DIMS))
    first, second = (
        Batch(from_rows(rows, *PROBE_DIMS), torch.full((size,), label), label) for label in (OFFLINE, ONLINE)
    )
    offline_update = _seconds(lambda: offline.update(first))
    online = online_learner(offline, own.pex)
    online_update = _seconds(lambda: online.update(second))
    if own.replay is not None:  # half of the batches are offline ones, which cost more
        online_update = (online_update + offline_update) / 2
    collector = EnvCollector(PROBE_ENV, own.seeds, RewardMap())
    step = _seconds(lambda: collector.step(online))
    collector.close()
    return AgentCosts(offline_update, online_update, step)


def model_costs(own: CellProfile) -> ModelCosts:
    """Time the generator's training and sampling briefly."""
    rows = torch.rand(len(own.seeds), own.finetune.batch_size, row_width(*PROBE_DIMS))
    model = row_model(own.diffusion, PROBE_DIMS, own.seeds, "cpu")
    labels = (torch.arange(rows.shape[1]) % 2).expand(len(own.seeds), -1)
    model.fit(rows, labels, steps=2)
    few = 20
    return ModelCosts(
        step=_seconds(lambda: model.fit(rows, labels, steps=few), 1) / few,
        row=_seconds(lambda: model.sample(labels), 1) / labels.shape[1],
    )


def edis_costs(own: CellProfile) -> EdisCosts:
    """Time the energies' training, and sampling with and without them, briefly."""
    rows = torch.rand(len(own.seeds), own.diffusion.batch_size, row_width(*PROBE_DIMS))
    model = row_model(unconditional(own.diffusion), PROBE_DIMS, own.seeds, "cpu", labels=1)
    settings = replace(own.generators.edis, negatives="pool", pool_rows=rows.shape[1], first_steps=1)
    edis = Edis(model, Schedule(first_steps=1), _centred_actions, *PROBE_DIMS, settings)
    labels = (torch.arange(rows.shape[1]) % 2).expand(len(own.seeds), -1)
    edis.fit(rows, labels)
    few = 4

    def train() -> None:
        for name, energy in edis.energies.items():
            train_energy(energy, Contrast(edis.reads[name], rows, rows), edis.streams, few)

    return EdisCosts(
        step=_seconds(train, 2) / few,
        row=_seconds(lambda: model.sample(torch.zeros_like(labels)), 1) / labels.shape[1],
        guided=_seconds(lambda: edis.sample(labels), 1) / labels.shape[1],
    )


def _centred_actions(obs: Tensor) -> Tensor:
    """Return the action 0 for every observation, which costs nothing."""
    return obs.new_zeros(*obs.shape[:-1], PROBE_DIMS[1])


def estimate_seconds(cells: Sequence[Cell], pretrainings: Sequence[Cell], fits: Sequence[Cell] = ()) -> float:
    """Estimate the time of the cells, the ``pretrainings`` and the offline ``fits``, one after the other on one core.

    Args:
        cells: the cells to run.
        pretrainings: one of them for each offline checkpoint to be made.
        fits: one of them for each offline fit of a generator to be made.
    """
    agents: dict[object, AgentCosts] = {}
    models: dict[object, ModelCosts] = {}
    energies: dict[object, EdisCosts] = {}
    total = 0.0
    for cell in cells:
        own = cell.profile
        agent = _measured(agents, (cell.algorithm, own.learner), agent_costs, own)
        total += online_seconds(own, agent)
        if cell in pretrainings:
            total += own.pretrain.steps * agent.offline_update
        if cell.augmentation.takes_updates:
            total += further_updates(own) * agent.update
        if cell.augmentation.has_model:
            costs = _measured(models, own.diffusion, model_costs, own)
            if "edis" in cell.augmentation.reads:
                guided = _measured(energies, (own.diffusion, own.generators.edis), edis_costs, own)
                total += energy_seconds(own, guided)
                costs = replace(costs, row=guided.guided)
            total += refresh_seconds(own, costs, cell.augmentation.schedule(own.refresh))
            total += own.refresh.offline_steps * costs.step if cell in fits else 0.0
    return total


def _measured(
    known: dict[object, Costs], key: object, measure: Callable[[CellProfile], Costs], own: CellProfile
) -> Costs:
    """Return the costs of settings that were measured before, or measure them."""
    if key not in known:
        known[key] = measure(own)
    return known[key]


def online_seconds(own: CellProfile, costs: AgentCosts) -> float:
    """Estimate collecting, updating and evaluating of one cell."""
    plan = own.finetune
    updates = sum(plan.updates_at(t) for t in range(plan.round_steps, plan.steps + 1, plan.round_steps))
    evaluations = plan.steps // own.evaluation.every + 1
    played = evaluations * own.evaluation.episodes * 500  # half-length episodes
    return updates * costs.update + (plan.steps + played) * costs.env_step


def refresh_seconds(own: CellProfile, costs: ModelCosts, schedule: Schedule) -> float:
    """Estimate training and sampling of the generator in one cell."""
    refreshes = len(own.finetune.refresh_steps)
    fits = sum(schedule.steps_at(refresh) for refresh in range(1, refreshes + 1))
    return fits * costs.step + refreshes * own.finetune.synthetic_rows * costs.row


def further_updates(own: CellProfile) -> int:
    """Count the updates of ``base-updates`` at the times of all refreshes."""
    ratio = own.generators.updates_per_fit_step
    refreshes = len(own.finetune.refresh_steps)
    return sum(round(ratio * own.refresh.steps_at(refresh)) for refresh in range(1, refreshes + 1))


def energy_seconds(own: CellProfile, costs: EdisCosts) -> float:
    """Estimate what EDIS does beside training its model and sampling: its energies and their negatives."""
    settings = own.generators.edis
    refreshes = len(own.finetune.refresh_steps)
    steps = settings.first_steps + (refreshes - 1) * settings.steps if refreshes else 0
    pools = 3 if settings.negatives == "clamped" else 1  # of E_pi and of E_T as well
    return steps * costs.step + refreshes * pools * settings.pool_rows * costs.row


def _seconds(work: Callable[[], object], repeats: int = 20, enough: float = 0.5) -> float:
    """Average the seconds of ``work`` after a first time, over ``repeats`` or as many as take ``enough`` seconds."""
    work()
    began = time.perf_counter()
    done = 0
    while done < repeats and time.perf_counter() - began < enough:
        work()
        done += 1
    return (time.perf_counter() - began) / done
