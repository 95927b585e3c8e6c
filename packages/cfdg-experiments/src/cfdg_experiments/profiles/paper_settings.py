"""Settings of a profile beside those of the paper's, for the sentence that says how far a run is from it."""

from __future__ import annotations

from operator import attrgetter

from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.profiles.grid import LISTS_OF_ROWS, dotted_keys
from cfdg_experiments.profiles.profile import Profile

_SAID_ELSEWHERE = (*LISTS_OF_ROWS, "pretrain.steps", "finetune.steps", "apl.pretrain.steps", "apl.finetune.steps")
_OF_NO_EFFECT = "inspection."  # learning is the same with and without


def changed_settings(profile: Profile) -> tuple[str, ...]:
    """List the dotted keys in which a profile named paper differs from the shipped one; none of another profile.

    Left out are datasets, steps and what is in no group, such as seeds and device: a report says those by itself, or
    they do not change results.
    """
    if profile.name != "paper":
        return ()
    paper = load_profile("paper")
    keys = [key for key in dotted_keys(Profile) if key not in _SAID_ELSEWHERE and not key.startswith(_OF_NO_EFFECT)]
    return tuple(key for key in keys if attrgetter(key)(profile) != attrgetter(key)(paper))
