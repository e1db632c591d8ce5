"""
A load client: N connections, each with a run or a user of its own, each request sent when the one before was answered.

Run as a process of its own, so that it takes the other core. It speaks HTTP/1.1 by hand: a client library would cost
more than the server under test. What is refused is sent again at once. Prints one JSON line.
"""

import argparse
import asyncio
import json
import secrets
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import uvloop

SEQ_WIDTH = 10  # JSON allows blanks before a number: every body has the same length


@dataclass(slots=True)
class Result:
    """What came of the load; latencies in seconds, of what was answered 202."""

    answered: int = 0
    busy: int = 0  # 429 that says when to come again
    refused: int = 0  # any other answer
    seconds: float = 0.0
    median_s: float = 0.0
    p99_s: float = 0.0
    _latencies_s: list[float] = field(default_factory=list)

    def close(self, seconds: float) -> None:
        ordered = sorted(self._latencies_s) or [0.0]
        self.seconds = seconds
        self.median_s = ordered[len(ordered) // 2]
        self.p99_s = ordered[int(len(ordered) * 0.99)]


class RunBodies:
    """Events of one run, numbered; what was refused is sent again under its numbers."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        run_id = f"bench-{secrets.token_hex(8)}"
        event = {
            "t": "2026-01-01T00:00:00Z",
            "actor": "agent",
            "type": "reasoning",
            "payload": {"text": "x" * arguments.size},
            "meta": {"run_id": run_id, "agent_id": arguments.agent},
        }
        self._seq = 0
        self._rest = json.dumps(event)[1:].encode()
        self._batch = arguments.batch
        self.path = f"/api/runs/{run_id}/events/{'batch' if self._batch else ''}"

    def next(self) -> bytes:
        first, self._seq = self._seq + 1, self._seq + max(1, self._batch)
        events = [b'{"seq":%*d,%s' % (SEQ_WIDTH, seq, self._rest) for seq in range(first, self._seq + 1)]
        return b"[%s]" % b",".join(events) if self._batch else events[0]

    def repeat(self) -> None:
        self._seq -= max(1, self._batch)


class UserBodies:
    """Events of one user, each with an id of its own, of the size of a run's."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        user_id = arguments.user or f"bench-{secrets.token_hex(8)}"
        event = {
            "type": "reasoning",
            "occurred_at": "2026-01-01T00:00:00Z",
            "user_id": user_id,
            "payload": {"text": "x" * arguments.size},
        }
        self._number = 0
        self._prefix = secrets.token_hex(8)
        self._rest = json.dumps(event)[1:].encode()
        self._batch = arguments.batch
        self.path = f"/api/v1/events{'/batch' if self._batch else ''}"

    def next(self) -> bytes:
        first, self._number = self._number + 1, self._number + max(1, self._batch)
        events = [
            b'{"id":"%s-%0*d",%s' % (self._prefix.encode(), SEQ_WIDTH, number, self._rest)
            for number in range(first, self._number + 1)
        ]
        return b"[%s]" % b",".join(events) if self._batch else events[0]

    def repeat(self) -> None:
        self._number -= max(1, self._batch)


class JobBodies:
    """Jobs that do nothing, all alike: each is one of its own."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._body = json.dumps({"type": "echo", "parameters": {"value": "x" * arguments.size}}).encode()
        self._batch = arguments.batch
        self.path = f"/api/tasks{'/batch' if self._batch else ''}"

    def next(self) -> bytes:
        return b"[%s]" % b",".join([self._body] * self._batch) if self._batch else self._body

    def repeat(self) -> None:
        """Do nothing: the next one is the same."""


class Connection(asyncio.Protocol):
    """Sends events over one connection, as long as `running`."""

    running = True

    def __init__(self, host: str, arguments: argparse.Namespace, result: Result) -> None:
        bodies = JobBodies if arguments.jobs else UserBodies if arguments.user_events else RunBodies
        self._bodies = bodies(arguments)
        length = len(self._bodies.next())
        self._bodies.repeat()
        who = f"Authorization: Bearer {arguments.token}" if arguments.token else f"X-API-Key: {arguments.api_key}"
        self._head = (
            f"POST {self._bodies.path} HTTP/1.1\r\nHost: {host}\r\n{who}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()
        self._pause_s = arguments.pause
        self._result = result
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        # An answer comes in one piece on loopback, or the one with the status is the first of them.
        if not data.startswith(b"HTTP/1.1 "):
            return
        if data.startswith(b"HTTP/1.1 202"):
            self._result._latencies_s.append(perf_counter() - self._sent_at)
            self._result.answered += 1
        else:
            self._bodies.repeat()
            if data.startswith(b"HTTP/1.1 429") and b"\r\nRetry-After: " in data:
                self._result.busy += 1
            else:
                self._result.refused += 1
        if not self.running:
            return
        if self._pause_s:
            asyncio.get_running_loop().call_later(self._pause_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        assert self._transport is not None
        body = self._bodies.next()
        self._sent_at = perf_counter()
        self._transport.write(self._head + body)


async def load(arguments: argparse.Namespace) -> Result:
    """Send for the given time and return what came of it."""
    address = urlsplit(arguments.url)
    result = Result()
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(arguments.connections):
        transport, _ = await loop.create_connection(
            lambda: Connection(address.netloc, arguments, result),
            address.hostname,
            address.port,
        )
        transports.append(transport)
    started = perf_counter()
    await asyncio.sleep(arguments.seconds)
    result.close(perf_counter() - started)
    Connection.running = False
    await asyncio.sleep(0.5)
    for transport in transports:
        transport.close()
    return result


def main() -> None:
    """Read the command line, load, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--token", help="of a user, instead of the API key")
    parser.add_argument("--user-events", action="store_true", help="events of users instead of runs")
    parser.add_argument("--jobs", action="store_true", help="jobs instead of events")
    parser.add_argument("--user", help="whose events; without it, each connection has a user of its own")
    parser.add_argument("--agent", default="plain-agent")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", type=int, default=200, help="bytes of payload text")
    parser.add_argument("--batch", type=int, default=0, help="events a request; 0: single events")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between an answer and the next event")
    result = asdict(uvloop.run(load(parser.parse_args())))
    del result["_latencies_s"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
