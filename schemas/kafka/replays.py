"""
A replay: a fixed range of a group's source, handled once more by a group of its own (`Group.replaying`).

`tidegate replay` plans it, `python -m processors NAME --replay FILE` carries it out; its committed offsets say how far
it is, so that it goes on where it was when either of them is ended.
"""

from pathlib import Path

import msgspec


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The records to replay, as the plan (JSON) gives them."""

    id: str
    group: str  # the name of the live group
    starts: dict[int, int]  # by partition: the first offset
    ends: dict[int, int]  # by partition: the one behind the last
    run_id: str | None = None  # None: every run
    overwrite: bool = False  # False: add what is missing


def write(path: Path, replay: Replay) -> None:
    """Keep the plan."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(replay)))


def read(path: Path) -> Replay:
    """
    Read a plan.

    Raises:
        OSError, ValueError: there is no plan, or it is not valid.
    """
    return msgspec.json.decode(path.read_bytes(), type=Replay)
