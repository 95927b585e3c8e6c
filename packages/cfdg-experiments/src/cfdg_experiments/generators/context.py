"""Context that a cell's generator is made from, and the settings of all generators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_experiments.generators.copies import JitterSettings
from cfdg_experiments.generators.curiosity import CuriositySettings
from cfdg_experiments.generators.edis import EdisSettings, Policy
from cfdg_experiments.generators.gate import GateSettings
from cfdg_experiments.generators.interface import ResumableGenerator
from cfdg_experiments.generators.on_policy import OnPolicySettings
from cfdg_experiments.generators.outcomes import OutcomeSettings
from cfdg_experiments.generators.pgr import PgrSettings
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.generators.simulated import Outcomes, SimulatedSettings
from cfdg_experiments.generators.split import Split
from cfdg_rl.envs.simulate import make_simulator
from cfdg_rl.ranges import NOT_NEGATIVE, check_ranges
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import row_width


@dataclass(frozen=True)
class GeneratorSettings:
    """Settings of the arms beside those of the diffusion model.

    Raises:
        ValueError: if ``updates_per_fit_step`` is negative.
    """

    edis: EdisSettings = field(default_factory=EdisSettings)
    pgr: PgrSettings = field(default_factory=PgrSettings)
    curiosity: CuriositySettings = field(default_factory=CuriositySettings)  # of PGR
    outcomes: OutcomeSettings = field(default_factory=OutcomeSettings)  # of cfdg-split
    jitter: JitterSettings = field(default_factory=JitterSettings)
    simulated: SimulatedSettings = field(default_factory=SimulatedSettings)
    gate: GateSettings = field(default_factory=GateSettings)  # of mixing.gate
    on_policy: OnPolicySettings = field(default_factory=OnPolicySettings)  # of mixing.adaptive
    updates_per_fit_step: float = 2.0  # base-updates: further updates for a generator's gradient step

    def __post_init__(self) -> None:
        check_ranges(self, updates_per_fit_step=NOT_NEGATIVE)


@dataclass(frozen=True)
class Context:
    """Everything that the generator of a cell may be made from.

    Attributes:
        dims: sizes S and A of observations and actions.
        seeds: R seeds, one replica each.
        device: of everything.
        diffusion: settings of a diffusion model.
        schedule: gradient steps of a model at each refresh.
        settings: of the generators.
        policy: draws actions of the present policy; its draws leave the learner's own streams as they are.
        env_id: Gymnasium id of the environment.
        reward: maps the environment's rewards to the learner's.
        start: state of the arm's model after its offline fit; None without one.
    """

    dims: tuple[int, int]
    seeds: tuple[int, ...]
    device: str
    diffusion: DiffusionSettings
    schedule: Schedule
    settings: GeneratorSettings
    policy: Policy
    env_id: str
    reward: RewardMap
    start: Mapping[str, Any] | None = None

    def streams(self, purpose: str) -> Streams:
        """Make one random stream per replica."""
        return Streams(self.seeds, purpose, self.device)

    def model(self, diffusion: DiffusionSettings, labels: int) -> ConditionalDiffusion:
        """Make a diffusion model of transition rows; see :func:`row_model`."""
        return row_model(diffusion, self.dims, self.seeds, self.device, labels=labels)

    def split(self) -> Split:
        """Make the model in two parts; see :class:`~cfdg_experiments.generators.split.Split`."""
        return Split(
            *self.dims,
            seeds=self.seeds,
            diffusion=self.diffusion,
            outcomes=self.settings.outcomes,
            device=self.device,
        )

    def outcomes(self) -> Outcomes:
        """Make the simulator in the learner's units.

        Raises:
            ValueError: if the environment cannot be set to the state of an observation.
        """
        return Outcomes(make_simulator(self.env_id, torch.get_num_threads()), self.reward)


Maker = Callable[[Context], ResumableGenerator]


def row_model(
    diffusion: DiffusionSettings,
    dims: tuple[int, int],
    seeds: tuple[int, ...],
    device: str,
    *,
    labels: int = 2,
) -> ConditionalDiffusion:
    """Make a diffusion model of transition rows, its last column (terminal) un-normalised.

    Args:
        diffusion: its settings.
        dims: sizes S and A of observations and actions.
        seeds: one replica each.
        device: of the weights.
        labels: number of labels; 2 are offline and online.
    """
    columns = row_width(*dims)
    raw = (columns - 1,)
    return ConditionalDiffusion(columns, labels, seeds=seeds, settings=diffusion, raw_columns=raw, device=device)
