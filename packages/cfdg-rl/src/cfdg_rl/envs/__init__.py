"""Environments: construction in one place, so that every part of the library steps the same ones."""

from cfdg_rl.envs.make import EnvShape, inspect_env, make_env

__all__ = ["EnvShape", "inspect_env", "make_env"]
