"""The packages as files: what they import, what their wheels hold, how long their functions are."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("diffusion", "rl", "experiments")
SOURCES = [path for name in PACKAGES for path in (ROOT / f"packages/cfdg-{name}/src").rglob("*.py")]


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "foreign"),
    [
        ("diffusion", {"cfdg_rl", "cfdg_experiments", "gymnasium", "mujoco", "mlflow", "h5py"}),
        ("rl", {"cfdg_diffusion", "cfdg_experiments", "mlflow"}),
    ],
)
def test_the_libraries_do_not_know_each_other(package, foreign):
    for path in (ROOT / f"packages/cfdg-{package}/src").rglob("*.py"):
        assert not imports(path) & foreign, path


def test_mlflow_is_imported_for_tracking_only_and_pickle_nowhere():
    assert {path.parent.name + "/" + path.name for path in SOURCES if "mlflow" in imports(path)} == {
        "tracking/tracker.py",
        "tracking/mlflow_runs.py",
    }
    assert not [path for path in SOURCES if imports(path) & {"pickle", "dill", "joblib", "cloudpickle", "shelve"}]


def test_no_function_is_longer_than_forty_lines():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                doc = node.body[0] if ast.get_docstring(node) is not None else None
                lines = node.end_lineno - node.lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)
                assert lines <= 40, f"{path}:{node.lineno} {node.name} has {lines} lines"


def test_algorithm_one_fits_on_one_screen():
    tree = ast.parse((ROOT / "packages/cfdg-rl/src/cfdg_rl/finetune.py").read_text(encoding="utf-8"))
    loop = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "finetune")
    assert loop.end_lineno - loop.lineno < 30


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for name in PACKAGES:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        done = subprocess.run(command, cwd=ROOT / f"packages/cfdg-{name}", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return {path.name.split("-")[0].removeprefix("cfdg_"): path for path in folder.iterdir()}


def test_wheels_hold_their_package_types_licence_and_data(wheels):
    names = {package: zipfile.ZipFile(path).namelist() for package, path in wheels.items()}
    assert set(names) == set(PACKAGES)
    for package, files in names.items():
        assert f"cfdg_{package}/py.typed" in files
        assert any(name.endswith("licenses/LICENSE") for name in files)
        assert {name.split("/")[0].split("-")[0] for name in files} == {f"cfdg_{package}"}
    assert {f"cfdg_experiments/profiles/{name}.yaml" for name in ("quick", "reduced", "paper")} <= set(
        names["experiments"]
    )
    assert sum(name.endswith(".npz") for name in names["rl"]) == 6
    assert wheels["rl"].stat().st_size < 20_000_000


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_is_importable_from_a_folder_of_its_own(wheels, package, tmp_path):
    """Unpacked, without the checkout on the path: a file that the wheel lacks would be missed here."""
    zipfile.ZipFile(wheels[package]).extractall(tmp_path)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cfdg_{package} as m; print(m.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().startswith(str(tmp_path))
