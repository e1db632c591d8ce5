"""The API's views of a run. JSON from outside is passed on as the text that was sent."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Status = Literal["open", "succeeded", "failed", "cancelled", "abandoned"]


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    run_id: str
    agent_id: str | None
    status: Status
    event_count: int
    last_seq: int
    declared_event_count: int | None
    started_at: datetime
    updated_at: datetime
    finalized_at: datetime | None
    events_removed_at: Annotated[
        datetime | None, Meta(description="When retention last removed events of it; null: it did not")
    ] = None
    events_removed_count: Annotated[int, Meta(description="How many of the removed events are not stored again")] = 0

    @property
    def is_removed(self) -> bool:
        """Return True if retention removed events that are not stored again."""
        return self.events_removed_count > 0


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One stored event; payload and meta are the JSON that was sent, numbers untouched."""

    seq: int
    t: str
    actor: str
    type: str
    agent_id: str
    payload: Annotated[msgspec.Raw, Meta(description="As it was sent; with payload_ref null unless ?resolve=true")]
    payload_ref: Annotated[msgspec.Raw, Meta(description="Where a payload too large for the log is kept, or null")]
    payload_problem: (
        Annotated[Literal["missing", "damaged"], Meta(description="With ?resolve: why payload is still null")]
        | UnsetType
    ) = UNSET
    meta: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
    event_sha256: str
    wal_id: str
    received_at: datetime
    stored_at: datetime


class EnvironmentView(msgspec.Struct, frozen=True, kw_only=True):
    """The environment of a run."""

    run_id: str
    environment: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
    environment_sha256: str
    wal_id: str
    captured_at: datetime
