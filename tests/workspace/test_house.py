"""The house rules that a machine can hold: who may import whom, sizes, and the style of lines."""

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {package.name.replace("-", "_"): package / "src" for package in sorted(ROOT.glob("packages/*"))}
MODULES = [module for source in SOURCES.values() for module in sorted(source.rglob("*.py"))]
QUESTIONS = ("What ", "Which ", "Where ", "How ", "Whether ", "When ", "Who ")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# The wings of a package, and the wings that each may import from.
WINGS = {
    "cfdg_diffusion": {
        "storage": set(),
        "edm": {"storage"},
        "tabular": {"edm", "storage"},
        "quality": {"storage"},
        "cli": {"tabular", "quality", "storage"},
    },
    "cfdg_experiments": {
        "names": set(),
        "storage": set(),
        "generators": {"names"},
        "arms": {"generators", "names"},
        "profiles": {"generators", "arms", "names"},
        "cells": {"profiles", "arms", "generators", "storage"},
        "reports": {"cells", "profiles"},
        "tracking": {"reports", "cells"},
        "studies": {"tracking", "reports", "cells", "profiles", "generators", "storage"},
        "cluster": {"studies", "tracking", "reports", "cells", "profiles", "storage"},
        "play": set(),
        "policies": {"play", "cells"},
        "cli": {"policies", "cluster", "studies", "tracking"},
    },
}
FORBIDDEN = [  # (modules that begin so, what they never import)
    ("cfdg_diffusion/edm/", "pandas"),
    ("cfdg_diffusion/", "cfdg_rl"),
    ("cfdg_diffusion/", "cfdg_experiments"),
    ("cfdg_rl/", "cfdg_diffusion"),
    ("cfdg_rl/", "cfdg_experiments"),
    ("cfdg_rl/finetune.py", "cfdg_rl.agents"),
    ("cfdg_rl/pretrain.py", "cfdg_rl.agents"),
    ("cfdg_rl/collect.py", "cfdg_rl.agents"),
    ("cfdg_rl/evaluate.py", "cfdg_rl.agents"),
    ("cfdg_rl/agents/", "cfdg_rl.datasets"),
    ("cfdg_rl/agents/", "cfdg_rl.envs"),
    ("cfdg_rl/envs/", "cfdg_rl.datasets"),
]


def name_of(module: Path) -> str:
    """The path of a module below its ``src`` folder."""
    return module.relative_to(next(source for source in SOURCES.values() if source in module.parents)).as_posix()


def imports(module: Path) -> set[str]:
    """Full names of the modules that a module imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wing_of(dotted: str, wings: dict[str, set[str]]) -> str | None:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in wings else None


def test_wings_import_downwards_only():
    for package, wings in WINGS.items():
        for module in (SOURCES[package] / package).rglob("*.py"):
            own = wing_of(name_of(module).removesuffix(".py").replace("/", "."), wings)
            seen = {wing_of(name, wings) for name in imports(module) if name.split(".")[0] == package} - {None, own}
            assert own is None or seen <= wings[own], f"{name_of(module)} imports {sorted(seen - wings[own])}"


@pytest.mark.parametrize(("start", "never"), FORBIDDEN)
def test_modules_that_never_import(start, never):
    for module in MODULES:
        if name_of(module).startswith(start):
            found = {name for name in imports(module) if name == never or name.startswith(f"{never}.")}
            assert not found, f"{name_of(module)} imports {sorted(found)}"


def test_no_module_imports_itself_through_others():
    """No circles: every wing can be read from the bottom up."""
    names = {dotted(module): module for module in MODULES}
    graph = {name: top_level_imports(module, names) - {name} for name, module in names.items()}
    while leaves := {name for name, needs in graph.items() if not needs}:
        graph = {name: needs - leaves for name, needs in graph.items() if name not in leaves}
    assert not graph, f"circle among {sorted(graph)}"


def dotted(module: Path) -> str:
    return name_of(module).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def top_level_imports(module: Path, names: dict[str, Path]) -> set[str]:
    """The modules of ours that are imported when a module is, faces of packages left out."""
    found = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in names else node.module)
    return {name for name in found if name in names and names[name].name != "__init__.py"}


@pytest.mark.parametrize("package", WINGS)
def test_the_root_of_a_package_names_its_wings(package):
    entries = {path.name.removesuffix(".py") for path in (SOURCES[package] / package).iterdir()}
    assert entries - {"__pycache__"} == {"__init__", "py.typed", *WINGS[package]}


def test_modules_classes_and_functions_are_short():
    long = [name_of(module) for module in MODULES if len(module.read_text(encoding="utf-8").splitlines()) > 300]
    for module, node in nodes():
        if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= 250:
            long.append(f"{name_of(module)}: class {node.name}")
        if isinstance(node, FUNCTIONS) and lines_of(node) > 40:
            long.append(f"{name_of(module)}: {node.name}")
    assert not long


def nodes() -> list[tuple[Path, ast.AST]]:
    """Every node of every module."""
    return [(module, node) for module in MODULES for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))]


def lines_of(node) -> int:
    """Lines of a function without its docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_the_median_function_has_at_most_eight_lines():
    assert statistics.median(lines_of(node) for _, node in nodes() if isinstance(node, FUNCTIONS)) <= 8


def test_two_assignments_rarely_share_a_line():
    """At most one in a thousand lines; a swap or the parts of one call's result are no such pair."""
    packed = [f"{name_of(module)}:{node.lineno}" for module, node in nodes() if packs(node)]
    total = sum(len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES)
    assert len(packed) * 1000 <= total, packed


def packs(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets)


def test_calls_with_more_than_five_arguments_name_them():
    wide = []
    for module, node in nodes():
        if isinstance(node, ast.Call) and not any(isinstance(word, ast.Starred) for word in node.args):
            wide += [f"{name_of(module)}:{node.lineno}"] * (len(node.args) > 5)
    assert not wide


def test_docstrings_state_and_do_not_ask():
    documented = (ast.Module, ast.ClassDef, *FUNCTIONS)
    texts = [(module, ast.get_docstring(node) or "") for module, node in nodes() if isinstance(node, documented)]
    assert not [f"{name_of(module)}: {text.splitlines()[0]}" for module, text in texts if text.startswith(QUESTIONS)]
