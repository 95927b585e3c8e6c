"""Generators of one's own, named ``module:Name`` on the command line.

``Name`` is a class or a function that is called as ``Name(obs_dim, action_dim, seeds, device)`` and returns an object
with ``fit`` and ``sample``, see :class:`cfdg_rl.protocols.Generator`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cfdg_experiments.generators.context import Context
from cfdg_experiments.generators.interface import ResumableGenerator, State
from cfdg_experiments.names import near_names
from cfdg_rl.check import check_generator
from cfdg_rl.protocols import Generator

Factory = Callable[[int, int, tuple[int, ...], str], Generator]
_CALL = "(obs_dim, action_dim, seeds, device)"


class Resumable:
    """A generator that need not have ``state`` and ``restore``.

    Without them a continued run draws and learns from where the generator begins, so that its next rows are other ones.

    Args:
        generator: with ``fit`` and ``sample``, and maybe ``state``, ``restore`` and ``network_calls``.
    """

    def __init__(self, generator: Any) -> None:  # noqa: ANN401 - a stranger's
        self.generator = generator

    def fit(self, rows: Tensor, labels: Tensor) -> object:
        """Fit on rows ``(R, N, D)`` with labels ``(R, N)``; return what the generator returns."""
        return self.generator.fit(rows, labels)

    def sample(self, labels: Tensor) -> Tensor:
        """Generate one row ``(R, n, D)`` per label ``(R, n)``."""
        return self.generator.sample(labels)

    def network_calls(self, rows: int) -> float:
        """Return the generator's own count for so many rows; NaN where it has none."""
        count = getattr(self.generator, "network_calls", None)
        return math.nan if count is None else float(count(rows))

    def state(self) -> dict[str, Any]:
        """Return the generator's state; empty where it has none."""
        own = getattr(self.generator, "state", None)
        return {} if own is None else {"own": own()}

    def restore(self, state: State) -> None:
        """Restore the generator's state, where it has one."""
        if "own" in state:
            self.generator.restore(state["own"])


@dataclass(frozen=True)
class OwnGenerator:
    """A maker of a generator of one's own.

    Attributes:
        name: ``module:Name``.
        factory: the class or function.
        digest: of the module's file, so that an edited generator is another one.
    """

    name: str
    factory: Factory
    digest: str

    def __call__(self, context: Context) -> ResumableGenerator:
        """Make the generator of a cell."""
        return Resumable(self.made(*context.dims, context.seeds, context.device))

    def made(self, obs_dim: int, action_dim: int, seeds: tuple[int, ...], device: str) -> Generator:
        """Call the factory.

        Raises:
            ValueError: if it does not take the four arguments.
        """
        try:
            return self.factory(obs_dim, action_dim, seeds, device)
        except TypeError as error:
            raise ValueError(f"{self.name} raised TypeError ({error}), expected to be called as {_CALL}") from error


@functools.cache
def load_own(name: str) -> OwnGenerator:
    """Import ``module:Name``, from the current folder too, and check it with :func:`cfdg_rl.check_generator`.

    Raises:
        ValueError: if there is no such module or name, or the generator does not pass.
    """
    module_name, _, attribute = name.partition(":")
    with _current_folder_on_the_path():
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise ValueError(f"module {module_name!r} of arm {name} cannot be imported: {_sentence(error)}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        near = near_names(attribute, vars(module))
        raise ValueError(f"arm {name} is not a class or function of its module{near}, expected one to call as {_CALL}")
    file = getattr(module, "__file__", None)
    source = Path(file).read_bytes() if file else b""
    own = OwnGenerator(name, factory, hashlib.sha256(source).hexdigest()[:12])
    _check(own)
    return own


def _check(own: OwnGenerator) -> None:
    try:
        check_generator(lambda: own.made(3, 2, (0, 1), "cpu"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"arm {own.name} is no generator for this loop: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _current_folder_on_the_path() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
