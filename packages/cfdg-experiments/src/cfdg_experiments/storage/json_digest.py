"""Checksum of JSON values, for files that hold it beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def json_digest(values: Mapping[str, Any]) -> str:
    """Hash JSON values whatever the order of their keys and the white space between them."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
