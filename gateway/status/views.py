"""The responses for receipts and for the log's status."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.kafka.effect import Effect

State = Literal["waiting", "done", "missed", "not_started", "displaced"]


class LogView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The presence of the record in the log; an expired record is below its partition's first offset."""

    state: Annotated[
        Literal["present", "expired", "undecided"],
        Meta(description="undecided: behind the beginning of an open transaction, so no group sees it yet"),
    ]
    first_offset: int
    end_offset: Annotated[int, Meta(description="The last stable offset: what groups can see ends here")]
    detail: Annotated[str | None, Meta(description="For an undecided record: which transaction is open")] = None


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """The decoded record, or what its headers tell where it cannot be decoded."""

    name: Annotated[str | None, Meta(description="The record's type; null where it does not decode")]
    tenant: str | None
    run_id: str | None
    seq: int | None
    event_id: str | None
    key: str | None
    written_at: datetime | None
    problem: Annotated[str | None, Meta(description="Why it does not decode")]
    wrong_partition: Annotated[
        bool,
        Meta(
            description="Its producer does not use murmur2: its key belongs in `key_partition`, and its order against "
            "the other records of its run is not that of the log"
        ),
    ] = False
    key_partition: Annotated[int | None, Meta(description="Where its key belongs; null where that is not known")] = None


class GroupReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """State of the record in one consumer group."""

    group: str
    state: Annotated[
        State,
        Meta(
            description="done: committed past it; missed: it expired before the group came to it; displaced: the "
            "group's position has outlived the log, `problem` says how, and what became of the record is not known"
        ),
    ]
    committed: int | None
    records_ahead: Annotated[
        int | None, Meta(description="How many records the group handles before it; null unless it waits")
    ]
    waiting_s: Annotated[float | None, Meta(description="How long it has waited; null unless it waits")]
    last_progress_at: Annotated[
        datetime | None, Meta(description="When this gateway last saw the group go on in this partition")
    ]
    effect: Annotated[Effect | None, Meta(description="Its effect; null unless the group has committed past it")]
    problem: Annotated[str | None, Meta(description="Why its state is displaced")] = None


class WalReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of the record at one position in the log."""

    wal_id: str
    log: LogView
    record: RecordView | None
    groups: Sequence[GroupReceipt]


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The offsets of one partition."""

    partition: int
    first_offset: int
    end_offset: Annotated[int, Meta(description="The last stable offset: what groups can see ends here")]
    undecided_records: Annotated[
        int, Meta(description="Behind the beginning of an open transaction: high watermark minus last stable offset")
    ]


class TopicStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The partitions of one topic."""

    topic: str
    records_per_s: Annotated[float | None, Meta(description="Since the measurement before this one; null on the first")]
    partitions: Sequence[PartitionStatus]


class GroupPartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Position of a group in one partition."""

    partition: int
    committed: int | None
    lag_records: int | None
    lag_s: Annotated[float | None, Meta(description="Age of the first record that waits; null where it is not known")]
    last_progress_at: datetime | None
    fault: Annotated[
        Literal["beyond_end", "rewritten", "recreated"] | None,
        Meta(description="Why the position has outlived the log, so that the group stops here; null if it has not"),
    ]


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Status of a webhook endpoint, as its worker last reported it."""

    name: str
    tenant: Annotated[str | None, Meta(description="Whose events it is sent; null: all tenants'")]
    types: Sequence[str]
    breaker: Literal["closed", "open", "half_open", "disabled"]
    reason: str | None
    since: datetime


class GroupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Status of one consumer group."""

    group: str
    topic: str
    state: Annotated[str | None, Meta(description="Kafka's word, such as Stable; null while Kafka does not say")]
    members: int | None
    lag_records: int
    lag_s: Annotated[float | None, Meta(description="Of the partition that is furthest behind")]
    dead_letters: int
    deferred: Annotated[int, Meta(description="Records that wait in its delay tiers")]
    sent_back: Annotated[int, Meta(description="Dead letters that were sent back and not handled since")]
    endpoint: Annotated[EndpointStatus | None, Meta(description="null: its worker has not started yet, or no endpoint")]
    partitions: Sequence[GroupPartitionStatus]


class GatewayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of the gateway that responds, and how fast it admits events while persistence lags."""

    in_flight_records: int
    admission_multiplier: Annotated[
        float, Meta(description="Admitted rate as a fraction of the persisted rate, 0.2 to 1")
    ]
    admitted_per_s: Annotated[float | None, Meta(description="Events admitted a second; null: no limit")]


class WalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Status of the log and its consumer groups."""

    measured_at: datetime
    topics: Sequence[TopicStatus]
    groups: Sequence[GroupStatus]
    gateway: GatewayStatus
