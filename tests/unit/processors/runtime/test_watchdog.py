"""What no longer turns is noticed."""

from processors.runtime.watchdog import Watchdog


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_beat_that_stays_away_is_late() -> None:
    clock = Clock()
    watchdog = Watchdog(60, fatal=lambda _: None, clock=clock)
    watchdog.beat("loop")
    watchdog.beat("fetch")
    clock.now_s = 59
    watchdog.beat("loop")
    assert watchdog.late() is None
    clock.now_s = 61
    assert watchdog.late() == "fetch"
    watchdog.beat("fetch")
    assert watchdog.late() is None


def test_what_has_never_beaten_is_not_watched() -> None:
    clock = Clock()
    clock.now_s = 1000
    assert Watchdog(60, fatal=lambda _: None, clock=clock).late() is None
