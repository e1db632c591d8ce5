"""Confluent's own client decodes our topics, and encodes for them, knowing nothing but the gateway's address."""

import json
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.catalogue import CODEC
from schemas.kafka import registry
from schemas.kafka.places import RecordPlace
from tests.integration.test_receipts import Client
from tests.support import builders
from tests.support.log import read_record
from tests.support.stack import RunningStack

BY_RECORD = {"subject.name.strategy": topic_record_subject_name_strategy}
VALUE = SerializationContext("run.events", MessageField.VALUE)


@pytest.fixture
def schemas(stack: RunningStack) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": stack.addresses.gateway}) as client:
        yield client


def place_of(wal_id: str) -> RecordPlace:
    topic, partition, offset = wal_id.split("/")
    return RecordPlace(topic, int(partition), int(offset))


@pytest.mark.parametrize(
    "conf",
    [{}, BY_RECORD, BY_RECORD | {"use.latest.version": True}],
    ids=["as it comes", "by record", "by record, to the latest version"],
)
def test_every_kind_of_record_is_decoded(
    stack: RunningStack, schemas: SchemaRegistryClient, conf: dict[str, Any]
) -> None:
    client, run_id = Client(stack), f"run-{token_hex(8)}"
    event = builders.event(run_id=run_id)
    answers = [
        client.send(event),
        client.ask("PUT", f"/api/runs/{run_id}/environment", {"python": "3.11"})[1],
        client.ask("POST", f"/api/runs/{run_id}/finalize", {"status": "failed"})[1],
    ]
    deserialize = AvroDeserializer(schemas, conf=conf)
    sent, captured, finalized = (
        deserialize(read_record(stack, place_of(each["wal_id"])).value(), VALUE) for each in answers
    )
    assert (sent["tenant"], sent["run_id"], sent["seq"]) == (builders.TENANT, run_id, 1)
    assert json.loads(sent["payload"]) == event["payload"]
    assert (captured["run_id"], captured["environment"]) == (run_id, '{"python": "3.11"}')
    assert (finalized["run_id"], finalized["status"], finalized["event_count"]) == (run_id, "failed", None)


@pytest.mark.parametrize("latest", [True, False])
def test_a_record_is_encoded_as_we_encode_it(schemas: SchemaRegistryClient, latest: bool) -> None:
    """With Confluent's serializer, which looks the released schema up and registers nothing."""
    subject = registry.last_released()["tidegate.runs.RunEvent"].subject
    conf = {"auto.register.schemas": False, "use.latest.version": latest}
    serialize = AvroSerializer(schemas, schemas.get_latest_version(subject).schema, conf=conf | BY_RECORD)
    event = builders.event()
    record = builders.run_event(builders.signed(event))
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    assert serialize(fields, VALUE) == CODEC.encode(record)


def test_every_look_up_of_the_client_is_answered(schemas: SchemaRegistryClient) -> None:
    released = registry.released()
    assert set(schemas.get_subjects()) == {entry.subject for entry in released}
    assert schemas.get_schema_types() == ["AVRO"]
    assert (schemas.get_compatibility(), schemas.get_global_mode()) == ("BACKWARD", "READONLY")
    for entry in released:
        assert entry.version in schemas.get_versions(entry.subject)
        assert schemas.get_version(entry.subject, entry.version).schema_id == entry.id
        assert schemas.get_compatibility(entry.subject) == "BACKWARD"
        assert [each.subject for each in schemas.get_schema_versions(entry.id)] == [entry.subject]
        assert schemas.get_subjects_by_schema_id(entry.id) == [entry.subject]


def test_the_client_understands_what_is_not_there(schemas: SchemaRegistryClient) -> None:
    for ask, code in (
        (lambda: schemas.get_latest_version("none"), 40401),
        (lambda: schemas.get_version(registry.released()[0].subject, 999), 40402),
        (lambda: schemas.get_schema(999), 40403),
    ):
        with pytest.raises(SchemaRegistryError) as refused:
            ask()
        assert (refused.value.http_status_code, refused.value.error_code) == (404, code)
