"""Times for which a schedule fires, where it was not looked at in time."""

from datetime import UTC, datetime, timedelta

import pytest

from processors.jobs.intake.schedules import LATE_AFTER, moments_to_fire
from schemas.jobs.cron import CATCH_UP_MAX, ScheduleDefinition
from schemas.jobs.states import Missed

DUE = datetime(2026, 11, 30, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hourly(missed: Missed) -> ScheduleDefinition:
    return ScheduleDefinition(name="hourly", cron="0 * * * *", type="echo", missed=missed)


@pytest.mark.parametrize("missed", Missed)
def test_a_time_that_is_seen_at_once_fires_once(missed: Missed) -> None:
    assert list(moments_to_fire(hourly(missed), due_at=DUE, now=DUE + timedelta(seconds=1))) == [DUE]


def test_missed_times_become_one_that_stands_for_the_last() -> None:
    assert list(moments_to_fire(hourly(Missed.COALESCE), due_at=DUE, now=DUE + 5.5 * HOUR)) == [DUE + 5 * HOUR]


def test_missed_times_may_be_skipped() -> None:
    assert list(moments_to_fire(hourly(Missed.SKIP), due_at=DUE, now=DUE + 5.5 * HOUR)) == []


def test_of_skipped_times_the_one_that_is_due_now_fires() -> None:
    now = DUE + 5 * HOUR + LATE_AFTER
    assert list(moments_to_fire(hourly(Missed.SKIP), due_at=DUE, now=now)) == [DUE + 5 * HOUR]


def test_missed_times_may_be_made_up_for() -> None:
    expected = [DUE + number * HOUR for number in range(6)]
    assert list(moments_to_fire(hourly(Missed.CATCH_UP), due_at=DUE, now=DUE + 5.5 * HOUR)) == expected


def test_no_more_than_a_bound_is_made_up_for() -> None:
    moments = moments_to_fire(hourly(Missed.CATCH_UP), due_at=DUE, now=DUE + timedelta(days=365))
    assert len(moments) == CATCH_UP_MAX
    assert moments[-1] == DUE + timedelta(days=365)


def test_a_year_of_missed_minutes_is_one() -> None:
    each_minute = ScheduleDefinition(name="often", cron="* * * * *", type="echo")
    now = DUE + timedelta(days=365)
    assert list(moments_to_fire(each_minute, due_at=DUE, now=now)) == [now]


def test_of_a_year_of_skipped_minutes_the_one_that_is_due_now_fires() -> None:
    each_minute = ScheduleDefinition(name="often", cron="* * * * *", type="echo", missed=Missed.SKIP)
    now = DUE + timedelta(days=365)
    assert list(moments_to_fire(each_minute, due_at=DUE, now=now)) == [now]


def test_a_clock_that_went_back_fires_nothing_but_what_is_due() -> None:
    assert list(moments_to_fire(hourly(Missed.CATCH_UP), due_at=DUE, now=DUE - HOUR)) == [DUE]
