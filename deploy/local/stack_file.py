"""`<dir>/stack.json`: the addresses and processes of a running stack; there while it is ready, and true."""

import os
from pathlib import Path

import msgspec

NAME = "stack.json"
TEMPORARY = f".{NAME}"


class RunningProcess(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack."""

    name: str
    pid: int
    log: str


class Stack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole file."""

    gateway: str
    websocket: str | None = None  # None, and left out: the stack has no fanout
    management: dict[str, str]
    kafka: str
    postgres: str
    api_key: str
    agent_id: str
    agent_secret: str
    processes: list[RunningProcess]


def read(folder: Path) -> Stack | None:
    """Return the stack that runs in *folder*, or None."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Stack)
    except FileNotFoundError:
        return None


def write(folder: Path, stack: Stack) -> None:
    """Replace the file atomically, readable by its owner alone."""
    temporary = folder / TEMPORARY
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(stack), indent=2) + b"\n")
    temporary.replace(folder / NAME)


def remove(folder: Path) -> None:
    """Remove the file: no stack is ready here any more."""
    (folder / NAME).unlink(missing_ok=True)
