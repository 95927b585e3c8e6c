"""Files of a running cell's rings: rows are written once, in pieces, of which a checkpoint lists those it needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cfdg_rl.buffer import Ring
from cfdg_rl.tensor_files import CHECKSUM, read_tensors, write_tensors

PIECE = 16_384  # rows from which on a piece is left as it is; a shorter last one is written anew, longer


@dataclass(frozen=True)
class Piece:
    """Rows of a ring in one file.

    Attributes:
        ring: name of the ring.
        clearing: how often the ring had been cleared.
        first: number of the first row since then.
        last: number after the last row.
        sha256: checksum of the file.
    """

    ring: str
    clearing: int
    first: int
    last: int
    sha256: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.ring}-{self.clearing}-{self.first}-{self.last}.safetensors"


class RingFiles:
    """The pieces of all rings of a cell, in one folder.

    Args:
        folder: made with the first piece.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pieces: dict[str, list[Piece]] = {}

    def save(self, rings: Mapping[str, Ring]) -> dict[str, Any]:
        """Write the rows that no piece has yet; return what :meth:`load` needs.

        Raises:
            OSError: if a piece cannot be written.
        """
        return {name: self._save(name, ring) for name, ring in rings.items()}

    def load(self, rings: Mapping[str, Ring], saved: Mapping[str, Any]) -> None:
        """Fill empty rings with the rows that they held.

        Raises:
            FileNotFoundError: if a piece is missing.
            ValueError: if a piece is damaged or another one than was written.
        """
        for name, ring in rings.items():
            own = saved[name]
            self.pieces[name] = [Piece(**piece) for piece in own["pieces"]]
            ring.resume(added=own["added"], size=own["size"], clearings=own["clearings"])
            for piece in self.pieces[name]:
                self._place(piece, ring)

    def prune(self) -> None:
        """Remove the pieces that the latest checkpoint does not list."""
        needed = {piece.file for pieces in self.pieces.values() for piece in pieces}
        for path in self.folder.glob("[!.]*.safetensors"):
            if path.name not in needed:
                path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """List the files that the latest checkpoint needs."""
        return [self.folder / piece.file for pieces in self.pieces.values() for piece in pieces]

    def _save(self, name: str, ring: Ring) -> dict[str, Any]:
        oldest = ring.added - len(ring)
        known = [piece for piece in self.pieces.get(name, []) if piece.clearing == ring.clearings]
        known = [piece for piece in known if piece.last > oldest]
        if known and known[-1].last < ring.added and known[-1].last - known[-1].first < PIECE:
            known.pop()
        first = max([oldest, *(piece.last for piece in known)])
        if first < ring.added:
            known.append(self._write(name, ring, first))
        self.pieces[name] = known
        counters = {"added": ring.added, "size": len(ring), "clearings": ring.clearings}
        return {**counters, "pieces": [asdict(piece) for piece in known]}

    def _write(self, name: str, ring: Ring, first: int) -> Piece:
        piece = Piece(name, ring.clearings, first, ring.added, "")
        rows = {"rows": ring.between(first, ring.added)}
        digest = write_tensors(self.folder / piece.file, rows, {"format": "1"})
        return replace(piece, sha256=digest)

    def _place(self, piece: Piece, ring: Ring) -> None:
        path = self.folder / piece.file
        tensors, metadata = read_tensors(path, "rows of a checkpoint", "safetensors file")
        if metadata.get(CHECKSUM) != piece.sha256:
            raise ValueError(f"rows of a checkpoint {path} are other ones than its checkpoint lists, expected those")
        first = max(piece.first, ring.added - len(ring))
        ring.place(first, tensors["rows"][:, first - piece.first :])


def remove_rings(folder: Path) -> None:
    """Remove the files of a cell that is finished."""
    shutil.rmtree(folder, ignore_errors=True)
