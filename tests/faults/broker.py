"""The stack's broker with more than the stack gives it."""

import signal

from tests.stack import RunningStack

NAME = "FAULTS"


def listen_also(stack: RunningStack, host: str, port: int, *, advertised: str) -> None:
    """
    Restart the broker with one more listener, whose clients it sends to *advertised*.

    Why: a client goes where the broker says that it is, so a proxy must be what the broker says. The listener stays
    for the rest of the stack's life; nothing but the tests knows of it.
    """
    properties = stack.folder / "kafka" / "server.properties"
    lines = properties.read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines)
    given["listeners"] += f",{NAME}://{host}:{port}"
    given["advertised.listeners"] += f",{NAME}://{advertised}"
    given["listener.security.protocol.map"] = f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{NAME}:PLAINTEXT"
    properties.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    stack.wait_restarted("kafka", stack.kill("kafka", signal.SIGTERM))
