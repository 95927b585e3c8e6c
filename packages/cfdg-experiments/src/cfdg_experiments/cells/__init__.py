"""Cells: each trains R replicas of one (dataset, algorithm, arm), from data to curves."""
