"""Bars, table and lines of a running table."""

import io

import numpy as np
from rich.console import Console

from cfdg_experiments.cells.cell import Cell, Event, cells_of
from cfdg_experiments.cells.results import Evaluation
from cfdg_experiments.profiles.files import load_profile
from cfdg_experiments.studies.display import Display

HOPPER = "recorded:hopper-medium"
CELLS = {cell.key[1:]: cell for cell in cells_of(load_profile("quick", {"data.datasets": [HOPPER]}))}
CELL: Cell = CELLS["iql", "base"]


def display(made_up, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    return Display(console, made_up.header(datasets=(HOPPER,)), 2), console


def text(view, console) -> str:
    with console.capture() as capture:
        console.print(view.render())
    return capture.get()


def test_a_running_cell_shows_its_latest_score_in_the_table_and_hides_the_pre_training(made_up):
    view, console = display(made_up, True)
    view.event(Event(CELL, "pre-training", 50, 100))
    assert "pre-training" in text(view, console)
    view.event(Event(CELL, "fine-tuning", 1000, 5000, Evaluation(1000, np.array([30.0, 40.0]), {})))
    shown = text(view, console)
    assert "pre-training" not in shown
    assert "35.0 at 1,000" in shown
    assert "20%" in shown


def test_a_pex_cell_hides_the_pre_training_that_it_shares_with_iql(made_up):
    view, console = display(made_up, True)
    view.event(Event(CELL, "pre-training", 50, 100))
    assert "recorded:hopper-medium/iql pre-training" in text(view, console)
    view.event(Event(CELLS["pex", "repeat"], "fine-tuning", 1, 5000))
    shown = text(view, console)
    assert "pre-training" not in shown
    assert "recorded:hopper-medium/pex/repeat" in shown


def test_without_a_terminal_a_finished_cell_is_a_line(made_up):
    view, console = display(made_up, False)
    result = made_up.cell()
    with view:
        view.finished(CELL, result)
    assert "finished 1 of 2: recorded:hopper-medium/iql/base" in console.file.getvalue()
