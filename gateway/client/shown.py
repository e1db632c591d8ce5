"""Any Python value as a JSON value of bounded size without secrets: what a traced function was given and returned."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from schemas.process.redaction import HIDDEN, is_secret_name, without_secrets

DEPTH_MAX = 8
VALUES_MAX = 1_000  # of one argument or result, all levels together
CHARACTERS_MAX = 2_000  # of one string
INT_BITS_MAX = 63
LEFT_OUT = "...(left out)"


def shown(value: object) -> object:
    """Return a JSON value that shows *value*, or the part of it that fits. Never raises."""
    return _Showing().show(value, depth=0)


class _Showing:
    def __init__(self) -> None:
        self._left = VALUES_MAX

    def show(self, value: object, *, depth: int) -> object:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            return LEFT_OUT
        try:
            return self._show(value, depth)
        except Exception as error:  # noqa: BLE001  # a value's own methods may raise anything
            return f"<{_type_name(value)} that cannot be shown: {type(error).__name__}>"

    def _show(self, value: object, depth: int) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            return self._members(((field.name, getattr(value, field.name)) for field in fields), depth)
        if isinstance(value, Mapping):
            return self._members(((key, value[key]) for key in value), depth)
        if isinstance(value, (list, tuple, AbstractSet)):
            return self._items(iter(value), depth)
        return _plain(value)

    def _items(self, values: Iterator[object], depth: int) -> list[object]:
        items: list[object] = []
        for item in values:
            items.append(self.show(item, depth=depth + 1))
            if self._left <= 0:
                break
        return items

    def _members(self, members: Iterator[tuple[object, object]], depth: int) -> object:
        found: dict[str, object] = {}
        for key, member in members:
            name = _text(key if type(key) is str else repr(key))
            found[name] = HIDDEN if is_secret_name(name) else self.show(member, depth=depth + 1)
            if self._left <= 0:
                found[LEFT_OUT] = True
                break
        return found


def _plain(value: object) -> object:
    # Exact types: a subclass may behave as it likes, and is shown as text.
    if value is None or type(value) is bool:
        return value
    if (type(value) is int and value.bit_length() <= INT_BITS_MAX) or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    return _text(value if type(value) is str else repr(value))


def _text(text: str) -> str:
    clean = without_secrets(text)
    return clean if len(clean) <= CHARACTERS_MAX else f"{clean[:CHARACTERS_MAX]}...(cut)"


def _type_name(value: object) -> str:
    return _text(type(value).__qualname__)
