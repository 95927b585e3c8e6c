"""The files of a saved model: the weights, and the format of its table's file."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfdg_diffusion.cli.dates import DateFormat
from cfdg_diffusion.cli.formats import ColumnFormat, TableFormat
from cfdg_diffusion.cli.readings import with_levels
from cfdg_diffusion.cli.table_files import check_folder, check_free
from cfdg_diffusion.storage import atomic_write
from cfdg_diffusion.tabular.model import TabularDiffusion

_VERSION = 2
_CHECKSUM = "sha256"
_MODEL = ".safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """The paths of one model.

    Attributes:
        model: the file of :meth:`TabularDiffusion.save`.
        format: JSON with separators, dates, types and words for missing values of the training file. Without it tables
            are written as pandas does.
        dates: JSON of version 1 with the formats of dates alone, which is read and not written any more.
    """

    model: Path
    format: Path
    dates: Path

    @classmethod
    def of(cls, path: Path) -> ModelFiles:
        """Return the files inside a folder, or, for a name that ends in .safetensors, that file and those beside it."""
        if path.suffix == _MODEL and not path.is_dir():
            return cls(path, path.with_suffix(".format.json"), path.with_suffix(".dates.json"))
        return cls(path / f"model{_MODEL}", path / "format.json", path / "dates.json")

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
        else:
            check_folder(folder.parent)

    def check_is(self, model: TabularDiffusion, checkpoint: Path) -> None:
        """Check that the file, if there is one, holds this model: a killed command had written it.

        Raises:
            ValueError: if it holds another one.
        """
        if not self.model.exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / self.model.name
            model.save(own)
            if not filecmp.cmp(own, self.model, shallow=False):
                raise ValueError(
                    f"{self.model} exists already and is not the model of {checkpoint}, expected another name, "
                    "or --force to replace it"
                )

    def save(self, model: TabularDiffusion, form: TableFormat) -> None:
        """Write both files, or neither where one of them cannot be written: then an earlier model stays whole.

        Raises:
            OSError: if a file cannot be written.
            ValueError: if the model has not been fitted.
        """
        content = {"version": _VERSION, **form.state()}
        text = json.dumps(content | {_CHECKSUM: _digest(content)}, indent=1) + "\n"
        made = not self.model.parent.exists()
        self.model.parent.mkdir(exist_ok=True)
        try:
            with atomic_write(self.format) as partial:
                partial.write_text(text, encoding="utf-8")
                model.save(self.model)
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    self.model.parent.rmdir()
            raise
        self.dates.unlink(missing_ok=True)

    def load(self, device: str = "auto") -> tuple[TabularDiffusion, TableFormat]:
        """Read the model and the format of its table's file, in which no level of the model stands for missing values.

        Raises:
            FileNotFoundError: if there is no model.
            ValueError: if one of the files cannot be read.
        """
        if not self.model.parent.exists():
            raise FileNotFoundError(f"there is no model {self.model.parent}, expected what fit wrote")
        if not self.model.is_file():
            raise FileNotFoundError(f"there is no {self.model}, expected the folder or file that fit wrote")
        model = TabularDiffusion.load(self.model, device=device)
        form = self._load_format()
        known = set(map(str, model.dtypes.index))
        foreign = [name for name in form.columns if name not in known]
        if foreign:
            raise ValueError(f"{self.format} is of another model: it has {foreign[0]!r}, which {self.model} has not")
        return model, with_levels(form, model)

    def _load_format(self) -> TableFormat:
        path = self.format if self.format.exists() else self.dates
        if not path.exists():
            return TableFormat()
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            written = content.pop(_CHECKSUM, None)  # a file of version 0.3 has none
            if written not in (None, _digest(content)):
                raise ValueError("its content has not the SHA-256 that is in it")
            version = content["version"]
            if version == _VERSION:
                return TableFormat.restore(content)
            if version == 1:
                dates = {name: DateFormat(**own) for name, own in content["dates"].items()}
                return TableFormat(columns={name: ColumnFormat(date=own) for name, own in dates.items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged, expected what fit wrote: {error!r}") from error
        raise ValueError(f"{path} has version {version!r}, this package reads {_VERSION}: update cfdg-diffusion")


def _digest(content: dict[str, Any]) -> str:
    """Hash JSON values whatever the order of their keys and the white space between them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
