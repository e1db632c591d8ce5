"""Keys of issuers at an address: read in the background, kept when that fails, and asked for by nobody's leave."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import pytest
from aiohttp import web
from joserfc import jwk

from gateway.tokens import key_files
from gateway.tokens.jwks import ASKED_EVERY_S, BYTES_MAX, FetchFailed, HttpFetch, RemoteKeys
from schemas.access.issuers import Algorithm, Denial
from schemas.process.telemetry import OF_GATEWAY, Telemetry
from tests.support import tokens
from tests.support.fakes import MemoryJwks
from tests.unit.gateway.conftest import NOW, Served

URL = "https://login.example.com/keys"
FIRST, SECOND = (jwk.RSAKey.generate_key(2048, {"kid": kid}) for kid in ("k1", "k2"))
NOW_S = int(NOW.timestamp())


class Clock:
    """A clock that a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def ask(served: Served, text: str) -> tuple[int, dict[str, str]]:
    async with served.client.get("/api/v1/events", headers={"Authorization": f"Bearer {text}"}) as answer:
        return answer.status, dict(answer.headers)


def use(served: Served, **changes: Any) -> None:
    current = served.credentials.current
    served.credentials.current = msgspec.structs.replace(current, issuers={"main": tokens.of_address(URL)}, **changes)


def of(key: Any, *, kid: str | None = None, **changes: Any) -> str:
    kid = kid or key.as_dict(private=False)["kid"]
    return tokens.token(key, algorithm="RS256", header={"kid": kid}, exp=NOW_S + 600, iat=NOW_S - 10, **changes)


async def test_keys_that_were_never_read_are_503_and_then_200(served: Served) -> None:
    use(served)
    status, headers = await ask(served, of(FIRST))
    assert (status, headers["Retry-After"]) == (503, "1")
    served.jwks.texts[URL] = tokens.jwks(FIRST)
    use(served, denied=[])
    served.credentials.current = msgspec.structs.replace(
        served.credentials.current, issuers={"main": tokens.of_address(URL, audiences=[tokens.AUDIENCE, "again"])}
    )
    await ask(served, of(FIRST))
    await settle()
    assert (await ask(served, of(FIRST)))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer {}"), ("Authorization", "Bearer {}")],
        [("Authorization", "Basic {}")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer {} x")],
        [("Authorization", "{}")],
    ],
)
async def test_a_token_stands_in_one_header(served: Served, headers: list[tuple[str, str]]) -> None:
    served.jwks.texts[URL] = tokens.jwks(FIRST)
    use(served)
    await ask(served, of(FIRST))
    await settle()
    text = of(FIRST)
    assert (await ask(served, text))[0] == 200
    sent = [(name, value.format(text)) for name, value in headers]
    async with served.client.get("/api/v1/events", headers=sent) as answer:
        assert answer.status == 401
        assert text not in await answer.text()
    async with served.client.get("/api/v1/events", headers={"Authorization": f"bearer {text}"}) as answer:
        assert answer.status == 200


async def test_a_denied_token_stops_at_once_though_it_is_remembered(served: Served) -> None:
    served.jwks.texts[URL] = tokens.jwks(FIRST)
    use(served)
    await ask(served, of(FIRST))
    await settle()
    text = of(FIRST, sub="u-1")
    assert (await ask(served, text))[0] == 200
    use(served, denied=[Denial(issuer="main", sub="u-1")])
    assert (await ask(served, text))[0] == 401
    use(served, denied=[])
    assert (await ask(served, text))[0] == 200


