"""
A program of its own that writes to the log past the gateway: it signs an event, frames it and produces it.

It uses nothing of ours but the schema, which it asks the gateway for as of any schema registry. What it does can be
done in any language: RFC 8785, HMAC-SHA256, Avro behind Confluent's frame, and murmur2 as partitioner, so that all of
a run lies in one partition whoever writes it. The signature alone says whose event it is.

    python -m deploy.examples.direct_producer my-run 1 "The tide is in."
    python -m deploy.examples.direct_producer my-run 2 "The tide is out." --to event.avro   # for kcat to produce
"""

import argparse
import hashlib
import hmac
import io
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import fastavro
import rfc8785
from confluent_kafka import KafkaError, Message, Producer

from deploy.cli import addresses
from deploy.errors import CommandFailed, NotReachable
from schemas.kafka.connection import KafkaSettings, confluent_options

TOPIC = "run.events"
SUBJECT = f"{TOPIC}-tidegate.runs.RunEvent"
TIMEOUT_S = 10.0


def sign(event: Mapping[str, Any], secret: str) -> dict[str, Any]:
    """Return the event with `meta.signature`: lower-case hex HMAC-SHA256 of its canonical form."""
    signature = hmac.digest(secret.encode(), rfc8785.dumps(dict(event)), "sha256").hex()
    return {**event, "meta": {**event["meta"], "signature": signature}}


def encode(event: Mapping[str, Any], *, tenant: str, schema_id: int, schema: Mapping[str, Any]) -> bytes:
    """Return the record's value: byte 0, the schema's id (4 bytes, big-endian), the event as Avro."""
    unsigned = {**event, "meta": {name: value for name, value in event["meta"].items() if name != "signature"}}
    fields = {
        "tenant": tenant,
        "run_id": event["meta"]["run_id"],
        "seq": event["seq"],
        "t": event["t"],
        "actor": event["actor"],
        "type": event["type"],
        "agent_id": event["meta"]["agent_id"],
        "payload": json.dumps(event["payload"]),
        "meta": json.dumps(event["meta"]),
        "event_sha256": hashlib.sha256(rfc8785.dumps(unsigned)).digest(),
    }
    value = io.BytesIO()
    value.write(b"\0" + schema_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(value, fastavro.parse_schema(dict(schema)), fields)
    return value.getvalue()


def newest_schema(registry: str) -> tuple[int, dict[str, Any]]:
    """
    Return the id of the event's newest schema, and the schema.

    Raises:
        NotReachable: the registry does not answer.
    """
    try:
        with urlopen(f"{registry}/subjects/{SUBJECT}/versions/latest", timeout=TIMEOUT_S) as answer:  # noqa: S310  the user's
            version = json.load(answer)
    except OSError as error:
        raise NotReachable(f"{registry} has no schema for us: {error}") from error
    return version["id"], json.loads(version["schema"])


def produce(kafka: KafkaSettings, *, run_id: str, value: bytes) -> str:
    """
    Append the record and wait for the broker's acknowledgement; its receipt, topic/partition/offset.

    Raises:
        NotReachable: none came in time: it may or may not have been written.
    """
    receipts: list[str] = []

    def take(error: KafkaError | None, message: Message) -> None:
        if error is None:
            receipts.append(f"{message.topic()}/{message.partition()}/{message.offset()}")

    settings = {**confluent_options(kafka), "partitioner": "murmur2_random", "enable.idempotence": True}
    producer = Producer(settings)
    producer.produce(TOPIC, value, key=run_id, on_delivery=take)
    producer.flush(TIMEOUT_S)
    if not receipts:
        raise NotReachable(f"{kafka} has not acknowledged the record")
    return receipts[0]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write one signed event to the log, past the gateway.")
    parser.add_argument("run_id")
    parser.add_argument("seq", type=int)
    parser.add_argument("text")
    parser.add_argument("--tenant", default="demo", help="owner of the run")
    parser.add_argument("--to", type=Path, help="write the record's value to this file instead")
    parser.add_argument("--dir", type=Path, default=Path(".tidegate"), help="folder of the stack to write to")
    options = parser.parse_args()
    known = addresses.read(options.dir, os.environ)
    event = {
        "seq": options.seq,
        "t": datetime.now(UTC).isoformat(),
        "actor": "agent",
        "type": "message",
        "payload": {"text": options.text},
        "meta": {"run_id": options.run_id, "agent_id": known.need("agent_id")},
    }
    schema_id, schema = newest_schema(known.need("gateway"))
    signed = sign(event, known.need("agent_secret"))
    value = encode(signed, tenant=options.tenant, schema_id=schema_id, schema=schema)
    if options.to:
        options.to.write_bytes(value)
    else:
        print(produce(known.need_kafka(), run_id=options.run_id, value=value))


if __name__ == "__main__":
    try:
        _main()
    except CommandFailed as error:
        sys.exit(str(error))
