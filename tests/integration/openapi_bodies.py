"""How schemathesis, which loads this module, writes bodies that are not JSON."""

import json
from typing import Any

import schemathesis
import toon_format


@schemathesis.serializer("text/toon", "application/toon")
def as_toon(_context: Any, value: Any) -> bytes:
    """Return what TOON cannot say is sent as JSON, which is no TOON."""
    try:
        return toon_format.dumps(value).encode()
    except (TypeError, ValueError):
        return json.dumps(value).encode()


@schemathesis.serializer("application/x-ndjson", "application/ndjson", "application/jsonl")
def as_lines(_context: Any, value: Any) -> bytes:
    """Return an element a line; what is no list is one line."""
    return b"\n".join(json.dumps(each).encode() for each in (value if isinstance(value, list) else [value]))
