"""The proxy does what it says, before a server that echoes."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.faults.proxy import Proxy, proxied

QUIET_S = 0.3


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Yield a proxy before an echo server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=serve, args=(server,), daemon=True).start()
        with proxied("127.0.0.1", server.getsockname()[1]) as running:
            yield running
        server.shutdown(socket.SHUT_RDWR)


def serve(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        Thread(target=echo, args=(client,), daemon=True).start()


def echo(client: socket.socket) -> None:
    with client:
        try:
            while chunk := client.recv(65536):
                client.sendall(chunk)
        except OSError:
            return


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as connected:
        assert ask(connected, b"ping") == b"ping"
        yield connected


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(65536)


def is_quiet(client: socket.socket) -> bool:
    client.settimeout(QUIET_S)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)
    return False


def test_bytes_pass_both_ways_and_an_end_is_passed_on(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"x" * 5000)[:1] == b"x"
    with connect(proxy) as other:
        other.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""


def test_a_delay_holds_bytes_back(proxy: Proxy, client: socket.socket) -> None:
    proxy.rules.delay_s = 2 * QUIET_S
    client.sendall(b"slow")
    assert is_quiet(client)
    assert client.recv(100) == b"slow"


def test_a_stall_loses_nothing_and_leaves_new_connections_alone(proxy: Proxy, client: socket.socket) -> None:
    proxy.stall()
    client.sendall(b"kept")
    assert is_quiet(client)
    with connect(proxy) as other:
        assert ask(other, b"free") == b"free"
    proxy.resume()
    assert client.recv(100) == b"kept"


def test_a_half_open_connection_takes_everything_and_never_answers(proxy: Proxy, client: socket.socket) -> None:
    proxy.half_open()
    client.sendall(b"lost" * 1000)
    assert is_quiet(client)
    proxy.resume()
    assert is_quiet(client)


def test_a_reset_reaches_the_client(proxy: Proxy, client: socket.socket) -> None:
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_new_connections_are_refused_and_old_ones_left_alone(proxy: Proxy, client: socket.socket) -> None:
    proxy.rules.refuses = True
    with pytest.raises(ConnectionResetError), connect(proxy) as other:
        other.recv(1)
    assert ask(client, b"ping") == b"ping"


def test_answers_are_cut_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.rules.cut_after_bytes = 6
    with connect(proxy) as client:
        assert ask(client, b"1234") == b"1234"
        client.sendall(b"5678")
        assert client.recv(100) == b"56"
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_the_answer_with_the_pattern_is_cut_even_when_it_comes_in_two_parts(proxy: Proxy) -> None:
    proxy.rules.cut_at, proxy.rules.cuts_left = b"COMMIT", 1
    with connect(proxy) as client:
        assert ask(client, b"a COM") == b"a COM"
        client.sendall(b"MIT b")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        assert ask(client, b"COMMIT") == b"COMMIT"


def test_a_server_that_is_away_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with proxied("127.0.0.1", port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)
