"""An archive that is so far behind that the log may lose records first is a problem."""

import pytest

from deploy.admin.lag import PartitionLag
from deploy.admin.problems import of_archive

DAY_S = 86_400.0


def lag(group: str, topic: str, seconds: float | None) -> PartitionLag:
    return PartitionLag(
        group=group, topic=topic, partition=3, committed=1, end=9, high_watermark=9, records=8, undecided=0, expired=0,
        seconds=seconds, fault=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("group", "topic", "seconds", "is_problem"),
    [
        ("archive.user.events", "user.events", 3.6 * DAY_S, True),
        ("archive.user.events", "user.events", 3.4 * DAY_S, False),
        ("archive.user.events", "user.events", None, False),
        ("archive.user.events", "user.events.archive.user.events.redrive", 9 * DAY_S, False),
        ("events", "user.events", 6 * DAY_S, False),
    ],
)
def test_half_of_the_retention_is_the_bound(group: str, topic: str, seconds: float | None, *, is_problem: bool) -> None:
    found = list(of_archive([lag(group, topic, seconds)]))
    assert len(found) == is_problem
    assert all("3.6 days behind in user.events/3" in text for text in found)
