"""Measured parts of a page: what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""

from __future__ import annotations

import os
from pathlib import Path


def rewrite(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the page's markers; the page changes completely or not at all.

    Raises:
        ValueError: if the page lacks one of the markers.
    """
    begin, end = (f"<!-- {name}:{edge} -->" for edge in ("begin", "end"))
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} ... {end}, expected both markers")
    partial = page.with_name(f".{page.name}.{os.getpid()}.partial")
    partial.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
    os.replace(partial, page)
