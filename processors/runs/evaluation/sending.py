"""Webhooks to one endpoint: signed, posted, counted."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from processors.outbound.sending import Answer, Poster
from processors.runs.evaluation.webhook import WebhookMessage, signed_headers
from schemas.process.telemetry import Telemetry
from schemas.runs.endpoints import Endpoint
from schemas.runs.telemetry import WEBHOOK_DURATION, WEBHOOKS


class Send(Protocol):
    """The port to a receiver."""

    async def __call__(self, endpoint: Endpoint, message: WebhookMessage) -> Answer:
        """
        Make one attempt, within the endpoint's time.

        Whatever goes wrong is an answer, not an exception. Callers guard against exceptions nevertheless.
        """


class Sender:
    """`Send` over HTTP."""

    def __init__(self, poster: Poster, *, replay: bool, clock: Callable[[], datetime]) -> None:
        self._poster = poster
        self._replay = replay
        self._clock = clock

    async def __call__(self, endpoint: Endpoint, message: WebhookMessage) -> Answer:
        """See `Send`."""
        headers = signed_headers(
            message, endpoint.secrets, now=self._clock(), replay=self._replay, more=endpoint.headers
        )
        return await self._poster.post(endpoint.url, message.body, headers, timeout_s=endpoint.timeout_s)


def measured(send: Send, name: str, instruments: Telemetry) -> Send:
    """Return the same port, its attempts counted and timed under the endpoint's *name*."""
    attempts, duration = instruments[WEBHOOKS], instruments[WEBHOOK_DURATION].labels(name)

    async def send_and_note(endpoint: Endpoint, message: WebhookMessage) -> Answer:
        with duration.time():
            answer = await send(endpoint, message)
        attempts.labels(name, answer.verdict.value).inc()
        return answer

    return send_and_note
