"""Tokens under attack: random key ids cost an issuer nothing, and a rotated key counts within the renewal."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from math import ceil
from secrets import token_hex
from threading import Event, Thread
from time import monotonic
from urllib.parse import urlsplit

from joserfc import jwk

from gateway.tokens.jwks import ASKED_EVERY_S
from tests.support.issuing import bearer, issuing
from tests.support.stack import RunningStack, wait_until
from tests.support.tokens import claims, part
from tests.support.user_events import UserEventClient

SENDERS = 4
RENEWED_S = ASKED_EVERY_S + 15
SENT_MIN = 1000


@dataclass(slots=True)
class Flood:
    """Requests with tokens whose key nobody has, as many as the gateway answers."""

    sent: int = 0
    statuses: set[int] = field(default_factory=set)

    def send(self, address: str, until: Event) -> None:
        """Send them one after the other over one connection."""
        url = urlsplit(address)
        body = part(claims(exp=2_000_000_000))
        with closing(HTTPConnection(url.hostname or "", url.port, timeout=30)) as connection:
            while not until.is_set():
                token = f"{part({'alg': 'RS256', 'kid': token_hex(8)})}.{body}.{part(b'x' * 256)}"
                connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {token}"})
                answer = connection.getresponse()
                answer.read()
                self.statuses.add(answer.status)
                self.sent += 1


@contextmanager
def flooding(stack: RunningStack) -> Iterator[Flood]:
    flood, until = Flood(), Event()
    threads = [Thread(target=flood.send, args=(stack.addresses.gateway, until)) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield flood
    finally:
        until.set()
        for thread in threads:
            thread.join()


def test_random_key_ids_cost_one_read_and_a_rotated_key_is_found_among_them(stack: RunningStack) -> None:
    first, second = (jwk.RSAKey.generate_key(2048, {"kid": kid}) for kid in ("k1", "k2"))
    old, new = (UserEventClient(stack, bearer(key, "auth0|5f7c")) for key in (first, second))

    def status(client: UserEventClient) -> int:
        return client.ask("GET", "/api/v1/events")[0]

    with issuing(stack, first) as served:
        wait_until(lambda: status(old) == 200, timeout_s=RENEWED_S, what="the keys to be read")
        began_s, reads = monotonic(), served.reads
        with flooding(stack) as flood:
            wait_until(lambda: flood.sent > SENT_MIN, timeout_s=60, what="bad tokens to be refused")
            assert {status(old) for _ in range(20)} == {200}
            served.change(second)
            wait_until(lambda: status(new) == 200, timeout_s=RENEWED_S, what="the new key to be read")
            assert status(old) == 401
            assert {status(new) for _ in range(20)} == {200}
        assert flood.statuses == {401}
        assert served.reads - reads <= 1 + ceil((monotonic() - began_s) / ASKED_EVERY_S)
    assert stack.log("gateway").count("token refused") < flood.sent / 100
