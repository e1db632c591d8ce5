"""
Settings as typed, frozen sections, filled from a mapping such as the environment.

Each process lists its settings as a dataclass whose fields are made by `setting`; the reference page is
generated from the same declarations. Settings that several processes share stand here.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Section = TypeVar("Section")


class SettingsInvalid(ValueError):
    """A setting is missing or cannot be read. Do not start; the text names each."""


def setting(
    env: str,
    default: Any = MISSING,
    *,
    help: str,  # noqa: A002
    unit: str = "",
    secret: bool = False,
    minimum: float | None = None,
) -> Any:
    """Declare one setting of a section; without a default the start stops when it is missing."""
    metadata = {"env": env, "help": help, "unit": unit, "secret": secret, "minimum": minimum}
    # A secret is in no text that is made of a section, such as that of an error.
    if default is MISSING:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsSettings:
    """The settings of access control."""

    path: Path = setting("TIDEGATE_CREDENTIALS", help="The credentials file (TOML, mode 0600)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsSettings:
    """The settings of the storage for payloads too large for the log."""

    location: str = setting(
        "TIDEGATE_OBJECTS", ".tidegate/objects", help="Where large payloads are kept: a folder, or s3://bucket/prefix"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The settings of a process's logs."""

    level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementSettings:
    """The address and port of a process's probes and metrics."""

    host: str = setting("TIDEGATE_MANAGEMENT_HOST", "127.0.0.1", help="Address of probes and metrics")
    port: int = setting("TIDEGATE_MANAGEMENT_PORT", 9080, help="Port of probes and metrics")


def load(section: type[Section], environ: Mapping[str, str]) -> Section:
    """
    Fill *section*, a dataclass of settings and of further sections.

    Raises:
        SettingsInvalid: names every missing and malformed setting, not only the first.
    """
    problems: list[str] = []
    values = _load(section, environ, problems)
    if problems:
        raise SettingsInvalid("; ".join(problems))
    return values


def _load(section: type[Section], environ: Mapping[str, str], problems: list[str]) -> Section:
    values: dict[str, Any] = {}
    hints = get_type_hints(section)
    for declared in dataclasses.fields(section):  # type: ignore[arg-type]  # sections are dataclasses
        kind = hints[declared.name]
        if dataclasses.is_dataclass(kind):
            values[declared.name] = _load(kind, environ, problems)  # type: ignore[arg-type]
            continue
        name = declared.metadata["env"]
        text = environ.get(name, "")
        if text:
            try:
                values[declared.name] = _read(kind, text)
            except ValueError:
                shown = "***" if declared.metadata["secret"] else repr(text)
                problems.append(f"{name}={shown} is {_expected(kind)}")
                continue
            minimum = declared.metadata["minimum"]
            if minimum is not None and values[declared.name] < minimum:
                problems.append(f"{name}={text} is too small: it must be at least {minimum}")
        elif declared.default is MISSING:
            problems.append(f"{name} is missing ({declared.metadata['help']})")
    try:
        return section(**values) if not problems else None  # type: ignore[return-value]  # load raises before its use
    except SettingsInvalid as error:
        problems.append(str(error))
        return None  # type: ignore[return-value]  # likewise


def _read(kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise ValueError(text)
        return text.lower() in ("true", "1", "yes", "on")
    if kind == Path | None:
        return Path(text)
    if kind in (int, float, Path) or _is_choice(kind):
        return kind(text)
    return text


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _expected(kind: Any) -> str:
    return f"none of {', '.join(kind)}" if _is_choice(kind) else f"no {getattr(kind, '__name__', kind)}"


def entries_of(text: str | None) -> tuple[str, ...]:
    """Return the entries of a setting that is a list, comma separated."""
    return tuple(each.strip() for each in (text or "").split(",") if each.strip())


def effective(section: Any) -> dict[str, str]:
    """Return the values in force by setting name, secrets masked: what a process logs at its start."""
    return {
        declared.metadata["env"]: "***" if declared.metadata["secret"] else str(value)
        for declared, value in _declared(section)
    }


def as_environ(section: Any) -> dict[str, str]:
    """Return the values in force as a process in another folder needs them: paths are absolute."""
    return {
        declared.metadata["env"]: str(value.absolute() if isinstance(value, Path) else value)
        for declared, value in _declared(section)
        if value is not None and value != ""
    }


def _declared(section: Any) -> Iterator[tuple[Field[Any], Any]]:
    for declared in dataclasses.fields(section):
        value = getattr(section, declared.name)
        if dataclasses.is_dataclass(value):
            yield from _declared(value)
        else:
            yield declared, value


def declarations(section: type[Any]) -> Iterator[Field[Any]]:
    """Yield every setting of *section* and of the sections in it, for the reference page."""
    hints = get_type_hints(section)
    for declared in dataclasses.fields(section):
        if dataclasses.is_dataclass(hints[declared.name]):
            yield from declarations(hints[declared.name])
        else:
            yield declared
