"""Who signed what."""

import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from schemas.kafka.seal import record_mac, record_mac_holds
from schemas.runs.signature import event_signature_holds, sign_event
from tests.support.builders import event

RECORD = {"topic": "run.events", "key": b"run-1", "tenant": b"demo", "value": b"body"}


def test_a_signature_is_a_fixed_function_of_event_and_secret() -> None:
    """The value that `openssl dgst -sha256 -hmac secret` gives for the canonical text."""
    given = json.loads(
        '{"seq":1,"t":"2025-12-05T10:00:00Z","actor":"agent","type":"reasoning","payload":{"n":1.50},'
        '"meta":{"run_id":"r","agent_id":"a"}}'
    )
    assert sign_event(given, "secret") == ("b3326d0dd51c86d4bd738d6aa121f0ab73285d5bc3ba2ee5f5284efad41b5397")


def test_it_holds_for_any_secret_in_rotation_and_no_other() -> None:
    signature = sign_event(event(), "old")
    assert event_signature_holds(event(), signature, ["new", "old"])
    assert not event_signature_holds(event(), signature, ["new"])
    assert not event_signature_holds(event(), signature, [])


def test_it_does_not_hold_for_another_event_or_form() -> None:
    signature = sign_event(event(), "s")
    assert not event_signature_holds(event(2), signature, ["s"])
    assert not event_signature_holds(event(), signature.upper(), ["s"])
    assert not event_signature_holds(event(), "ünsigned", ["s"])


def test_a_mac_binds_topic_key_tenant_and_value() -> None:
    mac = record_mac("s", **RECORD)
    assert record_mac_holds(mac, ["t", "s"], **RECORD)
    for name, other in {"topic": "run.event", "key": b"run-2", "tenant": b"demp", "value": b"bodx"}.items():
        assert not record_mac_holds(mac, ["s"], **(RECORD | {name: other}))


def test_parts_of_a_mac_cannot_be_shifted() -> None:
    one = record_mac("s", topic="t", key=b"ab", tenant=b"c", value=b"d")
    other = record_mac("s", topic="t", key=b"a", tenant=b"bc", value=b"d")
    assert one != other


@given(secret=st.text(min_size=1, max_size=200), value=st.binary(max_size=300))
def test_a_mac_is_hmac_sha256(secret: str, value: bytes) -> None:
    """Over the framed parts, whatever the key's length."""
    message = b"3/1/6/" + b"t/1" + b"k" + b"tenant" + value
    expected = hmac.digest(secret.encode(), message, "sha256").hex().encode()
    assert record_mac(secret, topic="t/1", key=b"k", tenant=b"tenant", value=value) == expected
