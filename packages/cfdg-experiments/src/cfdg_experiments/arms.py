"""Arms of an experiment: they differ by a value, never by a fork of the loop.

Same for all arms: offline checkpoint, environment steps, updates, size of a batch, evaluation, columns of a row,
screening of generated rows, times of the refreshes, and size and training of the model. docs/arms.md describes each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cfdg_experiments.generators import makers
from cfdg_experiments.generators.context import Context, Maker
from cfdg_experiments.generators.fitted import Unlabelled
from cfdg_experiments.generators.interface import ResumableGenerator
from cfdg_experiments.generators.own import load_own
from cfdg_experiments.generators.schedule import Schedule
from cfdg_experiments.names import near_names
from cfdg_rl.composition import BASE, Composition, matched, native, replaced
from cfdg_rl.mixing import ONLINE

Match = Literal["native", "share"]
Kind = Literal["joint", "split"]  # of model, as far as an offline fit is concerned
MODEL = ("diffusion", "refresh")  # groups of the profile that a learnt generator depends on
SPLIT = (*MODEL, "outcomes")


@dataclass(frozen=True)
class Arm:
    """Augmentation of the data in one arm.

    Attributes:
        make: makes the generator; None for an arm of real rows alone.
        fitted_on: the label of the rows that it is fitted on; None for all rows with their labels.
        online_share: share of generated rows under the online label; None is the profile's, 0.8 in the paper.
        own_batch: composition under ``match: native``, of the synthetic ratio and the online share.
        takes_share: without a generator: real rows with CFDG's share of online-like ones from the first refresh on.
        takes_updates: without a generator: further updates at the time of every refresh.
        gated: held-out rows judge each refresh, whatever ``mixing.gate`` says.
        adaptive: batches keep the on-policy share of the generated rows, whatever ``mixing.adaptive`` says.
        needs_simulator: refused where the environment cannot be set to a state.
        offline_fit: the kind of model that may start from a fit on the offline rows, see ``refresh.offline_steps``.
        reads: groups of the profile that the generator depends on.
        digest: of the file of a generator of one's own.
    """

    make: Maker | None = None
    fitted_on: int | None = None
    online_share: float | None = None
    own_batch: Callable[[float, float], Composition] = native
    takes_share: bool = False
    takes_updates: bool = False
    gated: bool = False
    adaptive: bool = False
    needs_simulator: bool = False
    offline_fit: Kind | None = None
    reads: tuple[str, ...] = ()
    digest: str = ""

    @property
    def augments(self) -> bool:
        """True for an arm with a generator."""
        return self.make is not None

    @property
    def has_model(self) -> bool:
        """True for an arm whose generator is a diffusion model."""
        return "diffusion" in self.reads

    @property
    def is_own(self) -> bool:
        """True for a generator of one's own."""
        return bool(self.digest)

    def is_gated(self, wanted: bool) -> bool:
        """Tell if held-out rows judge each refresh; ``wanted`` is the profile's ``mixing.gate``."""
        return self.gated or (wanted and self.has_model)

    def adapts(self, wanted: bool) -> bool:
        """Tell if batches keep a share of the generated rows; ``wanted`` is the profile's ``mixing.adaptive``."""
        return self.adaptive or (wanted and self.has_model)

    def schedule(self, refresh: Schedule) -> Schedule:
        """Return the gradient steps of the arm's model, given the profile's."""
        return refresh if self.offline_fit else refresh.without_offline_fit()

    def generator(self, context: Context) -> ResumableGenerator | None:
        """Make the generator of a cell; None for an arm of real rows alone."""
        if self.make is None:
            return None
        made = self.make(context)
        return made if self.fitted_on is None else Unlabelled(made, only=self.fitted_on)

    def share(self, online_share: float) -> float:
        """Return the share of generated rows under the online label, given the profile's."""
        return online_share if self.online_share is None else self.online_share

    def composition(self, match: Match, ratio: float, online_share: float) -> Composition:
        """Compose the batch of paradigm 1 after the first refresh.

        Args:
            match: "native" is what each method does, "share" gives all arms but ``base`` CFDG's share of online-like
                rows.
            ratio: r, the share of generated rows.
            online_share: the profile's share of generated rows under the online label.

        Raises:
            ValueError: if the arm's generated rows of a label would be more than all rows like them.
        """
        online_like = native(ratio, online_share).online_like
        if self.make is None:
            return matched(online_like, 0.0, 1.0) if self.takes_share else BASE
        share = self.share(online_share)
        return matched(online_like, ratio, share) if match == "share" else self.own_batch(ratio, share)


def _edis_batch(ratio: float, online_share: float) -> Composition:
    """Compose EDIS' own batch, half online and half generated."""
    return replaced(0.5)


ARMS = {
    "base": Arm(),
    "cfdg": Arm(makers.cfdg, offline_fit="joint", reads=MODEL),
    "cfdg-unguided": Arm(makers.unguided, offline_fit="joint", reads=MODEL),
    "cfdg-online-only": Arm(makers.cfdg, online_share=1.0, offline_fit="joint", reads=MODEL),  # figure 3
    "cfdg-offline-only": Arm(makers.cfdg, online_share=0.0, offline_fit="joint", reads=MODEL),
    "cfdg-split": Arm(makers.split, offline_fit="split", reads=SPLIT),
    "cfdg-split-gated": Arm(makers.split, gated=True, offline_fit="split", reads=SPLIT),
    "cfdg-split-adaptive": Arm(makers.split, gated=True, adaptive=True, offline_fit="split", reads=SPLIT),
    "union": Arm(makers.union, reads=MODEL),
    "separate-models": Arm(makers.separate_models, reads=MODEL),
    "synther": Arm(makers.one_label, fitted_on=ONLINE, online_share=1.0, reads=MODEL),
    "edis": Arm(makers.edis, online_share=1.0, own_batch=_edis_batch, reads=(*MODEL, "edis")),
    "pgr": Arm(makers.pgr, online_share=1.0, reads=(*MODEL, "pgr", "curiosity")),
    "base-share": Arm(takes_share=True),
    "base-updates": Arm(takes_updates=True, reads=("refresh", "updates_per_fit_step")),
    "repeat": Arm(makers.repeat),
    "jitter": Arm(makers.jitter, reads=("jitter",)),
    "simulated": Arm(makers.simulated, needs_simulator=True, reads=("simulated",)),
    "cfdg-simulated": Arm(makers.cfdg_simulated, needs_simulator=True, offline_fit="joint", reads=MODEL),
}


def find_arm(name: str) -> Arm:
    """Return an arm of :data:`ARMS`, or that of a generator of one's own, ``module:Name``.

    Raises:
        ValueError: if there is none; the sentence offers near names.
    """
    if name in ARMS:
        return ARMS[name]
    if ":" not in name:
        known = ", ".join(ARMS)
        raise ValueError(f"arms is {name!r}{near_names(name, ARMS)}, expected some of {known} or module:Generator")
    own = load_own(name)
    return Arm(own, digest=own.digest)
