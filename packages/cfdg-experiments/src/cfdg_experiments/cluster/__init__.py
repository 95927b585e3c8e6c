"""Clusters: the cells of a study on many machines, which share nothing but a store."""
