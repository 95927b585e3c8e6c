"""Downloads of D4RL's files, on request only: resumed, checked, and renamed only when they are complete.

The part that has arrived is kept in NAME.hdf5.part; a broken-off transfer continues it, in the same run or a later one.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cfdg_rl.datasets.catalogue import Published, row_fault
from cfdg_rl.datasets.d4rl import read_rows
from cfdg_rl.ranges import COUNT, NOT_NEGATIVE, POSITIVE, check_ranges

_CHUNK = 1 << 20
_BAR = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that may be gone at the next try


@dataclass(frozen=True)
class Patience:
    """Limits of a download that meets difficulties.

    Attributes:
        tries: transfers in a row that may fail without one new byte.
        timeout: seconds without a byte after which a transfer has failed.
        wait: seconds before the second try; doubled for every further one.
    """

    tries: int = 5
    timeout: float = 30.0
    wait: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, tries=COUNT, timeout=POSITIVE, wait=NOT_NEGATIVE)


@dataclass(frozen=True)
class _Arrival:
    """First byte of a response within the file, and the file's size (None: the server does not say)."""

    begin: int
    total: int | None


def download(
    file: Published, *, base: str | None = None, patience: Patience | None = None, progress: bool = False
) -> Path:
    """Fetch a published file into D4RL's folder, unless it is there already.

    Args:
        file: the file.
        base: address of a mirror's folder instead of D4RL's host.
        patience: tries and time-outs.
        progress: draw a bar.

    Returns:
        The path of the file.

    Raises:
        ConnectionError: if the host does not give it; the part that has arrived is kept for the next time.
        ValueError: if the address is not of a web server, or another file arrived; that is deleted.
    """
    if file.local.is_file():
        return file.local
    url = file.url(base)
    part = file.local.with_name(f"{file.local.name}.part")
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url} is not an address of a web server, expected http:// or https://")
    part.parent.mkdir(parents=True, exist_ok=True)
    _insist(url, part, patience or Patience(), progress)
    _check(file, url, part)
    os.replace(part, file.local)
    return file.local


def _insist(url: str, part: Path, patience: Patience, progress: bool) -> None:
    """Transfer until the file is complete; only tries without a new byte count as failures."""
    failures = 0
    while True:
        before = _size(part)
        try:
            return _transfer(url, part, patience.timeout, progress)
        except (OSError, http.client.HTTPException) as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= patience.tries or not _passing(error):
                raise ConnectionError(_sentence(url, part, error)) from error
        time.sleep(patience.wait * 2 ** (failures - 1))


def _transfer(url: str, part: Path, timeout: float, progress: bool) -> None:
    """Request the missing bytes and append them to ``part``."""
    have = _size(part)
    headers = {"User-Agent": "cfdg-rl", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing beyond these bytes: the file is complete, or it is another file
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
        raise
    with response:
        arrival = _arrival(response, have)
        with part.open("r+b" if arrival.begin else "wb") as file:
            file.seek(arrival.begin)
            with tqdm(total=arrival.total, initial=arrival.begin, desc=part.stem, disable=not progress, **_BAR) as bar:
                while chunk := response.read1(_CHUNK):
                    bar.update(file.write(chunk))
            if arrival.total is not None and file.tell() != arrival.total:
                raise http.client.IncompleteRead(b"", arrival.total - file.tell())


def _arrival(response: http.client.HTTPResponse, have: int) -> _Arrival:
    length = response.headers.get("Content-Length")
    if response.status != 206:  # the server ignores ranges: from the beginning
        return _Arrival(0, int(length) if length else None)
    begin, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if begin.partition("-")[0] != str(have):
        raise http.client.HTTPException(f"asked for bytes from {have}, the server sends {begin or 'others'}")
    return _Arrival(have, int(total) if total.isdigit() else None)


def _passing(error: Exception) -> bool:
    """Tell if another try may help."""
    return error.code in (*_PASSING, 416) if isinstance(error, urllib.error.HTTPError) else True


def _check(file: Published, url: str, part: Path) -> None:
    try:
        fault = row_fault(file, len(read_rows(part, file.family).reward))
    except ValueError as error:
        fault = str(error).removeprefix(str(part)).removeprefix(":").strip()
    if fault:
        part.unlink()
        raise ValueError(f"what {url} sends is not {file.name} and was deleted: {fault}")


def _sentence(url: str, part: Path, error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        reason = f"HTTP {error.code} {error.reason}"
    else:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
    kept = f"; {_size(part):,} bytes are kept and the next download continues there" if _size(part) else ""
    name = part.name.removesuffix(".part")
    host = urllib.parse.urlsplit(url).netloc
    return (
        f"{host} did not give {name} ({reason}){kept}; try again later, name a mirror with "
        f"--url or CFDG_D4RL_URL, or put {name} into {part.parent} yourself"
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
