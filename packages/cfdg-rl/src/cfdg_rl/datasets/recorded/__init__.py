"""Datasets recorded on this machine: rollouts of shipped policies, shipped replays, and a planner in mazes."""
