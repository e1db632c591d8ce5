"""Sinks by their settings: ours, and classes of a deployment's own."""

from collections.abc import Mapping
from typing import Any

import pytest

from processors.sinks.contract import Sink
from processors.sinks.kinds.http import HttpWriter
from processors.sinks.kinds.jsonl import JsonlWriter
from processors.sinks.kinds.postgres import PostgresWriter
from processors.sinks.loading import close, in_force_of, opened
from schemas.process.settings import SettingsInvalid
from schemas.sinks.sinks_file import AnySink, ClassSink, HttpSink, JsonlSink, PostgresSink
from tests.support.sinks import RecordingSink, batch

HERE = __name__


class Shelf(RecordingSink):
    """A sink of a user's own."""

    settings: Mapping[str, Any] | None = None

    async def open(self, settings: Mapping[str, Any]) -> None:
        if settings.get("is_broken"):
            raise RuntimeError("no such shelf")
        self.settings = settings


class Halfway:
    """Cannot be written to."""

    async def open(self, settings: Mapping[str, Any]) -> None:
        """Do nothing."""


class Unclosable(RecordingSink):
    async def close(self) -> None:
        raise SystemExit(3)


async def opened_as(settings: AnySink) -> Sink:
    return await opened("shelf", lambda: settings, internal_allowed=False)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (HttpSink(url="https://shelf.example/"), HttpWriter),
        (PostgresSink(dsn="postgresql://localhost/x", table="events"), PostgresWriter),
    ],
)
async def test_each_kind_has_its_writer(settings: AnySink, kind: type[Sink]) -> None:
    sink = await opened_as(settings)
    assert isinstance(sink, kind)
    await close(sink)


async def test_files_have_theirs(tmp_path: object) -> None:
    sink = await opened_as(JsonlSink(folder=f"{tmp_path}/events"))
    assert isinstance(sink, JsonlWriter)
    await close(sink)


async def test_a_class_is_found_by_its_name_and_given_its_settings() -> None:
    sink = await opened_as(ClassSink(name=f"{HERE}:Shelf", settings={"address": "north"}))
    assert type(sink).__name__ == "Shelf"
    assert getattr(sink, "settings", None) == {"address": "north"}
    assert await sink.write(batch(0)) is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (ClassSink(name="no_such_module:Shelf"), "cannot be opened: ModuleNotFoundError"),
        (ClassSink(name=f"{HERE}:NoSuchClass"), f"module {HERE} has no NoSuchClass"),
        (ClassSink(name=f"{HERE}:Halfway"), "has no method write, close"),
        (
            ClassSink(name=f"{HERE}:Shelf", settings={"is_broken": True}),
            "opened: RuntimeError: no such shelf",
        ),
        (HttpSink(url="http://127.0.0.1/"), "its URL cannot be sent to: not https"),
        (PostgresSink(dsn="postgresql://u:secret@[", table="t"), "its dsn is no PostgreSQL connection string"),
        (JsonlSink(folder="/proc/nothing/here"), "cannot be opened: "),
    ],
)
async def test_what_cannot_be_opened_stops_the_start_with_its_reason(settings: AnySink, text: str) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        await opened_as(settings)
    assert text in str(raised.value)
    assert "sink shelf" in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_a_class_that_cannot_be_closed_ends_nothing() -> None:
    await close(Unclosable())


def test_a_sink_that_is_taken_out_of_the_file_stays_as_it_was() -> None:
    first, second = JsonlSink(folder="a"), JsonlSink(folder="b")
    sinks: dict[str, AnySink] = {"shelf": first}
    in_force = in_force_of("shelf", lambda: sinks)
    sinks["shelf"] = second
    assert in_force() is second
    sinks.clear()
    assert in_force() is second


def test_a_sink_that_the_file_does_not_have_is_not_started() -> None:
    with pytest.raises(SettingsInvalid, match="there is no sink shelf"):
        in_force_of("shelf", dict)
