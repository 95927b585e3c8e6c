"""What a person sees while a table grows: progress bars and the table itself, or plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cfdg_experiments.report import to_rich
from cfdg_experiments.results import CellResult
from cfdg_experiments.run import PRE_TRAINING, Cell, Event, pretraining
from cfdg_experiments.summary import ReportHeader

LINE_SECONDS = 15.0  # between progress lines where there is no terminal


class Display:
    """A live table with a bar per running job; use it as a context manager.

    Args:
        console: where to write.
        header: what the table is to hold.
        total: number of cells.
    """

    def __init__(self, console: Console, header: ReportHeader, total: int) -> None:
        self.console, self.header, self.total = console, header, total
        self.results: list[CellResult] = []
        self.running: dict[tuple[str, str, str], str] = {}
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(),
            console=console,
        )  # fmt: skip
        self.whole = self.progress.add_task("cells", total=total)
        self.bars: dict[str, TaskID] = {}
        self.live = Live(console=console, refresh_per_second=2, get_renderable=self.render, transient=True)
        self.spoken = time.perf_counter()

    def __enter__(self) -> Display:
        """Begin to draw, where there is a terminal."""
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal clean for the final table."""
        if self.console.is_terminal:
            self.live.stop()

    def render(self) -> Group:
        """The bars above the table as it stands."""
        return Group(self.progress, to_rich(self.results, self.header, self.running, full=False))

    def event(self, event: Event) -> None:
        """Show where a job is; a cell takes the place of its dataset's pre-training."""
        if event.job not in self.bars:
            if not event.job.endswith(PRE_TRAINING):
                self._hide(pretraining(*event.key[:2]))
            self.bars[event.job] = self.progress.add_task(event.job, total=event.total)
        self.progress.update(self.bars[event.job], completed=event.step, total=event.total)
        if event.evaluation:
            step, scores, _ = event.evaluation
            self.running[event.key] = f"{np.mean(scores):.1f} at {step:,}"
        if not self.console.is_terminal and time.perf_counter() - self.spoken > LINE_SECONDS:
            self.spoken = time.perf_counter()
            self.note(f"{event.job}: step {event.step:,} of {event.total:,}")

    def finished(self, cell: Cell, result: CellResult) -> None:
        """Put a finished cell into the table."""
        self.results.append(result)
        self.running.pop(result.key, None)
        self._hide(cell.name)
        self.progress.update(self.whole, completed=len(self.results))
        if not self.console.is_terminal:
            scores = f"{result.offline.mean():.1f} -> {result.final.mean():.1f}"
            self.note(f"finished {len(self.results)} of {self.total}: {cell.name} {scores} in {result.seconds:.0f} s")

    def note(self, text: str) -> None:
        """Say something above the table."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def _hide(self, job: str) -> None:
        if job in self.bars:
            self.progress.update(self.bars[job], visible=False)


def unfinished(total: int, results: Mapping[Cell, CellResult]) -> str:
    """One line about what a repeated command skips."""
    return f"{len(results)} of {total} cells are finished already and are skipped"
