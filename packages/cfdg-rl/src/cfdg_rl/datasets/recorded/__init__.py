"""Datasets recorded on this machine: shipped policies and a planner are rolled out in MuJoCo."""
