"""The writer of dead letters and traces over the real broker."""

import secrets

import pytest

from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from processors.runtime.errors import Transient
from schemas.runs.topics import PERSISTENCE
from tests.support.librdkafka import raise_fatal_error
from tests.support.log import read_topic
from tests.support.stack import RunningStack


async def test_after_a_fatal_error_of_librdkafka_a_repeated_write_succeeds(stack: RunningStack) -> None:
    topic, key = PERSISTENCE.settled, secrets.token_hex(8).encode()
    record = OutgoingRecord(key=key, value=None, headers=[])
    writer = LogWriter(stack.kafka, client_id="contract")
    await writer.write(topic, [record])
    raise_fatal_error(writer._producer)
    with pytest.raises(Transient):
        await writer.write(topic, [record])
    await writer.write(topic, [record])
    await writer.close()
    assert [each.key() for each in read_topic(stack, topic)].count(key) in (2, 3)
