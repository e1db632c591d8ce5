"""TOML texts that people and programs both write: a program changes values, and comments, order and notation stay."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit


def changed(text: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return *text*, which says *before*, with as few changes as make it say *after*."""
    document = tomlkit.parse(text)
    _change(document, before, after)
    return tomlkit.dumps(document)


def new(document: Mapping[str, Any]) -> str:
    """Return the text of *document*."""
    return tomlkit.dumps(document)


def _change(table: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name in before.keys() - after.keys():
        if name in table:  # a default that the text does not name
            del table[name]
    for name, value in after.items():
        if name in before and before[name] == value:
            continue
        if isinstance(value, Mapping) and isinstance(before.get(name), Mapping) and name in table:
            _change(table[name], before[name], value)
        elif isinstance(value, list) and isinstance(before.get(name), list) and name in table:
            _change_list(table[name], value)
        else:
            table[name] = value


def _change_list(array: Any, after: Sequence[Any]) -> None:
    for index in reversed(range(len(array))):
        if array[index] not in after:
            del array[index]
    for index, value in enumerate(after):
        if index >= len(array) or array[index] != value:
            array.insert(index, value)
    del array[len(after) :]
