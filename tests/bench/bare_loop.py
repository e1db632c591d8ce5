"""
The baseline of the groups that store rows: consume + fastavro + COPY, and nothing that makes it safe.

The fastest plain loop we know: librdkafka's consumer, records decoded to dicts, COPY into a table with the same
columns and keys, offsets committed without waiting. It loses and doubles rows when it is killed.
"""

import io
from collections.abc import Mapping
from time import perf_counter
from typing import Any, cast

import fastavro
import psycopg
from confluent_kafka import Consumer, TopicPartition

from schemas.kafka import registry
from tests.bench.stored import StoredRows

SLICE_RECORDS = 2000


def rows_per_s(kafka: str, postgres: str, ends: Mapping[int, int], starts: Mapping[int, int], of: StoredRows) -> float:
    """Consume every partition from its start to its end offset; return the rows stored a second."""
    schema = fastavro.parse_schema(dict(registry.last_released()[of.schema].schema))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench.bare", "enable.auto.commit": False})
    consumer.assign([TopicPartition(of.topic.name, each, offset) for each, offset in starts.items()])
    expected = sum(ends.values()) - sum(starts.values())
    stored, started = 0, None
    with psycopg.connect(postgres) as database:
        # It stays from round to round, so that its indexes are as deep as those of the group's table.
        database.execute(f"CREATE TABLE IF NOT EXISTS bare_{of.table} (LIKE {of.table} INCLUDING ALL)".encode())
        database.commit()
        while stored < expected:
            messages = consumer.consume(SLICE_RECORDS, 1.0)
            started = started or perf_counter()
            with database.cursor() as cursor, cursor.copy(of.copy) as copy:
                for message in messages:
                    body = io.BytesIO(message.value() or b"")
                    body.seek(5)
                    copy.write_row(of.row(cast("Mapping[str, Any]", fastavro.schemaless_reader(body, schema)), message))
            database.commit()
            consumer.commit(asynchronous=True)
            stored += len(messages)
        seconds = perf_counter() - (started or 0.0)
    consumer.close()
    return stored / seconds
