"""A team of worker processes: tasks for each, what they tell on the way, and an end together with their owner."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, TypeVar

Tag = TypeVar("Tag")
Tell = Callable[[Any], None]
Work = Callable[[Any, Tell], Any]  # of a module or of a value that travels, given an argument and a way to tell


def _ignore(told: object) -> None:
    """Hear nothing."""


def _nothing() -> None:
    """Prepare nothing."""


class Team(Generic[Tag]):
    """At most ``jobs`` worker processes, each at the other end of a pipe.

    Pipes alone, and none of the queues and locks of :mod:`multiprocessing`: these have names in the system, and the
    process that Python starts to clear them up prints tracebacks when it is killed.

    Args:
        jobs: number of worker processes; one is started when there is a task for it.
        notify: called in this process with what a task tells.
        prepare: called once in each worker; it travels, and so is a function of a module or a partial of one.
    """

    def __init__(self, jobs: int, notify: Tell = _ignore, prepare: Callable[[], None] = _nothing) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._lifeline, self._owner = self._context.Pipe(duplex=False)
        self._jobs = jobs
        self._notify = notify
        self._prepare = prepare
        self._workers: dict[Connection, BaseProcess] = {}
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Tag] = {}
        self._waiting: deque[tuple[Tag, Work, Any]] = deque()

    def __enter__(self) -> Team[Tag]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the workers: when their tasks are done, or at once after an error."""
        for pipe in self._workers if kind is None else ():
            with suppress(OSError):  # it died after its last task
                pipe.send(None)
        if kind is not None:
            self._owner.close()
        for pipe, process in self._workers.items():
            process.join()
            pipe.close()
        self._owner.close()
        self._lifeline.close()

    def submit(self, tag: Tag, work: Work, argument: object) -> None:
        """Have ``work(argument, tell)`` run by the next free worker; tasks are begun in the order of their coming."""
        self._waiting.append((tag, work, argument))

    def results(self) -> Iterator[tuple[Tag, Any]]:
        """Yield tag and value of each task as it ends, until there is none; more may be submitted meanwhile.

        Raises:
            RuntimeError: if a worker died.
            Exception: what a task raised.
        """
        self._begin()
        while self._busy:
            ready = wait(list(self._busy))
            for pipe in [pipe for pipe in self._busy if pipe in ready]:
                kind, value = self._hear(pipe)
                if kind == "told":
                    self._notify(value)
                    continue
                tag = self._busy.pop(pipe)
                self._idle.append(pipe)
                if kind == "raised":
                    raise value
                yield tag, value
            self._begin()

    def map(self: Team[int], work: Callable[[Any], Any], arguments: Iterable[Any]) -> Iterator[Any]:
        """Yield ``work(argument)`` of each argument in their order."""
        for place, argument in enumerate(arguments):
            self.submit(place, _Silent(work), argument)
        early: dict[int, Any] = {}
        following = 0
        for place, value in self.results():
            early[place] = value
            while following in early:
                yield early.pop(following)
                following += 1

    def _begin(self) -> None:
        """Hand tasks to idle workers, and to new ones while there may be more."""
        while self._waiting and (self._idle or len(self._workers) < self._jobs):
            pipe = self._idle.pop() if self._idle else self._start()
            self._busy[pipe], *task = self._waiting.popleft()
            try:
                pipe.send(task)
            except OSError as error:
                raise _died() from error

    def _start(self) -> Connection:
        """Start a worker; returns its pipe."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._lifeline, self._prepare))
        process.start()
        theirs.close()  # so that the pipe ends with the worker
        self._workers[ours] = process
        return ours

    @staticmethod
    def _hear(pipe: Connection) -> tuple[str, Any]:
        try:
            return pipe.recv()
        except (EOFError, OSError) as error:
            raise _died() from error


@dataclass(frozen=True)
class _Silent:
    """A task that tells nothing."""

    work: Callable[[Any], Any]

    def __call__(self, argument: object, tell: Tell) -> object:
        return self.work(argument)


def _died() -> RuntimeError:
    return RuntimeError("a worker process died (out of memory?); run the same command again to continue")


def _serve(pipe: Connection, lifeline: Connection, prepare: Callable[[], None]) -> None:
    """Run the tasks of a worker process until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the owner ends them
    _end_with(lifeline)
    prepare()
    for work, argument in iter(pipe.recv, None):
        try:
            answer = "done", work(argument, lambda event: pipe.send(("told", event)))
        except BaseException as error:
            answer = "raised", error
        pipe.send(answer)


def _end_with(lifeline: Connection) -> None:
    """End this process when the pipe's other end is closed, by its owner or by the owner's death.

    No orphan writes beside a second command, and an owner that fails ends its workers without waiting for them.
    """

    def watch() -> None:
        lifeline.poll(None)  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
