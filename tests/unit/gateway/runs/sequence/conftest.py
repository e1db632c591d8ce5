"""A sequencer over fakes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from gateway.errors import HttpError
from gateway.kafka.followers import GroupFollower
from gateway.kafka.records import OutgoingRecord, Stamp
from gateway.objects.uploads import Uploads
from gateway.runs.parsing.prepared import EventIdentity, PreparedEvent, set_apart
from gateway.runs.sealing import seal
from gateway.runs.sequence.sequencer import Sequencer, Submission
from gateway.runs.sequence.state_reader import RunStateReader
from schemas.kafka.places import RecordPlace
from schemas.runs.records import RunFinalized, RunStatus
from schemas.runs.topics import PERSISTENCE
from tests.support import builders
from tests.support.fakes import InForce, MemoryCommitted, MemoryObjects, MemoryRunStore, MemoryTails, RecordingPublisher

NOW = datetime(2025, 12, 5, 10, 0, 0, 123000, UTC)
STAMP = Stamp(
    received_at=NOW,
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    mac_secret=builders.MAC_SECRET,
)
KEY = (builders.TENANT, builders.RUN)


def prepared(seq: int, *, content: str = "", key: str | None = None, run_id: str = builders.RUN) -> PreparedEvent:
    """Return an event of the run; *content* makes it another one of the same seq."""
    meta = {} if key is None else {"idempotency_key": key}
    record, upload = set_apart(
        builders.run_event(builders.event(seq, run_id=run_id, payload={"text": content}, meta=meta))
    )
    return PreparedEvent(
        identity=EventIdentity(seq=seq, sha256=record.event_sha256, idempotency_key=key),
        record=seal(record, part=seq, stamp=STAMP),
        agent_id=record.agent_id,
        upload=upload,
    )


def finalization(status: RunStatus = RunStatus.SUCCEEDED, *, run_id: str = builders.RUN) -> OutgoingRecord:
    """Return the record that closes the run."""
    record = RunFinalized(tenant=builders.TENANT, run_id=run_id, status=status, finalized_at=NOW)
    return seal(record, part="finalized", stamp=STAMP)


@dataclass(kw_only=True)
class Door:
    """A sequencer, and what stands behind it."""

    publisher: RecordingPublisher
    store: MemoryRunStore
    tails: MemoryTails
    objects: MemoryObjects
    committed: MemoryCommitted
    follower: GroupFollower
    sequencer: Sequencer
    credentials: InForce

    async def submit(self, *events: PreparedEvent) -> Sequence[Submission | HttpError]:
        """Submit events together."""
        return await self.sequencer.submit(KEY, events)

    async def one(self, given: PreparedEvent) -> tuple[str, RecordPlace]:
        """Submit one event, wait for its place; raises what it was refused with."""
        (submission,) = await self.submit(given)
        if isinstance(submission, HttpError):
            raise submission
        return submission.status, await submission.acknowledged()

    async def stored_to(self, offset: int) -> None:
        """Let persistence have committed *offset*, and the gateway have read that."""
        self.committed.offsets[0] = offset
        assert await self.follower.wait_past(RecordPlace("run.events", 0, offset - 1), timeout_s=10)

    def appear(self, *records: OutgoingRecord) -> None:
        """Let others have written *records*."""
        for record in records:
            place = RecordPlace(record.topic, 0, 100 + len(self.publisher.log))
            self.publisher.log.append((place, record))


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """Yield a sequencer that remembers nothing yet."""
    publisher, store, objects = RecordingPublisher(), MemoryRunStore(builders.TENANT), MemoryObjects()
    tails, committed = MemoryTails(publisher.log), MemoryCommitted({0: 0})
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW) as follower, asyncio.timeout(30):
        credentials = InForce(builders.credentials())
        states = RunStateReader(tails=tails, store=store, follower=follower, credentials=credentials)
        sequencer = Sequencer(publisher=publisher, states=states, uploads=Uploads(objects))
        yield Door(
            publisher=publisher,
            store=store,
            tails=tails,
            objects=objects,
            committed=committed,
            follower=follower,
            sequencer=sequencer,
            credentials=credentials,
        )
