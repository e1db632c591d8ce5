"""
The file of event types: what a type's properties are, and the function that processes its events.

```toml
[types.order_completed]
function = "shop.events:on_order"

[types.order_completed.properties]
"cart.total" = "number"
```

It is read at the start of a process. A type that is not in it is stored as it comes, and needs no processing.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.events.properties import PATH_CHARACTERS_MAX, PropertyType
from schemas.ids import TYPE_CHARACTERS_MAX, type_fault
from schemas.process.file_writing import read_failure
from schemas.process.settings import SettingsInvalid, setting

FUNCTION_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"

PropertyPath = Annotated[str, Meta(min_length=1, max_length=PATH_CHARACTERS_MAX)]
TypeName = Annotated[str, Meta(min_length=1, max_length=TYPE_CHARACTERS_MAX)]


class EventType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One type of event."""

    function: Annotated[str, Meta(pattern=FUNCTION_PATTERN)] | None = None  # package.module:function
    properties: dict[PropertyPath, PropertyType] = {}


class EventTypes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: `[types.NAME]`."""

    types: dict[TypeName, EventType] = {}

    @property
    def functions(self) -> Mapping[str, str]:
        """Return the functions, by type of event."""
        return {name: each.function for name, each in self.types.items() if each.function is not None}

    @property
    def schemas(self) -> Mapping[str, Mapping[str, PropertyType]]:
        """Return what properties are coerced to, by type of event."""
        return {name: each.properties for name, each in self.types.items() if each.properties}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTypesSettings:
    """The settings for the file of event types."""

    path: Path | None = setting(
        "TIDEGATE_EVENT_TYPES", None, help="File of event types: their properties and processing functions (TOML)"
    )


def read(settings: EventTypesSettings) -> EventTypes:
    """
    Return what the file says; without one, no type is special.

    Raises:
        SettingsInvalid: the file cannot be used; the text says why.
    """
    if settings.path is None:
        return EventTypes()
    try:
        text = settings.path.read_text()
    except OSError as error:
        raise SettingsInvalid(read_failure(settings.path, error)) from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{settings.path} is not UTF-8") from error
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsInvalid(f"{settings.path} cannot be used: {error}") from error


def parse(text: str) -> EventTypes:
    """Return what *text* says. Raises ValueError, which names the place."""
    found = msgspec.convert(tomllib.loads(text), EventTypes)
    for name in found.types:
        if fault := type_fault(name):
            raise ValueError(f"types.{name}: {fault}")
    return found
