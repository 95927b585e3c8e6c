"""The package's face: every public name is there, from the module that defines it, and is imported on first use."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import cfdg_diffusion

SOURCE = Path(cfdg_diffusion.__file__).read_text(encoding="utf-8")


def imported_for_type_checkers():
    """Names and modules of the imports that type checkers read."""
    imports = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: node.module for node in imports if node.module.startswith("cfdg_diffusion.") for alias in node.names
    }


def test_type_checkers_see_the_names_that_are_there():
    seen = imported_for_type_checkers()
    assert sorted(seen) == sorted(cfdg_diffusion.__all__)
    assert set(cfdg_diffusion.__all__) <= set(dir(cfdg_diffusion))
    for name, module in seen.items():
        assert getattr(cfdg_diffusion, name) is getattr(import_module(module), name)


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(AttributeError, match="module 'cfdg_diffusion' has no attribute 'nothing'"):
        _ = cfdg_diffusion.nothing
    with pytest.raises(ImportError, match="nothing"):
        exec("from cfdg_diffusion import nothing")


def test_importing_the_package_imports_pytorch_on_first_use():
    code = (
        "import sys, cfdg_diffusion\n"
        "assert 'torch' not in sys.modules\n"
        "from cfdg_diffusion import *\n"
        "assert 'torch' in sys.modules\n"
        "assert TabularDiffusion is cfdg_diffusion.tabular.TabularDiffusion\n"
        "assert cfdg_diffusion.storage.save and cfdg_diffusion.edm"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
