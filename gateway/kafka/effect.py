"""The effect of a consumer group on a record, and the port by which a domain reports it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from gateway.kafka.reader import LogRecord
from schemas.access.credentials import Principal
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The effect of a record."""

    outcome: Annotated[
        Literal[
            "stored",
            "duplicate",
            "replaced",
            "rejected",
            "delivered",
            "processed",
            "filtered",
            "deferred",
            "dead_lettered",
            "unknown",
        ],
        Meta(
            description="replaced: stored, until a later capture took its place; filtered: the endpoint does not ask "
            "for it, or began behind it; deferred: it failed, and is tried again at `due_at`; "
            "unknown: `detail` says why"
        ),
    ]
    reason: str | None = None
    detail: str | None = None
    in_place_of: Annotated[
        str | None, Meta(description="The wal_id that counts instead: the first of duplicates, a later capture")
    ] = None
    dead_letter: Annotated[str | None, Meta(description="The place of its dead letter")] = None
    at: datetime | None = None
    due_at: Annotated[datetime | None, Meta(description="When what is deferred is tried again")] = None


NOTHING_KNOWN = Effect(
    outcome="unknown",
    detail="neither in the store nor among the dead letters from its time on: retention may have removed it",
)
EXPIRED = Effect(outcome="unknown", detail="the record has expired, and was not put aside from its time on")


class EffectFinder(Protocol):
    """The port to a domain's effects, of a group or of a family of groups."""

    async def stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """
        Return what the store has of a record; None if it has nothing, or the group stores nothing.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    def presumed(self, group: Group, place: RecordPlace, record: LogRecord | None) -> Effect:
        """Return the effect on a record that is neither stored nor put aside; None for *record*: it has expired."""


def command_effect(row: Mapping[str, Any], *, state: str | None) -> Effect:
    """Return the effect of a command on a job, from its row; *state* is the job's, None where there is no job."""
    if row["outcome"] == "rejected":
        detail = f"refused: {row['reason']}" if row["reason"] else "refused"
    else:
        detail = "; ".join(filter(None, (None if state is None else f"job is {state}", row["reason"])))
    return Effect(outcome=row["outcome"], detail=detail or None, at=row["stored_at"])
