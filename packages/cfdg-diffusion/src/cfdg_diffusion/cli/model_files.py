"""The files of a saved model: the weights, and the date formats of its table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cfdg_diffusion.cli.csv_cells import DateFormat
from cfdg_diffusion.cli.table_files import check_free, write_text
from cfdg_diffusion.tabular.model import TabularDiffusion

_VERSION = 1
_MODEL = ".safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """The paths of one model.

    Attributes:
        model: the file of :meth:`TabularDiffusion.save`.
        dates: JSON with the date format of every column of dates in CSV; absent if there are none. Without it dates are
            written as pandas does.
    """

    model: Path
    dates: Path

    @classmethod
    def of(cls, path: Path) -> ModelFiles:
        """Return the files inside a folder, or, for a name that ends in .safetensors, that file and one beside it."""
        if path.suffix == _MODEL and not path.is_dir():
            return cls(path, path.with_suffix(".dates.json"))
        return cls(path / f"model{_MODEL}", path / "dates.json")

    def check(self, overwrite: bool) -> None:
        """Check before the training that the model can be written after it.

        Raises:
            OSError: if the folder cannot be made or written to.
            ValueError: if there is a model already, or a file in place of the folder.
        """
        folder = self.model.parent
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, expected a folder or a name that ends in {_MODEL}")
        if folder.is_dir():
            check_free(self.model, overwrite)
        elif not folder.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {folder.parent}, expected it to be made first")
        elif not os.access(folder.parent, os.W_OK):
            raise PermissionError(f"the folder {folder.parent} cannot be written to")

    def save(self, model: TabularDiffusion, dates: Mapping[str, DateFormat]) -> None:
        """Write both files, each complete or not at all, the model last.

        Raises:
            OSError: if a file cannot be written.
            ValueError: if the model has not been fitted.
        """
        self.model.parent.mkdir(exist_ok=True)
        if dates:
            content = {"version": _VERSION, "dates": {name: asdict(own) for name, own in dates.items()}}
            write_text(self.dates, json.dumps(content, indent=1) + "\n")
        else:
            self.dates.unlink(missing_ok=True)
        model.save(self.model)

    def load(self, device: str = "auto") -> tuple[TabularDiffusion, dict[str, DateFormat]]:
        """Read the model and the formats of its dates.

        Raises:
            FileNotFoundError: if there is no model.
            ValueError: if one of the files cannot be read.
        """
        if not self.model.parent.exists():
            raise FileNotFoundError(f"there is no model {self.model.parent}, expected what fit wrote")
        if not self.model.is_file():
            raise FileNotFoundError(f"there is no {self.model}, expected the folder or file that fit wrote")
        return TabularDiffusion.load(self.model, device=device), self._load_dates()

    def _load_dates(self) -> dict[str, DateFormat]:
        if not self.dates.exists():
            return {}
        try:
            content: Any = json.loads(self.dates.read_text(encoding="utf-8"))
            version = content["version"]
            if version == _VERSION:
                return {name: DateFormat(**own) for name, own in content["dates"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.dates} cannot be read, expected what fit wrote: {error!r}") from error
        raise ValueError(f"{self.dates} has version {version!r}, this package reads {_VERSION}: update cfdg-diffusion")
