"""The trace record of a finalized run, as readers see it. It is answered as the text that was stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

Counts = Annotated[Mapping[str, int], Meta(description="By name; under * stand those beyond the first 500 names")]
Ranges = Annotated[Sequence[tuple[int, int]], Meta(description="First and last of each", examples=[[[3, 5], [8, 8]]])]


class MissingEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers below the last that no event of the run has."""

    count: int
    ranges: Ranges


class RemovedEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events that retention removed before the run was finalized."""

    at: datetime
    count: int


class AnsweredCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call and its result, which share an id."""

    id: str
    seq: int
    result_seq: int
    latency_s: float


class ToolCallsView(msgspec.Struct, frozen=True, kw_only=True):
    """The run's tool calls, as far as their payloads could be read."""

    count: int
    answered: Annotated[int, Meta(description="Calls whose result was found by its id")]
    latency_max_s: float | None
    latency_sum_s: float
    calls: Annotated[Sequence[AnsweredCall], Meta(description="The first of those that were answered")]


class TraceView(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of a finalized run."""

    status: str
    event_count: int
    declared_event_count: Annotated[int | None, Meta(description="What the client said on finalization, if it did")]
    complete: Annotated[bool, Meta(description="Nothing is missing or removed, and as many events as were declared")]
    types: Counts
    actors: Counts
    errors: Annotated[int, Meta(description="Events of type error")]
    first_t: datetime | None
    last_t: datetime | None
    duration_s: float | None
    missing: MissingEvents
    duplicates: Annotated[int, Meta(description="Records that repeat a stored one elsewhere in the log")]
    rejected: Annotated[int, Meta(description="Records that name this run and broke a rule")]
    payload_bytes: int
    payloads_unread: Annotated[
        int, Meta(description="Payloads in object storage: calls and tokens in them are not counted")
    ]
    tool_calls: ToolCallsView
    tokens: Annotated[Mapping[str, int], Meta(description="Sums of the counts in the payloads' `usage`, by name")]
    chain_head: Annotated[str, Meta(description="Of the hash chain over the stored events, as hex")]
    events_removed: Annotated[RemovedEvents | UnsetType, Meta(description="Present where retention removed any")] = (
        UNSET
    )
    wrong_partition: Annotated[
        int | UnsetType, Meta(description="Records of the run that were in another partition than its key's")
    ] = UNSET
