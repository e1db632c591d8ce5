"""
The sinks file: where records are sent in batches, and how each sink wants to be treated.

TOML; mode 0600 where it holds secrets. The process of a sink reads it at its start. Addresses, headers, secrets and
time limits of HTTP sinks are read again when the file changes; a file that cannot be used leaves the last good one in
force.
"""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.access.credentials import Name
from schemas.kafka.topics import Group
from schemas.process.file_writing import read_failure
from schemas.process.secret_files import SecretFileExposed
from schemas.process.settings import SettingsInvalid, setting
from schemas.process.watched import WatchedFile
from schemas.runs.endpoints import TypePattern, headers_fault, secrets_fault
from schemas.sinks.topics import SINK

MIB = 1024 * 1024
TOKEN_PLACEHOLDER = "{token}"  # noqa: S105  of a batch, in the address of an HTTP sink

SinkName = Annotated[str, Meta(pattern=rf"^{SINK.member_pattern}$")]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=10_000)]

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")
_TABLE = re.compile(r"([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}\Z")
_SOURCES = {topic.name: topic for topic in SINK.sources}


class SinksInvalid(ValueError):
    """The sinks file cannot be used. Keep the last good one and report it."""


class BatchBounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a batch: the first that is reached cuts it."""

    records_max: Count = 100  # a batch never crosses an offset that is a multiple of it
    bytes_max: Annotated[int, Meta(ge=1024, le=16 * MIB)] = MIB  # of values as they are in the log
    seconds_max: Seconds = 1.0  # since its first record came


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pauses between attempts at one batch: doubled from the first to the longest. Their number has no limit."""

    first_s: Seconds = 0.5
    longest_s: Seconds = 60.0  # a receiver that asks for a longer one gets this


class Sink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """The settings of every kind of sink."""

    source: str = SINK.sources[0].name
    tenant: Name | None = None  # None: records of every tenant
    types: Annotated[tuple[TypePattern, ...], Meta(min_length=1)] = ("*",)
    batch: BatchBounds = BatchBounds()
    retry: Retry = Retry()
    breaker_open_s: Seconds = 30.0
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0  # of one write


class HttpSink(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="http"):
    """Batches to an address, as one POST request each."""

    url: str  # `{token}` in it becomes the batch's token
    secrets: Annotated[tuple[str, ...], Meta(max_length=4)] = ()  # each signs; none: no signature
    headers: dict[str, str] = {}
    ndjson: bool = False  # a line a record, instead of a JSON array
    gzip: bool = False


class JsonlSink(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="jsonl"):
    """Batches to files on this machine, a line a record."""

    folder: Annotated[str, Meta(min_length=1)]
    file_bytes_max: Annotated[int, Meta(ge=1)] = 64 * MIB
    file_seconds_max: Annotated[float, Meta(gt=0)] = 3600.0
    zstd: bool = False  # whether closed files are compressed
    kept_seconds_max: Annotated[float, Meta(gt=0)] | None = None  # of closed files; None: kept
    kept_bytes_max: Annotated[int, Meta(ge=1)] | None = None  # of the closed files of a partition; None: any number


class PostgresSink(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="postgres"):
    """Batches to a table, a row a record, each once."""

    dsn: str
    table: str


class ClassSink(Sink, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="class"):
    """Batches to a class of the deployment's own."""

    name: str = msgspec.field(name="class")  # package.module:Name
    settings: dict[str, Any] = {}  # what its `open` is given


AnySink = HttpSink | JsonlSink | PostgresSink | ClassSink


class Sinks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: `[sinks.NAME]`."""

    sinks: dict[SinkName, AnySink] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SinksSettings:
    """The settings of sinks."""

    file: Path | None = setting("TIDEGATE_SINKS", None, help="File of sinks (TOML, mode 0600 if it holds secrets)")


def parse(text: str, *, beside: Path = Path()) -> Sinks:
    """
    Read the file's text; a relative path in it begins at the folder *beside* which the file is.

    Raises:
        SinksInvalid: no TOML, an unknown field, or a value that cannot be used; says which.
    """
    try:
        read = msgspec.convert(tomllib.loads(text), Sinks)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SinksInvalid(str(error)) from error
    for name, sink in read.sinks.items():
        if fault := _fault(sink):
            raise SinksInvalid(f"sink {name}: {fault}")
    sinks = {name: _placed(sink, beside) for name, sink in read.sinks.items()}
    folders = [sink.folder for sink in sinks.values() if isinstance(sink, JsonlSink)]
    if shared := {folder for folder in folders if folders.count(folder) > 1}:
        raise SinksInvalid(f"folder {min(shared)} is that of two sinks: each needs one of its own")
    return Sinks(sinks=sinks)


def watch(settings: SinksSettings) -> Callable[[], Sinks]:
    """
    Return the sinks in force, read again at each call; without a file there are none.

    Raises:
        SettingsInvalid: the file cannot be used.
    """
    path = settings.file
    if path is None:
        return Sinks
    try:
        read = partial(parse, beside=path.absolute().parent)
        watched = WatchedFile(path, read, secret=_holds_secrets(read(path.read_text(encoding="utf-8"))))
    except SecretFileExposed as error:
        raise SettingsInvalid(f"TIDEGATE_SINKS: {error}") from error
    except (OSError, ValueError) as error:  # not UTF-8 too
        raise SettingsInvalid(f"TIDEGATE_SINKS: {read_failure(path, error)}") from error
    return lambda: watched.current(now_s=monotonic())


def group_of(name: str, sink: Sink) -> Group:
    """Return the group of one sink."""
    return SINK.group(name, source=_SOURCES[sink.source])


def groups(sinks: Sinks) -> tuple[Group, ...]:
    """Return the group of each sink."""
    return tuple(group_of(name, sink) for name, sink in sinks.sinks.items())


def _placed(sink: AnySink, beside: Path) -> AnySink:
    return msgspec.structs.replace(sink, folder=str(beside / sink.folder)) if isinstance(sink, JsonlSink) else sink


def _holds_secrets(sinks: Sinks) -> bool:
    return any(map(_has_secret, sinks.sinks.values()))


def _has_secret(sink: AnySink) -> bool:
    # Headers carry keys and passwords more often than not, and nobody can say what the settings of a class are.
    match sink:
        case HttpSink():
            return bool(sink.secrets or sink.headers)
        case PostgresSink():
            return True
        case ClassSink():
            return bool(sink.settings)
        case JsonlSink():
            return False


def _fault(sink: AnySink) -> str | None:
    if sink.source not in _SOURCES:
        return f"source {sink.source!r} is none of {', '.join(_SOURCES)}"
    if sink.retry.first_s > sink.retry.longest_s:
        return "retry.first_s is more than retry.longest_s"
    match sink:
        case HttpSink():
            return secrets_fault(sink.secrets) or headers_fault(sink.headers)
        case PostgresSink() if not _TABLE.match(sink.table):
            return f"table {sink.table!r} is no name, or schema.name, of lower-case letters, digits and _"
        case ClassSink() if not _CLASS.match(sink.name):
            return f"class {sink.name!r} is not package.module:Name"
        case _:
            return None
