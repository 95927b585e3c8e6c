"""Batches of offline, online and generated rows in exact numbers, for the replay buffer of any library.

The other files of this folder use it with Stable-Baselines3, CleanRL, TorchRL and d3rlpy. All of them take one hook:

    replay = MixedReplay(offline)
    replay.refresh(online)  # now and then: fit on both, generate anew
    counts = replay.counts(256)  # 85 offline, 86 online, 85 generated rows, in every batch
    online_part = their_buffer.sample(counts.online)
    other_part = replay.others(counts)

Rows are :class:`~cfdg_rl.Transitions`, actions in [-1, 1].
"""

from __future__ import annotations

import torch

from cfdg_diffusion import ConditionalDiffusion, DiffusionSettings
from cfdg_rl import OFFLINE, ONLINE, Transitions, from_rows, row_width, to_rows
from cfdg_rl.composition import BASE, PAPER, Counts
from cfdg_rl.transitions import concatenate


class MixedReplay:
    """The offline rows, a diffusion model of offline and online rows, and what it generated last.

    Args:
        offline: ``(N,)`` transitions.
        rows: generated at each refresh, under both labels.
        fit_steps: gradient steps of the model at each refresh; it starts from what it has learnt already.
        width: of the model's network.
        seed: of the model and of the draws.
    """

    def __init__(
        self, offline: Transitions, *, rows: int = 10_000, fit_steps: int = 1_500, width: int = 128, seed: int = 0
    ) -> None:
        self.offline = offline
        self.generated: dict[int, Transitions] = {}
        self.rows = rows
        self.fit_steps = fit_steps
        self.dims = (offline.obs.shape[-1], offline.action.shape[-1])
        self.random = torch.Generator().manual_seed(seed)
        columns = row_width(*self.dims)
        settings = DiffusionSettings(width=width)
        self.model = ConditionalDiffusion(columns, 2, seeds=(seed,), settings=settings, raw_columns=(columns - 1,))

    def refresh(self, online: Transitions) -> None:
        """Fit the model on the offline and the online rows under their labels, and generate rows of both."""
        rows = torch.cat([to_rows(self.offline), to_rows(online)])
        labels = torch.cat([torch.full((len(self.offline),), OFFLINE), torch.full((len(online),), ONLINE)])
        self.model.fit(rows, labels, steps=self.fit_steps)
        for label, share in ((ONLINE, 0.8), (OFFLINE, 0.2)):
            made = self.model.sample(torch.full((int(share * self.rows),), label))
            self.generated[label] = _possible(from_rows(made, *self.dims))

    def counts(self, batch_size: int) -> Counts:
        """Split a batch: online, offline and generated rows 1:1:1, generated 8:2; before a refresh half and half."""
        return (PAPER if self.generated else BASE).counts(batch_size)

    def others(self, counts: Counts) -> Transitions:
        """Draw the offline and the generated rows of a batch."""
        parts = [self._draw(self.offline, counts.offline)]
        if self.generated:
            parts.append(self._draw(self.generated[OFFLINE], counts.offline_synthetic))
            parts.append(self._draw(self.generated[ONLINE], counts.online_synthetic))
        return concatenate(parts)

    def _draw(self, data: Transitions, count: int) -> Transitions:
        index = torch.randint(len(data), (count,), generator=self.random)
        return data.map(lambda column: column[index])


def _possible(made: Transitions) -> Transitions:
    """Put generated actions into their box; the other columns are as the model made them."""
    return Transitions(made.obs, made.action.clamp(-1, 1), made.reward, made.next_obs, made.terminal)
