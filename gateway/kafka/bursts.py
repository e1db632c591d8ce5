"""
A burst of records: what one request brings, handed over in its order and acknowledged together.

Records with one key keep that order. The first that the log does not take ends the burst: those behind it are to be
sent again too, or they might overtake it.
"""

import asyncio
from collections.abc import Sequence

from gateway.errors import RETRYABLE, HttpError
from gateway.kafka.publisher import ProducerDelivery, Publisher
from gateway.kafka.records import OutgoingRecord
from schemas.kafka.places import RecordPlace


async def publish_all(publisher: Publisher, records: Sequence[OutgoingRecord]) -> Sequence[RecordPlace | HttpError]:
    """Return the place of each record in the log, or why it is not known to be there."""
    return await _places(_handed_over(publisher, records))


def _handed_over(publisher: Publisher, records: Sequence[OutgoingRecord]) -> Sequence[ProducerDelivery | HttpError]:
    deliveries: list[ProducerDelivery | HttpError] = []
    for record in records:
        try:
            deliveries.append(publisher.submit(record))
        except HttpError as error:
            if isinstance(error, RETRYABLE):
                return deliveries + [error] * (len(records) - len(deliveries))
            deliveries.append(error)
    return deliveries


async def _places(deliveries: Sequence[ProducerDelivery | HttpError]) -> Sequence[RecordPlace | HttpError]:
    outcomes: list[RecordPlace | HttpError] = []
    for delivery in deliveries:  # one report brings most of them: nearly always there is nothing to wait for
        outcomes.append(await _place(delivery))
        if isinstance(outcomes[-1], HttpError):
            break
    # What is overdue has a second more: together, since one after the other they would hold the answer for minutes.
    return outcomes + await asyncio.gather(*(_place(each) for each in deliveries[len(outcomes) :]))


async def _place(delivery: ProducerDelivery | HttpError) -> RecordPlace | HttpError:
    if isinstance(delivery, HttpError):
        return delivery
    try:
        return await delivery.acknowledged()
    except HttpError as error:
        return error
