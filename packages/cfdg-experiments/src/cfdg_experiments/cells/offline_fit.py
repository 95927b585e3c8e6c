"""Offline fit of a generator: one on the dataset alone, from which every arm and algorithm of a dataset starts.

It is what pre-training is for agents. One row in ``generators.gate.held_out_every`` is left out, so that arms with a
quality gate share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfdg_diffusion import ConditionalDiffusion
from cfdg_diffusion.edm.losses import check_losses
from cfdg_experiments.cells.agents import choose_device, offline_pools, reward_map
from cfdg_experiments.cells.cell import Cell, Event, Listener, Workspace
from cfdg_experiments.cells.parts import load_data
from cfdg_experiments.generators.context import row_model
from cfdg_experiments.generators.gate import is_held_out
from cfdg_experiments.generators.split import Split
from cfdg_experiments.storage.named_checkpoints import load_named, save_named
from cfdg_experiments.storage.saver import NOTIFY_SECONDS, SAVE_SECONDS, Saver, Throttle
from cfdg_rl.mixing import OFFLINE

_Model = ConditionalDiffusion | Split


def load_start(cell: Cell, space: Workspace, device: torch.device, notify: Listener) -> Mapping[str, Any] | None:
    """Return the state of the cell's model after its offline fit, which is made where there is none yet.

    Returns:
        None for an arm without an offline fit.
    """
    files = start_files(cell, space)
    if not files:
        return None
    if not files[0].exists():
        fit_generator(cell, space, notify)
    return load_named(files[0], device)["model"]


def fit_generator(cell: Cell, space: Workspace, notify: Listener) -> None:
    """Fit the cell's generator on the dataset and write its state; a killed fit continues.

    What is done of the regression of a split model, which follows the diffusion, is lost.

    Raises:
        StoppedError: if the work is to end; the checkpoint is written.
    """
    own = cell.profile
    device = choose_device(own.device)
    data = load_data(cell, space)
    rows = offline_pools(data, reward_map(own.learner, data), 1, device).offline.view()
    model = _model(cell, (data.obs_dim, data.action_dim), device)
    draft = space.generator(cell).with_suffix(".partial")
    start = _resume(draft, model, device)
    seen = rows[~is_held_out(len(rows), own.generators.gate.held_out_every, device)]
    progress = Throttle(NOTIFY_SECONDS)
    saver = Saver(draft, SAVE_SECONDS, space.stops)
    steps = own.refresh.offline_steps
    for step in _training(model, seen, steps, start, saver.check):
        if progress.ready():
            notify(Event(cell, "pre-training", step, steps))
        if saver.due() or (step == steps and isinstance(model, Split)):  # its regression writes no checkpoint
            saver.save(partial(_state, model, step), partial(space.saved, -step, [draft]))
    save_named(space.generator(cell), {"model": model.state_dict()})
    draft.unlink(missing_ok=True)


def start_files(cell: Cell, space: Workspace) -> list[Path]:
    """List the file of the cell's offline fit, which never changes; empty for an arm without one."""
    return [space.generator(cell)] if cell.starts_from_a_fit else []


def _state(model: _Model, step: int) -> dict[str, Any]:
    return {"model": model.state_dict(), "step": step}


def _model(cell: Cell, dims: tuple[int, int], device: torch.device) -> _Model:
    own = cell.profile
    if cell.augmentation.offline_fit == "joint":
        return row_model(own.diffusion, dims, own.seeds, str(device))
    outcomes = own.generators.outcomes
    return Split(*dims, seeds=own.seeds, diffusion=own.diffusion, outcomes=outcomes, device=device)


def _resume(path: Path, model: _Model, device: torch.device) -> int:
    """Restore an interrupted fit; returns the number of its steps that are done."""
    if not path.exists():
        return 0
    state = load_named(path, device)
    model.load_state_dict(state["model"])
    return int(state["step"])


def _training(model: _Model, rows: Tensor, steps: int, start: int, on_step: Callable[[], None]) -> Iterator[int]:
    """Yield the number of each gradient step of the diffusion; the regression of a split model follows the last.

    ``on_step`` is called after each step of the regression.
    """
    labels = torch.full(rows.shape[:1], OFFLINE, device=rows.device)
    pairs = model.pairs if isinstance(model, Split) else model
    training = pairs.training(rows[:, : pairs.columns], labels, steps=steps, start=start) if start < steps else ()
    for step, losses in training:
        if step == steps:
            check_losses(losses)
        yield step
    if isinstance(model, Split):
        model.fit_outcomes(rows[None], labels[None], steps=steps, on_step=on_step)
