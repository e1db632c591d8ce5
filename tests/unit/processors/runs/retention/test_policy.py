"""How long what is kept, as the file says it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.local.development import RETENTION_TEXT
from processors.runs.retention.policy import Retention, parse_retention, watched_retention
from processors.runtime.errors import Transient
from schemas.process.settings import SettingsInvalid

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROOT = Path(__file__).parents[5]
FILE = """
[retention]
events_days = 30
orphans = true

[retention.tenants.short]
events_days = 0.5
rejected_days = 1

[retention.tenants.kept]
events_days = "never"
orphans = false
"""


def test_nothing_is_removed_unless_the_file_says_so() -> None:
    for text in ("", "[retention]\n", '[retention]\nevents_days = "never"\n'):
        retention = parse_retention(text)
        assert retention.is_off
        assert retention.events_cutoff("demo", now=NOW) is None
        assert retention.rejected_cutoff("demo", now=NOW) is None
        assert not retention.collects_objects("demo")
    assert watched_retention(None)() == Retention()


def test_a_tenant_differs_in_what_it_says_and_in_nothing_else() -> None:
    retention = parse_retention(FILE)
    assert not retention.is_off
    assert retention.events_cutoff("demo", now=NOW) == NOW - timedelta(days=30)
    assert retention.events_cutoff("short", now=NOW) == NOW - timedelta(hours=12)
    assert retention.events_cutoff("kept", now=NOW) is None
    assert retention.rejected_cutoff("demo", now=NOW) is None
    assert retention.rejected_cutoff("short", now=NOW) == NOW - timedelta(days=1)
    assert [retention.collects_objects(each) for each in ("demo", "short", "kept")] == [True, True, False]


def test_objects_of_removed_events_go_without_being_named() -> None:
    assert parse_retention("[retention]\nevents_days = 1\n").collects_objects("demo")
    assert not parse_retention("[retention]\nrejected_days = 1\n").collects_objects("demo")
    assert not parse_retention("[retention.tenants.a]\nrejected_days = 1\n").is_off


@pytest.mark.parametrize(
    "text",
    [
        *("[retention]\nevents_days = 0\n", "[retention]\nevents_days = -1\n", '[retention]\nevents_days = "soon"\n'),
        *("[retention]\nevent_days = 1\n", "events_days = 1\n", "[retention.tenants.'a/b']\nevents_days = 1\n"),
        *("[retention]\nevents_days = nan\n", "[retention]\nevents_days = inf\n", "no toml"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_retention(text)


def test_the_examples_can_be_used_as_they_are_and_uncommented() -> None:
    for text in (RETENTION_TEXT, (ROOT / "deploy/docker/config/retention.toml").read_text()):
        assert parse_retention(text).is_off
        shown = text[text.index("[retention]") :].replace("\n# ", "\n").replace("\n#\n", "\n\n")
        assert not parse_retention(shown).is_off


def test_while_a_new_file_cannot_be_used_nothing_goes_by_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    with pytest.raises(SettingsInvalid):
        watched_retention(path)
    path.write_text(FILE)
    watched_retention(path)()
    again = watched_retention(path)
    path.write_text("[retention]\nevents_days = 0\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(Transient, match="cannot be used"):
        again()
