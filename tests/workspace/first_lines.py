"""Does what the README's first lines and its first commands promise, with the cfdg-diffusion that is installed.

The environment ``wheel`` in hatch.toml runs it beside a wheel that brought its own dependencies. Standard library only:
pandas and the rest have to come with the wheel.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

README = Path(__file__).parents[2] / "packages/cfdg-diffusion/README.md"
COLUMNS = ["age", "education", "region", "hours", "visits", "joined", "income"]
SAVE_DEMO = "import cfdg_diffusion as c; c.load_demo().to_csv('people.csv', index=False)"
EPILOGUE = """
import sys
import sysconfig
from pathlib import Path
folders = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "cfdg_diffusion"]
loaded = [Path(module.__file__).resolve() for module in modules]
assert loaded and all(folders & set(file.parents) for file in loaded), f"{loaded} are not in {folders}"
assert len(synthetic) == 10_000, len(synthetic)
assert list(synthetic.columns) == list(table.columns), list(synthetic.columns)
assert synthetic.dtypes.equals(table.dtypes), synthetic.dtypes
"""


def first_block(page: Path) -> str:
    """The first Python block of a Markdown page."""
    found = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found, f"{page} has no python block"
    return found.group(1)


def run(command: list[str], folder: Path) -> str:
    """What a command prints that sees neither PYTHONPATH nor the checkout; it has to succeed."""
    seen = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=folder, env=seen, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit status {done.returncode} of {command}\n{done.stderr}"
    return done.stdout


def check_readme(folder: Path) -> None:
    """Run the README's first block in an empty folder, with a shorter training."""
    block = first_block(README)
    assert "time_budget=60" in block, block
    run([sys.executable, "-I", "-c", block.replace("time_budget=60", "time_budget=5") + EPILOGUE], folder)


def check_command(folder: Path) -> None:
    """Ask the installed command for its help, a small model and rows of it."""
    script = shutil.which("cfdg-diffusion", path=sysconfig.get_path("scripts"))
    assert script, f"no cfdg-diffusion in {sysconfig.get_path('scripts')}"
    assert run([script, "--help"], folder).startswith("usage: cfdg-diffusion")
    run([sys.executable, "-I", "-c", SAVE_DEMO], folder)
    run([script, "fit", "people.csv", "--label", "income", "--steps", "20", "-o", "model"], folder)
    run([script, "sample", "model", "-n", "50", "-o", "synthetic.csv"], folder)
    with (folder / "synthetic.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS, header
    assert len(rows) == 50, len(rows)
    assert {row[-1] for row in rows} <= {"low", "middle", "high"}, rows


def main() -> None:
    """Run both checks in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_readme(folder)
        check_command(folder)


if __name__ == "__main__":
    main()
