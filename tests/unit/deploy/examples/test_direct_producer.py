"""The example that shares no code with us writes what we would write."""

from deploy.examples import direct_producer
from schemas.catalogue import CODEC
from schemas.kafka import registry
from tests.support import builders


def test_it_signs_and_frames_an_event_as_we_do() -> None:
    event = builders.event(meta={"agent_id": "demo-agent"}, payload={"z": 1.5, "é": [True, None, "\u2028"]})
    signed = direct_producer.sign(event, builders.SECRET)
    assert signed == builders.signed(event)
    released = registry.last_released()["tidegate.runs.RunEvent"]
    value = direct_producer.encode(signed, tenant=builders.TENANT, schema_id=released.id, schema=released.schema)
    assert value == CODEC.encode(builders.run_event(signed))
    assert released.subject == direct_producer.SUBJECT
