"""
Times of schedules: cron expressions in a time zone, by cronsim.

A fixed time that the clock skips in spring fires once, when the clock has gone past it; one that it repeats in autumn
fires once. An expression with a wildcard hour or minute goes by real time and fires in each hour there is.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import Meta

from schemas.errors import Fault
from schemas.jobs.rules import ATTEMPTS_MAX, PRIORITY_DEFAULT, PRIORITY_MAX, PRIORITY_MIN, TYPE_PATTERN
from schemas.jobs.states import Missed, Overlap
from schemas.texts import LABEL_PATTERN

SHOWN_TIMES = 5
CRON_CHARACTERS_MAX = 120
CATCH_UP_MAX = 100
_TICK = timedelta(microseconds=1)


class ScheduleDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule as a user defines it."""

    name: Annotated[str, Meta(description="Unique within the tenant", pattern=LABEL_PATTERN)]
    cron: Annotated[
        str,
        Meta(
            description="Five fields: minute, hour, day, month, weekday",
            max_length=CRON_CHARACTERS_MAX,
            examples=["30 2 * * 1-5"],
        ),
    ]
    timezone: Annotated[str, Meta(description="An IANA zone", examples=["Europe/Berlin"])] = "UTC"
    type: Annotated[str, Meta(description="The task type", pattern=TYPE_PATTERN)]
    parameters: dict[str, Any] = {}
    queue: Annotated[str | None, Meta(description="The type's own by default")] = None
    priority: Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)] = PRIORITY_DEFAULT
    max_attempts: Annotated[int, Meta(ge=1, le=ATTEMPTS_MAX)] | None = None
    missed: Annotated[
        Missed, Meta(description=f"Times that passed unseen: one job, none, or one each ({CATCH_UP_MAX} at most)")
    ] = Missed.COALESCE
    overlap: Annotated[Overlap, Meta(description="While its last job is not finished")] = Overlap.ALLOW


def definition_faults(definition: ScheduleDefinition) -> list[Fault]:
    """Return what is wrong with the times of a schedule."""
    if definition.timezone not in available_timezones():
        return [Fault(pointer="/timezone", detail="no IANA time zone, such as Europe/Berlin")]
    if len(definition.cron.split()) != 5:  # noqa: PLR2004  cronsim takes a sixth for seconds
        return [Fault(pointer="/cron", detail="five fields: minute, hour, day, month, weekday")]
    try:
        next(times(definition, after=datetime.now(UTC)))
    except CronSimError as error:
        return [Fault(pointer="/cron", detail=f"{error}: five fields, such as 30 2 * * 1-5")]
    except StopIteration:
        return [Fault(pointer="/cron", detail="no such time within the next 50 years")]
    return []


def times(definition: ScheduleDefinition, *, after: datetime) -> Iterator[datetime]:
    """
    Yield the times of a schedule after a moment, in UTC.

    Raises:
        CronSimError: the expression is not valid.
    """
    zone = ZoneInfo(definition.timezone)
    last = after
    for moment in CronSim(definition.cron, after.astimezone(zone)):
        found = moment.astimezone(UTC)
        if found > last:  # a time in a skipped hour may be given twice
            last = found
            yield found


def passed_times(definition: ScheduleDefinition, *, after: datetime, until: datetime, count: int) -> list[datetime]:
    """Return the times of a schedule after a moment and up to another, the newest *count* of them, the oldest first."""
    zone = ZoneInfo(definition.timezone)
    found: list[datetime] = []
    for moment in CronSim(definition.cron, (until + _TICK).astimezone(zone), reverse=True):
        time = moment.astimezone(UTC)
        if time <= after or len(found) == count:
            break
        if not found or time < found[-1]:  # a time in a skipped hour may be given twice
            found.append(time)
    return found[::-1]


def next_times(definition: ScheduleDefinition, *, after: datetime, count: int = SHOWN_TIMES) -> list[datetime]:
    """Return the next *count* times of a schedule after a moment, in UTC; fewer where there are no more."""
    return list(islice(times(definition, after=after), count))
