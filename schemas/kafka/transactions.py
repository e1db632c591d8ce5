"""
The open transactions in a partition: what keeps its last stable offset behind its end.

Whoever reads committed records only, as every group of ours does, sees nothing behind the first record of an open
transaction, whoever wrote it. Kafka tells of them by DescribeProducers (KIP-664), which none of our clients offers:
the request is made here, on aiokafka's connection.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import TopicPartition

from schemas.kafka.connection import KafkaSettings, aiokafka_options
from schemas.kafka.places import Partition

DESCRIBE_PRODUCERS = 61
NO_TRANSACTION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """A transaction that is neither committed nor aborted."""

    producer_id: int
    first_offset: int
    last_written_at: datetime


class TransactionsUnknown(Exception):
    """Kafka does not list its open transactions now."""


class _Response(Response):  # type: ignore[misc]  # aiokafka is untyped to us
    API_KEY = DESCRIBE_PRODUCERS
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition_index", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("current_txn_start_offset", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _RequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = DESCRIBE_PRODUCERS
    API_VERSION = 0
    RESPONSE_TYPE = _Response
    FLEXIBLE_VERSION: ClassVar[bool] = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partition_indexes", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeProducers(Request[_RequestV0]):  # type: ignore[misc]
    API_KEY = DESCRIBE_PRODUCERS

    def __init__(self, place: Partition) -> None:
        self._place = place

    def build(self, request_struct_class: type[_RequestV0]) -> _RequestV0:
        topic, partition = self._place
        return request_struct_class([(topic, [partition], {})], {})


async def open_transactions(kafka: KafkaSettings, place: Partition, *, timeout_s: float) -> list[OpenTransaction]:
    """
    Return the open transactions in *place*, the oldest first.

    Raises:
        TransactionsUnknown: Kafka does not tell within *timeout_s*.
    """
    client: Any = AIOKafkaClient(
        **aiokafka_options(kafka),
        client_id="tidegate-transactions",
        request_timeout_ms=round(timeout_s * 1000),
    )
    try:
        await client.bootstrap()
        await client.set_topics([place[0]])
        leader = client.cluster.leader_for_partition(TopicPartition(*place))
        response = await client.send(leader, _DescribeProducers(place))
    except KafkaError as error:
        raise TransactionsUnknown(str(error)) from error
    finally:
        await client.close()
    [(_, [(_, error_code, _, producers, _)], _)] = response.topics
    if error_code:
        raise TransactionsUnknown(for_code(error_code).__name__)
    found = [
        OpenTransaction(
            producer_id=producer_id,
            first_offset=first_offset,
            last_written_at=datetime.fromtimestamp(last_timestamp_ms / 1000, UTC),
        )
        for producer_id, _, _, last_timestamp_ms, _, first_offset, _ in producers
        if first_offset != NO_TRANSACTION
    ]
    return sorted(found, key=lambda each: each.first_offset)
