"""Names of archived objects: what is written is read again, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.archive.names import Branch, ObjectName, parse

NAMES = st.builds(
    ObjectName,
    branch=st.builds(
        Branch,
        topic=st.from_regex(r"[a-z][a-z.-]{0,20}", fullmatch=True),
        topic_id=st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True),
        partition=st.integers(0, 2**31 - 1),
    ),
    first=st.integers(0, 2**63 - 1),
)
NAME = ObjectName(branch=Branch(topic="user.events", topic_id="-abc_1", partition=3), first=1042)


def test_a_name_says_where_its_object_belongs() -> None:
    assert NAME.key == "archive/v1/user.events/-abc_1/p=00003/00000000000000001042.jsonl.zst"


@given(name=NAMES)
def test_a_name_is_read_as_it_was_written(name: ObjectName) -> None:
    assert parse(name.key) == name


@given(one=NAMES, other=NAMES)
def test_names_of_a_partition_sort_as_their_offsets(one: ObjectName, other: ObjectName) -> None:
    other = ObjectName(branch=one.branch, first=other.first)
    assert (one.key < other.key) == (one.first < other.first)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "demo/run-1/" + "a" * 64,
        NAME.key.replace("v1", "v2"),
        NAME.key.replace("p=00003", "p=3"),
        NAME.key.replace("p=00003", "p=0000003"),
        NAME.key + ".tmp",
        NAME.key.replace("1042", "10420"),
    ],
)
def test_other_names_are_of_no_archived_object(key: str) -> None:
    assert parse(key) is None
