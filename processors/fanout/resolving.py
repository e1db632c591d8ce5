"""Payloads from object storage for sockets that asked for them."""

from collections.abc import Callable

import structlog

from processors.fanout.messages import ORDINARY_BYTES_MAX, StreamRecord
from processors.fanout.outbox import BYTES_MAX
from processors.runtime.errors import Transient
from processors.runtime.payloads import Payloads
from schemas.objects.references import Kept, PayloadProblem, PayloadRef

PAYLOAD_BYTES_MAX = BYTES_MAX - ORDINARY_BYTES_MAX  # with the rest of its event it passes for one message
AWAY_S = 5.0  # before a storage that does not answer is asked again

log = structlog.get_logger()


class Resolver:
    """
    A fetcher of the payloads behind references.

    No client waits for a storage that is away: meanwhile an event is sent without its payload, and says so.
    """

    def __init__(self, payloads: Payloads, *, clock: Callable[[], float]) -> None:
        """Fetch from *payloads*."""
        self._payloads = payloads
        self._clock = clock
        self._away_until_s = float("-inf")

    async def resolve(self, record: StreamRecord) -> StreamRecord:
        """Return the same record, which has a reference, with its payload or with the reason why it has none."""
        assert record.reference is not None
        return record.resolved(await self._fetch(record.reference))

    async def _fetch(self, reference: PayloadRef) -> Kept:
        if reference.size_bytes > PAYLOAD_BYTES_MAX:
            return PayloadProblem.TOO_LARGE
        if self._clock() < self._away_until_s:
            return PayloadProblem.UNAVAILABLE
        try:
            return await self._payloads.fetch(reference)
        except Transient as error:
            self._away_until_s = self._clock() + AWAY_S
            log.warning("payloads unavailable", error=str(error))
            return PayloadProblem.UNAVAILABLE
