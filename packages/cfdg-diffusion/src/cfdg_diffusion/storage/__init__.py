"""Files of models: trees of tensors and plain values, complete or not there at all, with a checksum."""

from cfdg_diffusion.storage.files import atomic_write
from cfdg_diffusion.storage.locks import locked
from cfdg_diffusion.storage.trees import Tree, leaves, load, read_header, save
from cfdg_diffusion.storage.version_1 import nested

__all__ = ["Tree", "atomic_write", "leaves", "load", "locked", "nested", "read_header", "save"]
