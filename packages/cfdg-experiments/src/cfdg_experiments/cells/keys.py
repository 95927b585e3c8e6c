"""Keys that name a cell's files: hashes of everything that its curves, its checkpoint or its offline fit depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cfdg_experiments.generators.gate import GateSettings
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.profiles.profile import PRETRAINED_AS
from cfdg_rl.composition import Composition
from cfdg_rl.datasets.recorded.recording import plan_recording

if TYPE_CHECKING:
    from cfdg_experiments.cells.cell import Cell

SAMPLING = ("guidance_weight", "sampler", "sampling_steps", "chunk_rows")  # settings that no fit depends on
FIRST_FORMAT = 2  # of recordings when keys were first made, in which it is no part


def pretrain_key(cell: Cell) -> str:
    """Hash everything that an offline checkpoint depends on."""
    own = cell.profile
    data = {"rows": own.rows, "seed": own.data_seed} | _recording_format(cell)
    agent = asdict(own.learner) | {"online_learning_rate": None}  # for fine-tuning alone
    pretrained_as = PRETRAINED_AS[cell.algorithm]
    parts = [cell.dataset, pretrained_as, data, agent, asdict(own.pretrain), list(own.seeds)]
    return _hash(parts + [cell.content] * bool(cell.content))


def generator_key(cell: Cell) -> str:
    """Hash everything that the offline fit of a generator depends on."""
    own = cell.profile
    kind = cell.augmentation.offline_fit
    diffusion = {name: value for name, value in asdict(own.diffusion).items() if name not in SAMPLING}
    outcomes = asdict(own.generators.outcomes) if kind == "split" else None
    held_out = own.generators.gate.held_out_every
    fit = [diffusion, outcomes, own.refresh.offline_steps, held_out]
    data = {"rows": own.rows, "seed": own.data_seed} | _recording_format(cell)
    parts = [cell.dataset, kind, data, own.learner.reward, fit, list(own.seeds)]
    return _hash(parts + [cell.content] * bool(cell.content))


def _recording_format(cell: Cell) -> dict[str, int]:
    """Return the version of a recorded dataset's contents, where it is not the first that keys were made of."""
    source, _, name = cell.dataset.partition(":")
    if source != "recorded":
        return {}
    version = plan_recording(name, cell.profile.rows, cell.profile.data_seed).format
    return {} if version == FIRST_FORMAT else {"format": version}


def cell_key(cell: Cell) -> str:
    """Hash everything that a cell's curves depend on."""
    own = cell.profile
    groups: list[Any] = [own.learner, own.finetune]
    parts = [asdict(group) for group in groups] + [{"synthetic_ratio": own.mixing.synthetic_ratio}]
    groups = [group for group in (own.pex, own.replay) if group is not None] + [own.evaluation]
    parts += [asdict(group) for group in groups] + _augmentation_parts(cell)
    return _hash([pretrain_key(cell), cell.algorithm, cell.arm, *parts])


def _augmentation_parts(cell: Cell) -> list[Any]:
    """List what an arm's rows depend on; a cell whose batch is the same in both protocols is one cell."""
    own = cell.profile
    arm = cell.augmentation
    values = {"diffusion": _with_old_names(asdict(own.diffusion)), "refresh": _schedule(own.refresh)}
    values |= asdict(own.generators)
    parts = [values[name] for name in arm.reads]
    ratio = own.mixing.synthetic_ratio
    shares = (ratio, own.finetune.online_share)
    chosen, native = (arm.composition(match, *shares) for match in (own.mixing.match, "native"))
    if _batch(cell, chosen) != _batch(cell, native):
        parts.append({"match": own.mixing.match})
    return parts + _mixing_parts(cell) + ([{"digest": arm.digest}] if arm.digest else [])


def _mixing_parts(cell: Cell) -> list[Any]:
    """List what else decides which generated rows a batch holds; nothing where all are off."""
    mixing = cell.profile.mixing
    arm = cell.augmentation
    parts: list[Any] = [{"extra": True}] if mixing.extra and arm.augments else []
    gate = cell.profile.generators.gate
    if arm.is_gated(mixing.gate):
        parts.append({"gate": asdict(gate)})
    elif cell.starts_from_a_fit and gate.held_out_every != GateSettings.held_out_every:  # rows that the fit lacks
        parts.append({"held_out_every": gate.held_out_every})
    return parts + ([{"on_policy": asdict(cell.profile.generators.on_policy)}] if arm.adapts(mixing.adaptive) else [])


def _batch(cell: Cell, composition: Composition) -> object:
    """Return the rows of a batch, which in paradigm 2 depend on the share of generated rows alone."""
    size = cell.profile.finetune.batch_size
    return composition.counts(size) if cell.profile.replay is None else round(size * composition.synthetic)


def _with_old_names(diffusion: dict[str, Any]) -> dict[str, Any]:
    """Keep the keys of cells that were finished before a setting was renamed."""
    return {"waves" if name == "fourier_octaves" else name: value for name, value in diffusion.items()}


def _schedule(refresh: Schedule) -> dict[str, Any]:
    """Describe a schedule; one without an offline fit as it was before there were any."""
    found = asdict(refresh)
    return found if refresh.offline_steps else {name: value for name, value in found.items() if name != "offline_steps"}


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
