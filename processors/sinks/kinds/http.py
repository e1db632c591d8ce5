"""
Batches to an address, one POST request each, signed as Standard Webhooks are.

The body is a JSON array of events or a line an event. `Idempotency-Key` and `webhook-id` are the batch's token. The
signature is that of the body before it is compressed. What the answer means:

- 2xx: taken. The body may say otherwise of some: `{"refused": [{"index": 3, "reason": "..."}], "retry": [5]}`.
- 400, 422: one of the records is bad. 413: the batch is too large.
- 408, 409, 425, 429, 5xx, or no answer: later.
- Any other: the address, its headers or its secrets are wrong.
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta
from standardwebhooks import Webhook

from processors.outbound.sending import LATER, AddressWrong, Poster, Received, ReceiverAway
from processors.sinks.contract import (
    BatchRefused,
    BatchTooLarge,
    Misconfigured,
    Refused,
    SinkBatch,
    Transient,
    TryAgain,
)
from schemas.sinks.sinks_file import TOKEN_PLACEHOLDER, HttpSink
from schemas.texts import printable

ANSWER_BYTES_MAX = 1024 * 1024  # a reason for each record of a batch fits in
SHOWN_CHARACTERS_MAX = 200
BAD_RECORD = frozenset({400, 422})
TOO_LARGE = 413


class RefusedItem(msgspec.Struct, frozen=True):
    """A record that a receiver will never take."""

    index: Annotated[int, Meta(ge=0)]
    reason: str = ""


class ItemResults(msgspec.Struct, frozen=True):
    """The body of an answer that takes a batch in part; other members are ignored."""

    refused: list[RefusedItem] = []
    retry: list[Annotated[int, Meta(ge=0)]] = []


class HttpWriter:
    """A sink of the kind http."""

    def __init__(self, in_force: Callable[[], HttpSink], *, poster: Poster, clock: Callable[[], datetime]) -> None:
        """Send through *poster*, as *in_force* says at each attempt; `close` closes it."""
        self._in_force = in_force
        self._poster = poster
        self._clock = clock

    async def open(self, settings: Mapping[str, Any]) -> None:
        """Do nothing: there is no connection before the first batch."""

    async def write(self, batch: SinkBatch) -> Sequence[Refused | TryAgain]:
        """See `Sink.write`."""
        sink = self._in_force()
        body = _body(batch, ndjson=sink.ndjson)
        headers = _headers(batch, sink, body, now=self._clock())
        try:
            received = await self._poster.exchange(
                sink.url.replace(TOKEN_PLACEHOLDER, quote(batch.token, safe="")),
                gzip.compress(body, compresslevel=1, mtime=0) if sink.gzip else body,
                headers,
                timeout_s=sink.timeout_s,
                answer_bytes_max=ANSWER_BYTES_MAX,
            )
        except AddressWrong as error:
            raise Misconfigured(str(error)) from error
        except ReceiverAway as error:
            raise Transient(str(error)) from error
        return _meaning(received)

    async def close(self) -> None:
        """Close the connections."""
        await self._poster.close()


def _body(batch: SinkBatch, *, ndjson: bool) -> bytes:
    lines = [record.json for record in batch.records]
    return b"".join(line + b"\n" for line in lines) if ndjson else b"[" + b",".join(lines) + b"]"


def _headers(batch: SinkBatch, sink: HttpSink, body: bytes, *, now: datetime) -> dict[str, str]:
    token = batch.token
    headers = {
        **sink.headers,
        "Content-Type": "application/x-ndjson" if sink.ndjson else "application/json",
        "Idempotency-Key": token,
        "webhook-id": token,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    if sink.gzip:
        headers["Content-Encoding"] = "gzip"
    if batch.replay_id is not None:
        headers["webhook-replay"] = "true"
    if sink.secrets:
        text = body.decode()
        headers["webhook-signature"] = " ".join(Webhook(secret).sign(token, now, text) for secret in sink.secrets)
    return headers


def _meaning(received: Received) -> Sequence[Refused | TryAgain]:
    status = received.status
    if 200 <= status < 300:  # noqa: PLR2004  the classes of RFC 9110
        return _results(received)
    detail = f"HTTP {status}: {_shown(received.body)}" if received.body else f"HTTP {status}"
    if status in BAD_RECORD:
        raise BatchRefused(detail)
    if status == TOO_LARGE:
        raise BatchTooLarge(detail)
    if status in LATER or status >= 500:  # noqa: PLR2004
        raise Transient(detail, retry_after_s=received.retry_after_s)
    raise Misconfigured(detail)


def _results(received: Received) -> Sequence[Refused | TryAgain]:
    """
    Return what an answer of 2xx says of single records.

    Raises:
        Transient: it says something of them that cannot be read. To take it for a yes would lose what it refuses.
    """
    if not received.body.lstrip().startswith(b"{"):
        return ()
    if received.is_cut:
        raise Transient(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
    try:
        results = msgspec.convert(json.loads(received.body), ItemResults)
    except (ValueError, RecursionError) as error:  # msgspec's too
        raise Transient(f"its answer cannot be read: {_shown(received.body)}") from error
    refused = [Refused(each.index, each.reason or "refused") for each in results.refused]
    return [*refused, *(TryAgain(index) for index in results.retry)]


def _shown(body: bytes) -> str:
    text = body[: 4 * SHOWN_CHARACTERS_MAX].decode("utf-8", "replace")
    return printable(text.strip(), characters_max=SHOWN_CHARACTERS_MAX)
