"""Augmentation of a running cell: the arm's generator, what happens after each refresh, and the state of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from cfdg_experiments.arms import Arm
from cfdg_experiments.cells.agents import goal_rewards
from cfdg_experiments.generators.context import Context
from cfdg_experiments.generators.gate import LABELS, Gate, HoldingOut, Stored
from cfdg_experiments.generators.inspection import Inspection
from cfdg_experiments.generators.interface import ResumableGenerator
from cfdg_experiments.generators.on_policy import OnPolicy
from cfdg_experiments.profiles.profile import CellProfile
from cfdg_rl.datasets.load import Dataset
from cfdg_rl.envs.simulate import has_simulator
from cfdg_rl.finetune import storable
from cfdg_rl.mixing import Pools
from cfdg_rl.protocols import Learner, Metrics
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams


class PresentPolicy:
    """Actions of the policy as it is, drawn from streams of their own.

    The learner's streams stay as they are, so that runs with and without such draws explore alike.

    Args:
        agent: the learner.
        streams: randomness of the draws, one stream per replica.
    """

    def __init__(self, agent: Learner, streams: Streams) -> None:
        self.agent = agent
        self.streams = streams

    def __call__(self, obs: Tensor) -> Tensor:
        """Draw actions ``(R, B, A)`` for observations ``(R, B, S)``."""
        exploration = self.agent.streams["exploration"]
        before = exploration.state()
        exploration.restore(self.streams.state())
        action = self.agent.act(obs, explore=True)
        self.streams.restore(exploration.state())
        exploration.restore(before)
        return action


class Augmentation:
    """The part of a run in which arms differ, beside the composition of a batch.

    Args:
        arm: of the cell.
        profile: settings of the cell.
        data: the dataset.
        agent: the learner, whose policy a generator may ask for actions.
        reward: maps raw rewards to the learner's.
        device: of everything.
        start: state of the arm's model after its offline fit; None without one.

    Attributes:
        kept: ``(R, 2)`` shares of the generated rows of each label that a batch keeps; None where all are kept always.
        generator: fills the synthetic buffers; None for an arm of real rows alone.
        refreshes: refreshes so far.
    """

    def __init__(  # noqa: PLR0913 - all but three by name
        self,
        arm: Arm,
        profile: CellProfile,
        data: Dataset,
        *,
        agent: Learner,
        reward: RewardMap,
        device: torch.device,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        self.arm = arm
        self.profile = profile
        self.policy = PresentPolicy(agent, Streams(profile.seeds, "present policy", device))
        context = Context(
            dims=(data.obs_dim, data.action_dim),
            seeds=profile.seeds,
            device=str(device),
            diffusion=profile.diffusion,
            schedule=arm.schedule(profile.refresh),
            settings=profile.generators,
            policy=self.policy,
            env_id=data.env_id,
            reward=reward,
            start=start,
        )
        self.generator: ResumableGenerator | None = arm.generator(context)
        self.gate: Gate | None = None
        if self.generator is not None and arm.is_gated(profile.mixing.gate):
            self.gate = Gate(*context.dims, context.streams("gate"), profile.generators.gate)
            stored = partial(
                storable, obs_dim=data.obs_dim, action_dim=data.action_dim, sparse_reward=goal_rewards(data, reward)
            )
            self.generator = _holding_out(self.generator, context, profile, stored)
        self.on_policy = _on_policy(context) if arm.adapts(profile.mixing.adaptive) else None
        adapts = self.gate is not None or self.on_policy is not None
        self.kept = torch.ones(len(profile.seeds), len(LABELS), device=device) if adapts else None
        self.inspection = _inspection(context, profile) if self.generator and profile.inspection.enabled else None
        self.refreshes = 0

    def after_refresh(self, pools: Pools, update: Callable[[], object]) -> Metrics:
        """Do what the arm does at the time of a refresh, once its buffers are full; metrics ``(R,)``.

        Args:
            pools: the buffers.
            update: takes one gradient step of the learner.
        """
        self.refreshes += 1
        like = torch.ones(len(self.profile.seeds))
        found: dict[str, Tensor] = {}
        if self.generator is not None:
            calls = self.generator.network_calls(self.profile.finetune.synthetic_rows)
            found["refresh/network_calls"] = calls * like
        began = time.perf_counter()
        if self.inspection is not None:
            found |= self.inspection(pools)
            found["refresh/inspect_seconds"] = (time.perf_counter() - began) * like
        found |= self._judge(pools)
        if self.arm.takes_updates:
            for _ in range(self.further_updates()):
                update()
            found["refresh/update_seconds"] = (time.perf_counter() - began) * like
        return found

    def _judge(self, pools: Pools) -> dict[str, Tensor]:
        """Set the shares of generated rows that batches keep until the next refresh; metrics ``(R,)``."""
        if self.kept is None:
            return {}
        kept = torch.ones_like(self.kept)
        found: dict[str, Tensor] = {}
        if self.gate is not None and isinstance(self.generator, HoldingOut):
            passes, found = self.gate(pools, self.generator.failed, self.generator.complete)
            kept *= passes
        if self.on_policy is not None:
            kept *= self.on_policy(pools)
        self.kept.copy_(kept)
        return found | {f"refresh/kept_{name}": kept[:, label] for name, label in LABELS.items()}

    def further_updates(self) -> int:
        """Return the updates that stand for the latest refresh of a generator."""
        ratio = self.profile.generators.updates_per_fit_step
        return round(ratio * self.profile.refresh.steps_at(self.refreshes))

    def state(self) -> dict[str, Any]:
        """Collect everything that changes."""
        state: dict[str, Any] = {"refreshes": self.refreshes, "policy": self.policy.streams.state()}
        for name, part in self._parts():
            state[name] = part.state()
        return state if self.kept is None else state | {"kept": self.kept.clone()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        self.refreshes = int(state["refreshes"])
        self.policy.streams.restore(state["policy"])
        for name, part in self._parts():
            if name in state:
                part.restore(state[name])
        if self.kept is not None:
            self.kept.copy_(state["kept"])

    def _parts(self) -> list[tuple[str, Stateful]]:
        names = ("generator", "inspection", "gate", "on_policy")
        return [(name, part) for name in names if (part := getattr(self, name)) is not None]


class Stateful(Protocol):
    """A part of an augmentation that a checkpoint holds."""

    def state(self) -> dict[str, Any]:
        """Collect everything that changes."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        ...


def _holding_out(generator: ResumableGenerator, context: Context, profile: CellProfile, stored: Stored) -> HoldingOut:
    """Keep the rows that judge a generator from it."""
    every = profile.generators.gate.held_out_every
    return HoldingOut(generator, every, profile.finetune.margin, context.streams("held out"), stored)


def _on_policy(context: Context) -> OnPolicy:
    """Make the estimate of on-policyness."""
    return OnPolicy(*context.dims, context.seeds, context.settings.on_policy, context.device)


def _inspection(context: Context, profile: CellProfile) -> Inspection:
    """Make the inspection, with a simulator where the environment has one."""
    outcomes = context.outcomes() if has_simulator(context.env_id) else None
    return Inspection(context.streams("inspection"), outcomes, profile.inspection)
