"""Offline-to-online reinforcement learning: transitions, buffers, agents and synthetic-data mixing."""

__version__ = "0.1.0"
