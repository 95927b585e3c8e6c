"""Errors of environments, told with the place where they happened."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)


class ToldError(RuntimeError):
    """An error that travels between processes whatever its cause was: both arguments are text.

    Args:
        sentence: for the user.
        details: the traceback of the cause, "" without one.
    """

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence, details)
        self.sentence = sentence
        self.details = details

    def __str__(self) -> str:
        return self.sentence


class EnvError(ToldError):
    """An environment raised an error or gave a number that is not finite; the sentence names it and the step."""


@contextmanager
def told(env_id: str, doing: str) -> Iterator[None]:
    """Turn an error of an environment, or its exit, into an :class:`EnvError` that says what it was ``doing``."""
    try:
        yield
    except EnvError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise EnvError(f"environment {env_id!r} failed in {doing} ({reason})", traceback.format_exc()) from error


def check_finite(env_id: str, doing: str, **values: np.ndarray) -> None:
    """Refuse numbers that an environment gave and that are not finite, or not in float32, in which rows are stored.

    Args:
        env_id: Gymnasium id.
        doing: for the sentence, such as "step 60".
        **values: arrays by name, members first.

    Raises:
        EnvError: naming environment, step, array and member.
    """
    for name, array in values.items():
        finite = np.abs(array) <= _LARGEST  # false for NaN
        if not finite.all():
            bad = np.argwhere(~finite)[0]
            place = f" in column {bad[1]}" if len(bad) > 1 else ""
            value = array[tuple(bad)]
            raise EnvError(f"environment {env_id!r} gave {name} {value:g}{place} in {doing}, expected finite numbers")
