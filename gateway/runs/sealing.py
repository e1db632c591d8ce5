"""Records of runs as they go to the log."""

from gateway.kafka.records import OutgoingRecord, Stamp, sealed
from schemas.kafka import headers
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import RunEvent, RunRecord, event_id
from schemas.runs.topics import RUN_EVENTS


def seal(record: RunRecord, *, part: int | str, stamp: Stamp) -> OutgoingRecord:
    """
    Return *record* as it goes to its topic.

    *part* names it within its run: the seq of an event, `finalized` or `environment`.
    """
    return sealed(
        RUN_EVENTS.name,
        key=record.run_id.encode(),
        value=RUN_CODEC.encode(record),
        tenant=record.tenant,
        event_id=event_id(record.tenant, record.run_id, part),
        stamp=stamp,
        more=((headers.SEQ, b"%d" % record.seq),) if isinstance(record, RunEvent) else (),
    )
