"""Figures of the paper beside its tables."""
