"""Near names for messages about unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_names(word: str, known: Iterable[str]) -> str:
    """Return the ``(did you mean ...?)`` of an error message, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""
