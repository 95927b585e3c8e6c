"""The examples run as they are and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMISED = {
    "table": r"Detection",
    "own_generator": r"after fine-tuning with .*-?\d+\.\d",
    "edm_density": r"EDM +\d\.\d{3}",
}


def test_all_examples_are_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == PROMISED.keys()


@pytest.mark.parametrize("name", PROMISED)
def test_an_example_runs_and_prints_its_numbers(name, tmp_path):
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--quick"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(PROMISED[name], done.stdout), done.stdout
    assert not list(tmp_path.iterdir())
