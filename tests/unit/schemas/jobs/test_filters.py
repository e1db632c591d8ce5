"""Filters of jobs."""

import re

import msgspec
import pytest

from schemas.jobs.filters import MATCHES, JobFilter, matched


def test_the_condition_asks_for_what_is_given() -> None:
    asked = set(re.findall(r"%\((\w+)\)s", MATCHES))
    assert asked == set(matched(JobFilter(), tenant="demo"))


def test_what_is_not_said_admits_all() -> None:
    values = matched(JobFilter(), tenant="demo")
    assert {name for name, value in values.items() if value is not None} == {"tenant"}


def test_members_of_the_metadata_are_asked_for_as_json() -> None:
    assert matched(JobFilter(metadata={"a": 1}), tenant="demo")["metadata"] == '{"a":1}'


@pytest.mark.parametrize(
    "text",
    [
        '{"stauts": "failed"}',
        '{"status": "done"}',
        '{"created_from": "2026-11-30T00:00:00"}',
        '{"metadata": [1]}',
        '{"tag": ""}',
        '{"type": "../etc"}',
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=JobFilter)
