"""
The baseline of persistence: consume + fastavro + COPY, and nothing that makes it safe.

The fastest plain loop we know: librdkafka's consumer, records decoded to dicts, COPY into a table with the same
columns and keys, offsets committed without waiting. It loses and doubles rows when it is killed.
"""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from time import perf_counter

import fastavro
import psycopg
from confluent_kafka import Consumer, TopicPartition

from schemas.kafka import registry
from schemas.runs.topics import RUN_EVENTS

SLICE_RECORDS = 2000
COPY = """
    COPY bare (tenant_id, run_id, seq, idempotency_key, t, happened_at, actor, type, agent_id, payload, payload_ref,
        meta, event_sha256, kafka_partition, kafka_offset, received_at) FROM STDIN
"""


def rows_per_s(kafka: str, postgres: str, ends: Mapping[int, int], starts: Mapping[int, int]) -> float:
    """Consume every partition from its start to its end offset; return the rows stored a second."""
    schema = fastavro.parse_schema(dict(registry.last_released()["tidegate.runs.RunEvent"].schema))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench.bare", "enable.auto.commit": False})
    consumer.assign([TopicPartition(RUN_EVENTS.name, each, offset) for each, offset in starts.items()])
    expected = sum(ends.values()) - sum(starts.values())
    stored, started = 0, None
    with psycopg.connect(postgres) as database:
        # It stays from round to round, so that its indexes are as deep as those of trace_events.
        database.execute("CREATE TABLE IF NOT EXISTS bare (LIKE trace_events INCLUDING ALL)")
        database.commit()
        while stored < expected:
            messages = consumer.consume(SLICE_RECORDS, 1.0)
            started = started or perf_counter()
            with database.cursor() as cursor, cursor.copy(COPY) as copy:
                for message in messages:
                    body = io.BytesIO(message.value() or b"")
                    body.seek(5)
                    event = fastavro.schemaless_reader(body, schema)
                    copy.write_row((
                        event["tenant"], event["run_id"], event["seq"], event["idempotency_key"], event["t"],
                        event["t"], event["actor"], event["type"], event["agent_id"], event["payload"], None,
                        event["meta"], event["event_sha256"], message.partition(), message.offset(),
                        datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
                    ))  # fmt: skip
            database.commit()
            consumer.commit(asynchronous=True)
            stored += len(messages)
        seconds = perf_counter() - (started or 0.0)
    consumer.close()
    return stored / seconds
