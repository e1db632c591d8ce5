"""Handlers for the outcome of a record, and for the status of the log and its consumer groups."""

import re

from aiohttp import web

from gateway.errors import NotFound
from gateway.http.answers import answer, found
from gateway.http.call import Call
from gateway.status.parts import StatusParts
from schemas.catalogue import find_topic
from schemas.kafka.places import RecordPlace

_PARTITION = re.compile(r"[0-9]{1,9}\Z")
_OFFSET = re.compile(r"[0-9]{1,18}\Z")
_NOTHING = "the log has no such record, or not yet, or it is not this tenant's"


async def show_receipt(parts: StatusParts, call: Call) -> web.Response:
    """Return the outcome of a record: whether the log still has it, and its effect in each consumer group."""
    place = _place(**call.path)
    return answer(found(await parts.receipts.find(place, call.principal), _NOTHING))


async def show_status(parts: StatusParts, call: Call) -> web.Response:
    """Return the status of the log and its consumer groups, measured at most once a second."""
    return answer(await parts.monitor.status(call.principal))


def _place(*, topic: str, partition: str, offset: str) -> RecordPlace:
    """Return the place that the path names. Raises NotFound if there can be no such record."""
    if not (_PARTITION.match(partition) and _OFFSET.match(offset)):
        raise NotFound(_NOTHING)
    return RecordPlace(found(find_topic(topic), _NOTHING).name, int(partition), int(offset))
