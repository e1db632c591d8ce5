"""Plain bodies of events: the document, and the form that its agent signs."""

from typing import Any

from gateway.http import plain_json


def read_plain(body: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the document in *body* and the form that is signed and digested; None where the long way has to judge."""
    if (read := plain_json.read_plain(body)) is None:
        return None
    document, canonical = read
    meta = document.get("meta")
    if isinstance(meta, dict) and "signature" in meta:
        unsigned = {name: value for name, value in meta.items() if name != "signature"}
        canonical = plain_json.encode_plain({**document, "meta": unsigned})
    return document, canonical
