"""Environments: construction, with flat observations and actions in [-1, 1]; stacks of copies are in ``envs.stack``."""

from cfdg_rl.envs.make import EnvShape, inspect_env, make_env

__all__ = ["EnvShape", "inspect_env", "make_env"]
