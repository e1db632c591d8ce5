"""The loopback ports of the stack: the known ones if they are free, otherwise others."""

import secrets
import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

from deploy.errors import CommandFailed

HOST = "127.0.0.1"
CONNECT_TIMEOUT_S = 1.0
# Below the range that systems hand out to outgoing connections, so that a port stays free while a process that
# listens on it starts again.
AUTO_FIRST = 20_000
AUTO_LAST = 32_000
AUTO_ATTEMPTS_MAX = 1_000


class Choice(StrEnum):
    """The values of `--ports`."""

    DEFAULT = "default"
    AUTO = "auto"


def can_listen(port: int, host: str = HOST) -> bool:
    """Return True if a server could listen on *port* of *host* now."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: connections that were closed a moment ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def is_taken(port: int) -> bool:
    """Return True if someone listens on *port*."""
    try:
        socket.create_connection((HOST, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def choose(
    defaults: Mapping[str, int],
    choice: Choice,
    say: Callable[[str], None],
    is_free: Callable[[int], bool] = can_listen,
    *,
    fixed: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, int]:
    """
    Return a free port for each name: the one that *fixed* has for it, else its default if that is wanted and free.

    Raises:
        CommandFailed: a fixed port is taken.
    """
    chosen: dict[str, int] = {}
    for name, port in fixed.items():
        if not is_free(port) or port in chosen.values():
            raise CommandFailed(f"port {port}, which a setting names for {name}, is taken: free it or name another")
        chosen[name] = port
    for name, default in defaults.items():
        if name in chosen:
            continue
        if choice is Choice.DEFAULT and is_free(default) and default not in chosen.values():
            chosen[name] = default
            continue
        chosen[name] = _any_free(is_free, {*defaults.values(), *chosen.values()})
        if choice is Choice.DEFAULT:
            say(f"port {default} is taken: {name} listens on {chosen[name]}")
    return chosen


def _any_free(is_free: Callable[[int], bool], taken: set[int]) -> int:
    for _ in range(AUTO_ATTEMPTS_MAX):
        port = AUTO_FIRST + secrets.randbelow(AUTO_LAST - AUTO_FIRST)
        if port not in taken and is_free(port):
            return port
    raise OSError(f"no free port found between {AUTO_FIRST} and {AUTO_LAST}")
