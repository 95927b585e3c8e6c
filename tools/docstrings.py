"""Extension of Griffe, the reader of sources for the reference pages: docstrings and comments become Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([^`<]+)`")
COMMENT = re.compile(r"\s#\s*(?!noqa|type:)(.+)$")


class Docstrings(griffe.Extension):
    """Prepares docstrings for Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is None and obj.is_attribute:
            obj.docstring = comment_beside(obj)
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Turn roles and double backticks into Markdown's code.

    >>> as_markdown("``(R, N)`` rows, see :func:`refresh`")
    '`(R, N)` rows, see `refresh`'
    """
    return ROLE.sub(r"`\1`", text).replace("``", "`")


def comment_beside(obj: griffe.Object) -> griffe.Docstring | None:
    """Find the comment at the end of the line of a field, such as a setting with its origin."""
    lines = obj.lines_collection[obj.filepath][(obj.lineno or 1) - 1 : obj.endlineno]
    found = COMMENT.search(lines[-1]) if lines else None
    return griffe.Docstring(found.group(1), lineno=obj.lineno, parent=obj) if found else None
