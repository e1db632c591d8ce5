"""The sinks file: what it takes, what it refuses with which words, and who may read it."""

import os
from pathlib import Path

import pytest
import tomlkit

from schemas.process.settings import SettingsInvalid
from schemas.runs.endpoints import new_secret
from schemas.sinks.sinks_file import (
    BatchBounds,
    ClassSink,
    HttpSink,
    JsonlSink,
    PostgresSink,
    Sinks,
    SinksInvalid,
    SinksSettings,
    groups,
    parse,
    watch,
)

FILES = '[sinks.files]\nkind = "jsonl"\nfolder = "/tmp/events"\n'
WHOLE = f"""
[sinks.files]
kind = "jsonl"
folder = "/tmp/events"
types = ["order.*"]
[sinks.files.batch]
records_max = 1000

[sinks.warehouse]
kind = "http"
source = "run.events"
url = "https://warehouse.example/in?token={{token}}"
secrets = ["{new_secret()}"]

[sinks.table]
kind = "postgres"
dsn = "postgresql://localhost/shop"
table = "shop.events"

[sinks.shelf]
kind = "class"
class = "shop.sinks:Shelf"
settings = {{ address = "north" }}
"""


def test_each_kind_is_read_with_its_defaults() -> None:
    sinks = parse(WHOLE).sinks
    assert list(map(type, sinks.values())) == [JsonlSink, HttpSink, PostgresSink, ClassSink]
    assert (sinks["files"].batch, sinks["table"].batch) == (BatchBounds(records_max=1000), BatchBounds())
    assert (sinks["files"].source, sinks["warehouse"].source) == ("user.events", "run.events")
    assert [group.id for group in groups(parse(WHOLE))] == [f"tidegate.sink.{name}" for name in sinks]
    assert [group.source.name for group in groups(parse(WHOLE))][1] == "run.events"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sinks = 3", "Expected `object`"),
        ("[sinks.x", "Expected"),
        ('[sinks.x]\nkind = "ftp"', "Invalid value 'ftp'"),
        ('[sinks.x]\nfolder = "/tmp"', "missing required field `kind`"),
        ('[sinks.x]\nkind = "jsonl"', "missing required field `folder`"),
        (FILES + "retries = 3", "unknown field `retries`"),
        (FILES.replace("files", "Files"), "Expected `str` matching"),
        (FILES + 'source = "user.event"', "source 'user.event' is none of user.events, run.events"),
        (FILES + "[sinks.files.batch]\nrecords_max = 0", "Expected `int` >= 1"),
        (FILES + "[sinks.files.retry]\nfirst_s = 90.0", "retry.first_s is more than retry.longest_s"),
        (FILES + FILES.replace("files", "others"), "folder /tmp/events is that of two sinks"),
        ('[sinks.x]\nkind = "http"\nurl = "https://a"\nsecrets = ["whsec_YQ=="]', "sink x: "),
        ('[sinks.x]\nkind = "http"\nurl = "https://a"\nheaders = {"webhook-id" = "1"}', "may not be set"),
        ('[sinks.x]\nkind = "postgres"\ndsn = ""\ntable = "Events; DROP"', "table 'Events; DROP' is no name"),
        ('[sinks.x]\nkind = "class"\nclass = "Shelf"', "class 'Shelf' is not package.module:Name"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: str) -> None:
    with pytest.raises(SinksInvalid) as raised:
        parse(text)
    assert fault in str(raised.value)


def _written(path: Path, text: str, mode: int = 0o600) -> SinksSettings:
    path.write_text(text)
    path.chmod(mode)
    return SinksSettings(file=path)


def test_a_bad_file_stops_the_start_with_its_name(tmp_path: Path) -> None:
    """Report: a start with a wrong configuration ate what was waiting."""
    with pytest.raises(SettingsInvalid, match=r"TIDEGATE_SINKS: .*sinks.toml.*unknown field `retries`"):
        watch(_written(tmp_path / "sinks.toml", FILES + "retries = 3"))
    with pytest.raises(SettingsInvalid, match=r"TIDEGATE_SINKS: .*No such file"):
        watch(SinksSettings(file=tmp_path / "other.toml"))


def test_a_file_with_secrets_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert watch(_written(tmp_path / "sinks.toml", FILES, 0o644))().sinks
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        watch(_written(tmp_path / "sinks.toml", WHOLE, 0o644))


def test_without_a_file_there_are_no_sinks() -> None:
    assert watch(SinksSettings())() == Sinks()


def test_the_last_good_file_stays_in_force(tmp_path: Path) -> None:
    path = tmp_path / "sinks.toml"
    in_force = watch(_written(path, FILES))
    first = in_force()
    path.write_text("[sinks")
    os.utime(path, (1, 1))
    assert in_force() == first


def test_a_file_that_a_program_writes_is_read(tmp_path: Path) -> None:
    text = tomlkit.dumps({"sinks": {"files": {"kind": "jsonl", "folder": str(tmp_path)}}})
    assert parse(text).sinks == {"files": JsonlSink(folder=str(tmp_path))}
