"""
JSON objects as they were sent: decoded, and the exact text of each member.

Why two decoders: the strict one judges the whole; msgspec then cuts the verbatim text of the free members out of the
same bytes, which is safe because only what was judged valid gets there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.http.lists import text_of
from gateway.http.plain_json import read_plain
from schemas import strictjson
from schemas.errors import Fault, Invalid

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object."""

    body: bytes
    members: dict[str, Any]
    is_plain: bool  # see `plain_json`

    def text(self, name: str) -> str:
        """Return the JSON text of a member, as it was sent."""
        return str(_MEMBERS.decode(self.body)[name], "utf-8")


def read_object(body: bytes, what: str) -> Document:
    """
    Return the JSON object in *body*, which must be *what*.

    Raises:
        NotJson: it does not parse.
        Invalid: it is no object, or holds what `strictjson` refuses.
    """
    if (plain := read_plain(body)) is not None:
        return Document(body, plain[0], is_plain=True)
    members = strictjson.decode(text_of(body))
    if not isinstance(members, dict):
        raise Invalid([Fault(pointer="", detail=f"{what} is a JSON object")])
    return Document(body, members, is_plain=False)


def renamed(fault: Fault, names: Mapping[str, str]) -> Fault:
    """Return *fault* under the name that the sender gave the field, where *names* has another than the record's."""
    first, _, rest = fault.pointer.removeprefix("/").partition("/")
    if (shown := names.get(first)) is None:
        return fault
    return Fault(pointer=f"/{strictjson.escape_pointer(shown)}" + (f"/{rest}" if rest else ""), detail=fault.detail)


def unknown_fault(name: str) -> Fault:
    """Return the fault of a member that no field has."""
    return Fault(pointer=f"/{strictjson.escape_pointer(name)}", detail="unknown field")
