"""Generators of transitions: models of rows with an offline or online label."""
