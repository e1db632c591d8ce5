"""The stack's broker with more than the stack gives it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.stack import RunningStack

NAME = "FAULTS"


@contextmanager
def listening_also(stack: RunningStack, host: str, port: int, *, advertised: str) -> Iterator[None]:
    """
    Restart the broker with one more listener, whose clients it sends to *advertised*; in the end without it.

    Why: a client goes where the broker says that it is, so a proxy must be what the broker says.
    """
    before = (stack.folder / "kafka" / "server.properties").read_text()
    given = dict(line.split("=", 1) for line in before.splitlines())
    given["listeners"] += f",{NAME}://{host}:{port}"
    given["advertised.listeners"] += f",{NAME}://{advertised}"
    given["listener.security.protocol.map"] = f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{NAME}:PLAINTEXT"
    _restart(stack, "".join(f"{name}={value}\n" for name, value in given.items()))
    try:
        yield
    finally:
        _restart(stack, before)


def _restart(stack: RunningStack, properties: str) -> None:
    (stack.folder / "kafka" / "server.properties").write_text(properties)
    stack.wait_restarted("kafka", stack.kill("kafka", signal.SIGTERM))
