"""Progress of a table: bars and the table itself in a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cfdg_experiments.cells.cell import Cell, Event
from cfdg_experiments.cells.results import CellKey, CellResult
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.reports.report import to_rich
from cfdg_experiments.storage.saver import Throttle

LINE_SECONDS = 15.0  # between progress lines where there is no terminal


class Display:
    """A live table with a bar per running job; use it as a context manager.

    Args:
        console: where to write.
        header: what the table is to hold.
        total: number of places.
        keys: places of a cell in the table, where they are not its own.
    """

    def __init__(
        self, console: Console, header: ReportHeader, total: int, keys: Mapping[Cell, Sequence[CellKey]] | None = None
    ) -> None:
        self.console = console
        self.header = header
        self.total = total
        self.keys = keys or {}
        self.results: list[CellResult] = []
        self.running: dict[CellKey, str] = {}
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(),
            console=console,
        )  # fmt: skip
        self.whole = self.progress.add_task("cells", total=total)
        self.bars: dict[str, TaskID] = {}
        self.live = Live(console=console, refresh_per_second=2, get_renderable=self.render, transient=True)
        self.lines = Throttle(LINE_SECONDS)

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
        """Draw the bars above the unfinished table."""
        return Group(self.progress, to_rich(self.results, self.header, self.running, full=False))

    def event(self, event: Event) -> None:
        """Show the progress of a cell; its fine-tuning replaces the pre-training that it shares."""
        name = event.cell.pretraining
        if event.phase == "fine-tuning":
            self._hide(name)
            name = self._places(event.cell)[0].name
        self._advance(name, event)
        if event.evaluation:
            score = np.mean(event.evaluation.scores)
            some = event.evaluation.seeds
            of = "" if some is None else f" of seeds {', '.join(map(str, some))}"
            at = f"{score:.1f} at {event.evaluation.step:,}{of}"
            self.running |= dict.fromkeys(self._places(event.cell), at)
        if not self.console.is_terminal and self.lines.ready():
            self.note(f"{name}: step {event.step:,} of {event.total:,}")

    def finished(self, cell: Cell, result: CellResult) -> None:
        """Put a finished cell into the table."""
        self.results.append(result)
        self.running.pop(result.key, None)
        self._hide(self._places(cell)[0].name)
        self.progress.update(self.whole, completed=len(self.results))
        if not self.console.is_terminal:
            scores = f"{result.offline.mean():.1f} -> {result.final.mean():.1f}"
            self.note(f"finished {len(self.results)} of {self.total}: {result.name} {scores} in {result.seconds:.0f} s")

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def _places(self, cell: Cell) -> Sequence[CellKey]:
        return self.keys.get(cell, (cell.key,))

    def _advance(self, name: str, event: Event) -> None:
        """Move the bar of a job, which its first event makes."""
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(name, total=event.total)
        self.progress.update(self.bars[name], completed=event.step, total=event.total)

    def _hide(self, name: str) -> None:
        if name in self.bars:
            self.progress.update(self.bars[name], visible=False)


def unfinished(total: int, done: int) -> str:
    """Say in one line how many cells a repeated command skips."""
    return f"{done} of {total} cells are finished already and are skipped"
