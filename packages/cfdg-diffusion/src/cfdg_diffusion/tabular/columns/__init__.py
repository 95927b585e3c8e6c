"""Codec of a table: columns of a DataFrame <-> the rows of numbers that a diffusion model learns."""

from cfdg_diffusion.tabular.columns.components import CodecSettings
from cfdg_diffusion.tabular.columns.families import Kind
from cfdg_diffusion.tabular.columns.table import Block, TableCodec

__all__ = ["Block", "CodecSettings", "Kind", "TableCodec"]
