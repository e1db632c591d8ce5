"""Times of schedules where the clock changes: by an hour, by half of one, and by two."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest

from schemas.jobs.cron import ScheduleDefinition, definition_faults, next_times, passed_times, times

BERLIN, LORD_HOWE, TROLL = "Europe/Berlin", "Australia/Lord_Howe", "Antarctica/Troll"
# The moments at which clocks change, in 2026.
FORWARD = {
    BERLIN: datetime(2026, 3, 29, 1, tzinfo=UTC),
    LORD_HOWE: datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    TROLL: datetime(2026, 3, 29, 1, tzinfo=UTC),
}
BACK = {
    BERLIN: datetime(2026, 10, 25, 1, tzinfo=UTC),
    LORD_HOWE: datetime(2026, 4, 4, 15, tzinfo=UTC),
    TROLL: datetime(2026, 10, 25, 1, tzinfo=UTC),
}
DAY = timedelta(days=1)


def schedule(cron: str, zone: str = "UTC") -> ScheduleDefinition:
    return ScheduleDefinition(name="x", cron=cron, timezone=zone, type="echo")


def around(moment: datetime, cron: str, zone: str) -> list[datetime]:
    """Return the times within a day before and a day after a moment."""
    return list(takewhile(lambda time: time < moment + DAY, times(schedule(cron, zone), after=moment - DAY)))


@pytest.mark.parametrize(
    ("zone", "cron"),
    [
        (BERLIN, "30 2 * * *"),
        (BERLIN, "0 2 * * *"),
        (LORD_HOWE, "15 2 * * *"),
        (TROLL, "30 1 * * *"),
        (TROLL, "30 2 * * *"),
    ],
)
def test_a_time_that_the_clock_skips_fires_once_when_it_has_gone_past(zone: str, cron: str) -> None:
    moment = FORWARD[zone]
    near = [time for time in around(moment, cron, zone) if abs(time - moment) < timedelta(hours=4)]
    assert near == [moment]


@pytest.mark.parametrize(
    ("zone", "cron"),
    [
        (BERLIN, "30 2 * * *"),
        (BERLIN, "0 2 * * *"),
        (LORD_HOWE, "45 1 * * *"),
        (TROLL, "30 1 * * *"),
        (TROLL, "30 2 * * *"),
    ],
)
def test_a_time_that_the_clock_repeats_fires_once(zone: str, cron: str) -> None:
    moment = BACK[zone]
    near = [time for time in around(moment, cron, zone) if abs(time - moment) < timedelta(hours=4)]
    assert len(near) == 1
    local = near[0].astimezone(ZoneInfo(zone))
    minute, hour, *_ = cron.split()
    assert (local.hour, local.minute) == (int(hour), int(minute))


@pytest.mark.parametrize("zone", [BERLIN, TROLL])
@pytest.mark.parametrize("moments", [FORWARD, BACK])
def test_what_fires_each_hour_fires_in_each_real_hour(zone: str, moments: dict[str, datetime]) -> None:
    found = around(moments[zone], "0 * * * *", zone)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, TROLL])
@pytest.mark.parametrize("moments", [FORWARD, BACK])
def test_what_fires_each_half_hour_fires_in_each_real_half_hour(zone: str, moments: dict[str, datetime]) -> None:
    found = around(moments[zone], "*/30 * * * *", zone)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=30)}


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, TROLL])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 3 * * *", "*/30 * * * *", "45 1 * * *", "0 2-3 * * *"])
@pytest.mark.parametrize("moments", [FORWARD, BACK])
def test_times_are_the_same_wherever_one_begins(zone: str, cron: str, moments: dict[str, datetime]) -> None:
    """A scheduler that restarts between two times goes on with the next one."""
    found = around(moments[zone], cron, zone)
    one_by_one, after = [], moments[zone] - DAY
    while (following := next_times(schedule(cron, zone), after=after, count=1)[0]) < moments[zone] + DAY:
        one_by_one.append(following)
        after = following
    assert one_by_one == found


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, TROLL])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 3 * * *", "*/30 * * * *", "45 1 * * *", "0 2-3 * * *"])
@pytest.mark.parametrize("moments", [FORWARD, BACK])
def test_times_are_the_same_backwards(zone: str, cron: str, moments: dict[str, datetime]) -> None:
    after, until = moments[zone] - DAY, moments[zone] + DAY
    forwards = list(takewhile(lambda time: time <= until, times(schedule(cron, zone), after=after)))
    assert passed_times(schedule(cron, zone), after=after, until=until, count=1000) == forwards
    assert passed_times(schedule(cron, zone), after=after, until=until, count=2) == forwards[-2:]


def test_times_are_in_utc_and_grow() -> None:
    found = next_times(schedule("*/20 * * * *", BERLIN), after=FORWARD[BERLIN] - DAY, count=300)
    assert all(earlier < later for earlier, later in pairwise(found))
    assert {time.tzinfo for time in found} == {UTC}


@pytest.mark.parametrize(
    ("cron", "zone", "pointer"),
    [
        ("0 * * * *", "Mars/Olympus", "/timezone"),
        ("* * * *", "UTC", "/cron"),
        ("* * * * * *", "UTC", "/cron"),
        ("61 * * * *", "UTC", "/cron"),
        ("never at * all *", "UTC", "/cron"),
        ("0 0 30 2 *", "UTC", "/cron"),
    ],
)
def test_what_gives_no_times_is_a_fault(cron: str, zone: str, pointer: str) -> None:
    assert [fault.pointer for fault in definition_faults(schedule(cron, zone))] == [pointer]


def test_a_usual_schedule_has_no_fault() -> None:
    assert definition_faults(schedule("30 2 * * 1-5", BERLIN)) == []
