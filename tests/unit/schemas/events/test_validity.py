"""What makes a direct record of user.events valid, and what of an event decides where it goes and what it is."""

from typing import Any

import pytest

from schemas.errors import Poison, Reason
from schemas.events.records import UserEvent, key_of, record_id, uid_of
from schemas.events.validity import check_direct
from tests.support import builders
from tests.support.builders import direct_user_event, user_event


def judged(event: UserEvent, *, key: bytes | None = None, allowed: bool = True) -> Reason | None:
    credentials = builders.credentials(allow_unsigned_direct=allowed)
    found = check_direct(event, key=key_of(event) if key is None else key, credentials=credentials)
    return None if found is None else found.reason


def test_a_direct_record_is_taken_where_its_tenant_takes_them() -> None:
    assert judged(direct_user_event(payload={"n": 1.5}, context={"page": "/"})) is None
    assert judged(direct_user_event(), allowed=False) is Reason.UNSIGNED_DIRECT
    assert judged(direct_user_event(tenant="nobody")) is Reason.UNKNOWN_TENANT


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "No Type"},
        {"user_id": ""},
        {"name": "a\nb"},
        {"occurred_at": "soon"},
        {"run_id": "a/b"},
        {"event_id": "x" * 256},
        {"source": ""},
        {"submitted_by": "key"},
        {"task_id": "t"},
        {"user_verified": True},
        {"authenticated": "key"},
    ],
)
def test_what_it_says_must_hold(changes: dict[str, Any]) -> None:
    assert judged(user_event(**({"authenticated": "direct", "user_verified": False} | changes))) is Reason.INVALID_EVENT


@pytest.mark.parametrize(
    "payload", ["", "{", '{"a":1,"a":2}', "1e-10001", "[" * 64 + "]" * 64, '"' + "x" * 102_400 + '"']
)
def test_its_payload_is_json_that_can_be_kept(payload: str) -> None:
    assert judged(_with_texts(payload=payload)) is Reason.INVALID_EVENT
    assert judged(_with_texts(context=payload)) is Reason.INVALID_EVENT


def test_its_context_is_an_object() -> None:
    assert judged(_with_texts(context="[]")) is Reason.INVALID_EVENT


def _with_texts(**texts: str) -> UserEvent:
    fields: dict[str, Any] = {"payload": "{}", "context": None}
    made = direct_user_event()
    return UserEvent(**({name: getattr(made, name) for name in made.__struct_fields__} | fields | texts))


def test_its_digest_is_that_of_its_content() -> None:
    assert judged(direct_user_event(event_sha256=b"\0" * 32)) is Reason.DIGEST_MISMATCH


def test_its_key_follows_from_its_content() -> None:
    assert judged(direct_user_event(), key=b"demo/u-2") is Reason.KEY_MISMATCH


@pytest.mark.parametrize("changes", [{"payload": "\0"}, {"name": "a\0"}, {"event_id": "a\0"}])
def test_a_nul_is_poison(changes: dict[str, Any]) -> None:
    with pytest.raises(Poison):
        judged(direct_user_event(**changes))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, b"demo/u-1"),
        ({"run_id": "run-1"}, b"run-1"),
        ({"partition_key": "order-7"}, b"demo/order-7"),
        ({"user_id": None, "anonymous_id": "a-1", "session_id": "s-1"}, b"demo/a-1"),
        ({"user_id": None, "session_id": "s-1"}, b"demo/s-1"),
        ({"user_id": "anonymous", "session_id": "s-1"}, b"demo/s-1"),
        ({"user_id": " NULL ", "anonymous_id": "undefined"}, b"e-1"),
        ({"user_id": None}, b"e-1"),
    ],
)
def test_a_key_is_the_first_owner_that_is_there(changes: dict[str, Any], key: bytes) -> None:
    assert key_of(user_event(**changes)) == key


def test_an_identity_is_of_one_user_and_source() -> None:
    events = [
        user_event(),
        user_event(user_id="u-2"),
        user_event(source="web"),
        user_event("e-2"),
        user_event(tenant="b"),
    ]
    assert len({uid_of(event) for event in events}) == len(events)
    assert uid_of(user_event(payload={"other": 1})) == uid_of(user_event())
    assert record_id(user_event()).startswith("uev_")
    assert uid_of(user_event("bc", source="a")) != uid_of(user_event("c", source="ab"))
