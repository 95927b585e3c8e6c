"""The wheel of cfdg-diffusion, installed on its own, does what the README's first lines promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "packages/cfdg-diffusion"
TABLE = ["age", "education", "region", "hours", "visits", "joined", "income"]
EPILOGUE = """
import sys
import cfdg_diffusion
loaded = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "cfdg_diffusion"]
assert all(file.startswith(sys.argv[1]) for file in loaded), loaded
assert synthetic.dtypes.equals(table.dtypes)
print(len(synthetic), *synthetic.columns)
"""


def run(command, **options):
    """What a command prints; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds nothing but what pip takes from the wheel."""
    pytest.importorskip("pip", reason="pip installs the wheel")
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)], cwd=PACKAGE)
    (wheel,) = wheels.iterdir()
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run([sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder), str(wheel)], cwd=folder)
    return folder


@pytest.fixture
def outside(installed, tmp_path):
    """Options of a process that sees the installed wheel, in an empty folder, far from the checkout."""
    return {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(installed)}}


def test_the_first_lines_of_the_readme_make_synthetic_data(installed, outside):
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL).group(1)
    assert len([line for line in lines.splitlines() if line.strip()]) <= 5
    short = lines.replace("time_budget=60", "steps=20")
    assert short != lines
    printed = run([sys.executable, "-W", "error", "-c", short + EPILOGUE, str(installed)], **outside)
    assert printed.split() == ["10000", *TABLE]


def test_the_command_is_installed_and_explains_itself(installed, outside):
    script = shutil.which("cfdg-diffusion", path=os.pathsep.join(str(installed / name) for name in ("bin", "Scripts")))
    assert script is not None
    printed = run([script, "--help"], **outside)
    assert printed.startswith("usage: cfdg-diffusion")
    assert all(verb in printed for verb in ("fit", "sample", "impute", "report", "inspect"))
