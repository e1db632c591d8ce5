"""What a receiver gets, read by the official library."""

import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from processors.runs.evaluation.webhook import message_of, signed_headers
from processors.runtime.contract import Arrival
from schemas.runs.endpoints import new_secret
from schemas.runs.records import RunFinalized, RunRecord, RunStatus, event_id
from tests.support.builders import event, raw, run_event

NOW = datetime.now(UTC)


def arrival(record: RunRecord, *, offset: int = 7, by_name: dict[str, bytes | None] | None = None) -> Arrival:
    return Arrival(raw(record, offset=offset), by_name or {}, record, None)  # type: ignore[arg-type]  # a record's shape


def test_the_official_library_takes_it_with_each_of_two_secrets() -> None:
    """So a receiver may change its secret whenever it likes while both are valid."""
    old, new = new_secret(), new_secret()
    message = message_of(arrival(run_event()))
    # Now, and not when the module was read: the library takes no older one than five minutes.
    sent = signed_headers(message, (old, new), now=datetime.now(UTC), replay=False, more={})
    for secret in (old, new):
        assert Webhook(secret).verify(message.body, sent)["type"] == "trace_event"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(new_secret()).verify(message.body, sent)


def test_the_specifications_own_example_is_signed_as_it_says() -> None:
    """Values of the Standard Webhooks specification's reference libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = Webhook(secret).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), '{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_is_told_as_it_was_sent_with_its_place() -> None:
    record = run_event(event(3), payload='{"n": 1.000}')
    body = message_of(arrival(record)).body
    assert b'"payload":{"n": 1.000}' in body
    data = json.loads(body)["data"]
    assert (data["tenant"], data["wal_id"], data["event"]["seq"]) == ("demo", "run.events/0/7", 3)


def test_the_id_is_the_same_for_every_copy_in_the_log() -> None:
    first, second = message_of(arrival(run_event(), offset=1)), message_of(arrival(run_event(), offset=9))
    assert first.id == second.id == event_id("demo", "run-1", 1)


def test_the_end_of_a_run_is_told_under_its_own_id() -> None:
    end = RunFinalized(tenant="demo", run_id="run-1", status=RunStatus.FAILED, finalized_at=NOW)
    message = message_of(arrival(end))
    assert message.id == event_id("demo", "run-1", "finalized")
    body = json.loads(message.body)
    assert (body["type"], body["data"]["run"]["status"]) == ("run_finalized", "failed")


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Evil: 1", False),
        (b"garbage", False),
        (b"\xff\xfe", False),
        (None, False),
    ],
)
def test_only_a_whole_traceparent_is_handed_on(given: bytes | None, *, handed_on: bool) -> None:
    message = message_of(arrival(run_event(), by_name={"traceparent": given}))
    sent = signed_headers(message, (new_secret(),), now=NOW, replay=False, more={})
    assert ("traceparent" in sent) is handed_on


def test_a_replay_says_so_and_an_endpoints_own_headers_come_along() -> None:
    message = message_of(arrival(run_event()))
    sent = signed_headers(message, (new_secret(),), now=NOW, replay=True, more={"Authorization": "Bearer x"})
    assert sent["webhook-replay"] == "true"
    assert sent["Authorization"] == "Bearer x"
