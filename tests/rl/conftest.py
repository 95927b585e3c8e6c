"""Shared fixtures of the RL tests."""

import importlib.util
from pathlib import Path

import pytest


def _load():
    spec = importlib.util.spec_from_file_location("point_env", Path(__file__).with_name("point_env.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def point() -> str:
    """Id of a registered one-dimensional environment with terminations and a time limit."""
    module = _load()
    module.register()
    return module.ENV_ID