async def test_random_kids_cost_one_read(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.jwks.texts[URL] = tokens.jwks(FIRST)
    use(served)
    await ask(served, of(FIRST))
    await settle()
    reads = len(served.jwks.reads)
    for _ in range(100):
        assert (await ask(served, of(FIRST, kid=token_hex(8))))[0] == 401
    await settle()
    assert len(served.jwks.reads) - reads <= 1
    refused = {"issuer": "main", "reason": "unknown_key"}
    assert served.telemetry.registry.get_sample_value("tidegate_tokens_refused_total", refused) == 100
    assert capsys.readouterr().out.count("token refused") <= 1
    assert (await ask(served, of(FIRST)))[0] == 200


async def test_a_rotated_key_counts_and_the_old_one_no_longer() -> None:
    fetch, clock, changes = MemoryJwks({URL: tokens.jwks(FIRST)}), Clock(), []
    telemetry = Telemetry(OF_GATEWAY)
    keys = RemoteKeys(
        "main",
        tokens.of_address(URL),
        fetch,
        changed=lambda: changes.append(1),
        telemetry=telemetry,
        clock_s=clock,
    )
    try:
        await settle()
        assert [key.kid for key in keys.keys] == ["k1"]
        fetch.texts[URL] = tokens.jwks(SECOND)
        keys.ask()
        await settle()
        assert [key.kid for key in keys.keys] == ["k1"], "read a moment ago"
        clock.now_s += ASKED_EVERY_S
        keys.ask()
        await settle()
        assert [key.kid for key in keys.keys] == ["k2"]
        assert len(changes) == 2

        for text in ("<html>", "{}", tokens.jwks(jwk.ECKey.generate_key("P-256")), None):
            fetch.texts.pop(URL, None)
            if text is not None:
                fetch.texts[URL] = text
            clock.now_s += ASKED_EVERY_S
            keys.ask()
            await settle()
            assert [key.kid for key in keys.keys] == ["k2"], "the last good set stays"
        reads = [
            telemetry.registry.get_sample_value("tidegate_key_sets_read_total", {"issuer": "main", "outcome": outcome})
            for outcome in ("ok", "failed")
        ]
        assert reads == [2, 4]
        clock.now_s += 25 * 3600
        with pytest.raises(Exception, match="could not be read"):
            _ = keys.keys
    finally:
        await keys.close()


async def test_keys_in_a_file_are_read_again_when_it_changes(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(key_files, "monotonic", clock)
    path = tmp_path / "keys.json"
    issuer = tokens.of_secret(secret=None, algorithms=[Algorithm.RS256], jwks_file=str(path))
    current = served.credentials.current
    served.credentials.current = msgspec.structs.replace(current, issuers={"main": issuer})
    assert (await ask(served, of(FIRST)))[0] == 503
    for text, first, second in (
        (tokens.jwks(FIRST), 200, 401),
        ("{", 200, 401),
        (tokens.jwks(SECOND), 401, 200),
    ):
        path.write_text(text)
        clock.now_s += 1.0
        assert (await ask(served, of(FIRST)))[0] == first
        assert (await ask(served, of(SECOND)))[0] == second


async def test_keys_of_an_issuer_that_was_taken_out_are_read_no_more(served: Served) -> None:
    served.jwks.texts[URL] = tokens.jwks(FIRST)
    use(served)
    await ask(served, of(FIRST))
    await settle()
    served.credentials.current = msgspec.structs.replace(served.credentials.current, issuers={})
    assert (await ask(served, of(FIRST)))[0] == 401
    await settle()
    assert not [task for task in asyncio.all_tasks() if "RemoteKeys" in str(task.get_coro())]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data")


async def _large(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * (BYTES_MAX + 1))


async def _failing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _latin(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\xff")


async def _bombed(_: web.Request) -> web.StreamResponse:
    response = web.Response(body=b"0" * 50_000_000)
    response.enable_compression()
    return response


async def _good(_: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []})


@pytest.mark.parametrize("handler", [_redirect, _large, _failing, _latin, _bombed, _good], ids=lambda f: f.__name__)
async def test_an_address_may_answer_anything(handler: Handler) -> None:
    app = web.Application()
    app.router.add_get("/keys", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    try:
        if handler is _good:
            assert json.loads(await HttpFetch(internal_allowed=True)(url)) == {"keys": []}
        else:
            with pytest.raises(FetchFailed):
                await HttpFetch(internal_allowed=True)(url)
        with pytest.raises(FetchFailed, match="https"):
            await HttpFetch(internal_allowed=False)(url)
        with pytest.raises(FetchFailed, match="internal"):
            await HttpFetch(internal_allowed=False)(url.replace("http:", "https:"))
    finally:
        await runner.cleanup()
