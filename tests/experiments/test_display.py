"""What a person sees while a table grows."""

import io

import numpy as np
from rich.console import Console

from cfdg_experiments.display import Display
from cfdg_experiments.run import Cell, Event, pretraining

NAMES = ("recorded:hopper-medium", "iql", "base")


def display(made_up, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    return Display(console, made_up.header(datasets=(NAMES[0],)), 2), console


def text(view, console) -> str:
    with console.capture() as capture:
        console.print(view.render())
    return capture.get()


def test_a_running_cell_shows_its_latest_score_in_the_table_and_hides_the_pre_training(made_up):
    view, console = display(made_up, True)
    view.event(Event(pretraining(NAMES[0], "iql"), 50, 100))
    assert "pre-training" in text(view, console)
    view.event(Event("/".join(NAMES), 1000, 5000, (1000, np.array([30.0, 40.0]), {})))
    shown = text(view, console)
    assert "pre-training" not in shown
    assert "35.0 at 1,000" in shown
    assert "20%" in shown


def test_without_a_terminal_a_finished_cell_is_a_line(made_up):
    view, console = display(made_up, False)
    result = made_up.cell()
    with view:
        view.finished(Cell(*NAMES), result)
    assert "finished 1 of 2: recorded:hopper-medium/iql/base" in console.file.getvalue()
