"""Profiles: the settings of a table, their YAML files, and the grids and selections of the command line."""
