"""The description of one program that the supervisor runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The system account a program runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program: how to start it, how to tell that it is ready, how to stop it."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], bool]  # asks once and blocks at most a few seconds
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of the supervisor's own
    folder: Path | None = None  # its working directory; None: the supervisor's
    account: Account | None = None  # None: the supervisor's
    stop_signal: Signals = SIGTERM
    death_signal: Signals = SIGKILL  # what it gets when the supervisor dies
    stop_timeout_s: float = STOP_TIMEOUT_S
