"""
The names of archived objects, below the location of object storage.

The id of the topic is in the name since a topic that is created anew begins at 0 again; no date is, since a part of
the log that is archived again must come to the same name.
"""

import re
from dataclasses import dataclass

PREFIX = "archive/v1"  # of every name; the version is that of the format

_NAME = re.compile(
    rf"{re.escape(PREFIX)}/(?P<topic>[A-Za-z0-9._-]+)/(?P<topic_id>[A-Za-z0-9_-]+)"
    r"/p=(?P<partition>[0-9]{5,10})/(?P<first>[0-9]{20})\.jsonl\.zst\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Branch:
    """The objects of one partition of a topic: their folder."""

    topic: str
    topic_id: str
    partition: int

    @property
    def prefix(self) -> str:
        """Return what the names of its objects begin with; it ends with a slash."""
        return f"{PREFIX}/{self.topic}/{self.topic_id}/p={self.partition:05}/"

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectName:
    """The name of one object: where it belongs, and the offset that it begins at."""

    branch: Branch
    first: int

    @property
    def key(self) -> str:
        """Return the name in object storage."""
        return f"{self.branch.prefix}{self.first:020}.jsonl.zst"


def parse(key: str) -> ObjectName | None:
    """Return the name that *key* spells; None if it is none of an archived object."""
    found = _NAME.match(key)
    if found is None:
        return None
    branch = Branch(topic=found["topic"], topic_id=found["topic_id"], partition=int(found["partition"]))
    name = ObjectName(branch=branch, first=int(found["first"]))
    return name if name.key == key else None
