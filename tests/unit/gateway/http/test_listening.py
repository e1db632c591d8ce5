"""Connections are accepted as they come, also by a loop that is busy, and also after files ran out."""

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest
import uvloop

from gateway.http import listening
from gateway.http.listening import Listener

HOST = "127.0.0.1"
CROWD = 200
TURNS = 10


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Arrivals:
    """Counts the connections that got a protocol."""

    def __init__(self) -> None:
        self.count = 0
        self.first = asyncio.Event()

    def __call__(self) -> asyncio.Protocol:
        self.count += 1
        self.first.set()
        return Echo()


def test_a_crowd_is_let_in_within_a_few_turns_of_the_loop() -> None:
    async def crowd() -> None:
        arrivals = Arrivals()
        async with Listener(arrivals, host=HOST, port=0) as listener:
            with connected(CROWD, port_of(listener)):
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                assert arrivals.count == CROWD

    uvloop.run(crowd())


def test_when_files_have_run_out_connections_are_accepted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "RETRY_DELAY_S", 0.05)

    async def run_out() -> None:
        arrivals = Arrivals()
        async with Listener(arrivals, host=HOST, port=0) as listener:
            with connected(1, port_of(listener)):
                with no_more_files():
                    await asyncio.sleep(0.2)
                    assert arrivals.count == 0
                await asyncio.wait_for(arrivals.first.wait(), 10)

    uvloop.run(run_out())


def test_where_others_listen_is_said_at_once() -> None:
    async def listen() -> None:
        with socket.create_server((HOST, 0)) as taken, pytest.raises(OSError, match="Address already in use"):
            await Listener(Arrivals(), host=HOST, port=taken.getsockname()[1]).__aenter__()

    uvloop.run(listen())


def test_who_was_let_in_stays_when_nobody_else_is() -> None:
    async def close() -> None:
        async with Listener(Arrivals(), host=HOST, port=0) as listener:
            port = port_of(listener)
            reader, writer = await asyncio.open_connection(HOST, port)
            await echoed(reader, writer)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        await echoed(reader, writer)
        writer.close()

    uvloop.run(close())


def test_each_address_of_a_host_is_listened_at_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def addresses(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),  # an address of nobody
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, 0)),
        ]

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", addresses, raising=False)
        async with Listener(Arrivals(), host="both", port=0) as listener:
            reader, writer = await asyncio.open_connection(HOST, port_of(listener))
            await echoed(reader, writer)
            writer.close()
            await writer.wait_closed()

    asyncio.run(listen())


@contextmanager
def connected(count: int, port: int) -> Iterator[None]:
    """So many clients whom the kernel has connected."""
    with ExitStack() as clients:
        for _ in range(count):
            clients.enter_context(socket.create_connection((HOST, port)))
        yield


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let the process open none beyond those it has."""
    gc.collect()  # else what it closes meanwhile makes room
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    with ExitStack() as gaps:
        while (lowest_free := os.open(os.devnull, os.O_RDONLY)) < highest:
            gaps.callback(os.close, lowest_free)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Demand that what is sent comes back."""
    writer.write(b"tide")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"tide"


def port_of(listener: Listener) -> int:
    """Return the one that the kernel chose."""
    (listening_socket,) = listener._sockets
    return int(listening_socket.getsockname()[1])
