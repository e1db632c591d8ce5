"""Fakes of the ports: they keep what they are given, and fail on demand."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from gateway.events.store import EventPlace, Reader, UserEventFilter
from gateway.events.views import ErrorCount, TaskEvent, UnprocessedView, UserEventView
from gateway.jobs.store import LOOKED_AT_MAX, JobBrief, JobListing, JobPlace, Total
from gateway.jobs.views import (
    ExecutorView,
    JobLogView,
    JobSummary,
    JobView,
    OperationView,
    QueueView,
    ScheduleView,
)
from gateway.kafka.effect import Effect
from gateway.kafka.publisher import Reported
from gateway.kafka.reader import Edges, LogEntry, LogRecord, Membership, Search
from gateway.kafka.records import OutgoingRecord
from gateway.objects.storage import Damaged
from gateway.runs.integrity import IntegrityView
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.sequence.memory import RunKey, RunState
from gateway.runs.sequence.tail import PartitionTail
from gateway.runs.store import EventFilter, RecordIdentity, RunFilter, RunPlace
from gateway.tokens.jwks import FetchFailed
from processors.runtime.errors import Transient
from schemas.access.credentials import Credentials
from schemas.jobs.filters import JobFilter
from schemas.jobs.states import UNFINISHED, JobStatus
from schemas.jobs.types import QUEUES
from schemas.kafka.places import Partition, RecordPlace
from schemas.kafka.positions import Position, PositionFault
from schemas.kafka.topics import Group
from schemas.kafka.transactions import OpenTransaction
from schemas.objects.references import Kept, PayloadProblem, PayloadRef, is_content_of
from schemas.runs.views import EnvironmentView, EventView, RunView


@dataclass(eq=False)
class InForce:
    """The credentials of a process, which a test may change."""

    current: Credentials
    written: Credentials | None = None  # what the file says by now, where the process has not read it yet
    file_checks: int = 0

    def __call__(self) -> Credentials:
        return self.current

    def newer(self, than: Credentials) -> Credentials | None:
        """See `CurrentCredentials.newer`."""
        self.file_checks += 1
        if self.written is not None:
            self.current, self.written = self.written, None
        return None if self.current is than else self.current


@dataclass(eq=False)
class RecordingDelivery:
    """A record in the hands of a `RecordingPublisher`."""

    reported: Reported
    overdue: bool = False
    outcome: RecordPlace | Exception | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def acknowledged(self) -> RecordPlace:
        """Wait until the test, or the publisher, says what became of it."""
        await self.arrived.wait()
        if isinstance(self.outcome, RecordPlace):
            return self.outcome
        assert self.outcome is not None
        raise self.outcome

    def settle(self, outcome: RecordPlace | Exception) -> None:
        """Say what became of it."""
        self.outcome, self.overdue = outcome, False
        self.arrived.set()
        self.reported(outcome if isinstance(outcome, RecordPlace) else None)

    def give_up(self, refusal: Exception) -> None:
        """Let who waits wait no longer; its fate is open."""
        self.outcome, self.overdue = refusal, True
        self.arrived.set()


@dataclass
class RecordingPublisher:
    """A log of one partition in memory."""

    ready: bool = True
    in_flight: int = 0
    failure: Exception | None = None  # raised instead of publishing
    held: list[RecordingDelivery] | None = None  # takes what is published; the test settles it
    published: list[OutgoingRecord] = field(default_factory=list)
    log: list[tuple[RecordPlace, OutgoingRecord]] = field(default_factory=list)  # what of it has arrived

    async def publish(self, record: OutgoingRecord) -> RecordPlace:
        """Keep *record*."""
        return await self.submit(record).acknowledged()

    def submit(self, record: OutgoingRecord, *, reported: Reported | None = None) -> RecordingDelivery:
        """Keep *record*; report it with the next turn of the loop, or when the test says."""
        if self.failure is not None:
            raise self.failure
        self.published.append(record)

        def arrived(receipt: RecordPlace | None) -> None:
            if receipt is not None:
                self.log.append((receipt, record))
            if reported is not None:
                reported(receipt)

        delivery = RecordingDelivery(arrived)
        if self.held is not None:
            self.held.append(delivery)
        else:
            receipt = RecordPlace(record.topic, 0, len(self.published) - 1)
            asyncio.get_running_loop().call_soon(delivery.settle, receipt)
        return delivery


@dataclass
class MemoryJwks:
    """Addresses of JWK Sets: their texts, and which were read."""

    texts: dict[str, str] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)

    async def __call__(self, url: str) -> str:
        """See `Fetch`."""
        self.reads.append(url)
        if url not in self.texts:
            raise FetchFailed("not there")
        return self.texts[url]


@dataclass
class MemoryUserEventStore:
    """User events of one tenant in memory, the newest first."""

    tenant: str
    stored: list[UserEventView] = field(default_factory=list)
    effects: dict[RecordPlace, Effect] = field(default_factory=dict)
    failure: Exception | None = None  # raised instead of looking

    async def events(
        self, reader: Reader, admitted: UserEventFilter, *, after: EventPlace | None, skip: int, limit: int
    ) -> tuple[Sequence[UserEventView], EventPlace | None]:
        """Return the events in the order in which they are held."""
        mine = [view for view in self._of(reader) if _admits(admitted, view)]
        places = [_event_place(view) for view in mine]
        start = places.index(after) + 1 if after is not None else skip
        page = mine[start : start + limit]
        return page, _event_place(page[-1]) if len(mine) > start + limit else None

    async def count(self, reader: Reader, admitted: UserEventFilter) -> int:
        """Return how many there are."""
        return sum(_admits(admitted, view) for view in self._of(reader))

    async def event(self, reader: Reader, event_id: str) -> UserEventView | None:
        """Return the newest of that id."""
        return next((view for view in self._of(reader) if view.event_id == event_id), None)

    async def unprocessed(self, reader: Reader) -> UnprocessedView:
        """Count the events."""
        mine = self._of(reader)
        waiting = [view for view in mine if view.status == "pending"]
        failed = Counter(view.error_class or "" for view in mine if view.status == "failed")
        return UnprocessedView(
            pending=len(waiting),
            failed=failed.total(),
            processed_last_hour=sum(view.status == "processed" for view in mine),
            received_last_hour=len(mine),
            oldest_pending_at=min((view.received_at for view in waiting), default=None),
            errors=[ErrorCount(error_class=name, count=count) for name, count in failed.most_common()],
        )

    async def task(self, reader: Reader, task_id: str) -> Sequence[TaskEvent]:
        """Return the events of a request."""
        return [
            TaskEvent(
                event_id=view.event_id,
                status=view.status,
                wal_id=view.wal_id,
                error_class=view.error_class,
                error=view.error,
            )
            for view in self._of(reader)
            if view.task_id == task_id
        ]

    async def effect(self, tenant: str, place: RecordPlace, _event_sha256: bytes | None) -> Effect | None:
        """Return what the record at *place* came to."""
        if self.failure is not None:
            raise self.failure
        return self.effects.get(place) if tenant == self.tenant else None

    async def processing_effect(self, tenant: str, place: RecordPlace, event_sha256: bytes | None) -> Effect | None:
        """Return the same."""
        return await self.effect(tenant, place, event_sha256)

    def _of(self, reader: Reader) -> list[UserEventView]:
        if self.failure is not None:
            raise self.failure
        if reader.tenant != self.tenant:
            return []
        return [
            view
            for view in self.stored
            if reader.user_id is None or (view.user_verified and view.user_id == reader.user_id)
        ]


@dataclass
class MemoryJobStore:
    """Jobs in memory, by tenant; the newest first, as they are held."""

    stored: dict[str, list[JobView]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)  # by job id
    logs: dict[tuple[str, int], str] = field(default_factory=dict)  # by job id and number of the attempt
    unfinished_count: int | None = None  # as the test says; None: of those that are held
    queue_views: list[QueueView] = field(default_factory=list)
    executor_views: list[ExecutorView] = field(default_factory=list)
    schedule_views: dict[str, list[ScheduleView]] = field(default_factory=dict)
    operation_views: dict[str, list[OperationView]] = field(default_factory=dict)
    effects: dict[RecordPlace, Effect] = field(default_factory=dict)
    failure: Exception | None = None  # raised instead of looking
    counted_for: list[str | None] = field(default_factory=list)  # the tenants whose jobs were counted
    applied: Callable[[], None] | None = None  # called before each look: intake, as the test plays it

    async def job(self, tenant: str, job_id: str) -> JobView | None:
        """Return the job of that id."""
        return next((view for view in self._of(tenant) if view.task_id == job_id), None)

    async def brief(self, tenant: str, job_id: str) -> JobBrief | None:
        """Return the same in brief."""
        view = await self.job(tenant, job_id)
        return None if view is None else self._brief(view)

    async def holders(self, tenant: str, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], JobBrief]:
        """Return the unfinished jobs with those keys."""
        return {
            (view.type, view.dedupe_key): self._brief(view)
            for view in self._of(tenant)
            if view.dedupe_key is not None and (view.type, view.dedupe_key) in keys and view.status in UNFINISHED
        }

    async def log(self, tenant: str, job_id: str, number: int | None) -> JobLogView | None:
        """Return what the test says that an attempt wrote."""
        if await self.job(tenant, job_id) is None:
            return None
        numbers = [each for known, each in self.logs if known == job_id and number in (None, each)]
        if not numbers:
            return None
        return JobLogView(task_id=job_id, attempt=max(numbers), log=self.logs[job_id, max(numbers)])

    async def jobs(
        self, tenant: str, listing: JobListing, admitted: JobFilter, *, after: JobPlace | None, skip: int, limit: int
    ) -> tuple[Sequence[JobSummary], JobPlace | None]:
        """Return the jobs in the order in which they are held."""
        mine = [view for view in self._of(tenant) if _is_listed(listing, admitted, view)]
        ids = [view.task_id for view in mine]
        start = ids.index(after.job_id) + 1 if after is not None else skip
        page = [_summary(view) for view in mine[start : start + limit]]
        if len(mine) <= start + limit:
            return page, None
        return page, JobPlace(page[-1].created_at, page[-1].task_id)

    async def count(
        self, tenant: str, listing: JobListing, admitted: JobFilter, *, looked_at_max: int = LOOKED_AT_MAX
    ) -> Total:
        """Count them."""
        count = sum(_is_listed(listing, admitted, view) for view in self._of(tenant))
        return Total(min(count, looked_at_max), is_estimate=count > looked_at_max)

    async def unfinished(self, tenant: str, *, count_max: int) -> int:
        """Count those that are not finished."""
        held = sum(view.status in UNFINISHED for view in self._of(tenant))
        return min(held if self.unfinished_count is None else self.unfinished_count, count_max)

    async def queues(self, tenant: str | None) -> Sequence[QueueView]:
        """Return what the test says."""
        self._look()
        self.counted_for.append(tenant)
        return self.queue_views

    async def queue_names(self) -> frozenset[str]:
        """Return the standard ones, and those of the test."""
        self._look()
        return frozenset(QUEUES) | {view.queue for view in self.queue_views}

    async def executors(self) -> Sequence[ExecutorView]:
        """Return what the test says."""
        self._look()
        return self.executor_views

    async def oldest_snapshot_s(self) -> float | None:
        """Return that it may not be seen."""
        self._look()
        return None

    async def schedules(self, tenant: str, *, after: str | None, limit: int) -> tuple[Sequence[ScheduleView], bool]:
        """Return the schedules in the order in which they are held."""
        self._look()
        mine = [view for view in self.schedule_views.get(tenant, []) if after is None or view.name > after]
        return mine[:limit], len(mine) > limit

    async def schedule(self, tenant: str, schedule_id: str) -> ScheduleView | None:
        """Return the schedule of that id."""
        self._look()
        mine = self.schedule_views.get(tenant, [])
        return next((view for view in mine if view.schedule_id == schedule_id), None)

    async def operations(
        self, tenant: str, *, after: JobPlace | None, limit: int
    ) -> tuple[Sequence[OperationView], bool]:
        """Return the operations in the order in which they are held."""
        self._look()
        mine = self.operation_views.get(tenant, [])
        ids = [view.operation_id for view in mine]
        rest = mine[ids.index(after.job_id) + 1 if after is not None else 0 :]
        return rest[:limit], len(rest) > limit

    async def operation(self, tenant: str, operation_id: str) -> OperationView | None:
        """Return the operation of that id."""
        self._look()
        mine = self.operation_views.get(tenant, [])
        return next((view for view in mine if view.operation_id == operation_id), None)

    async def effect(self, tenant: str, place: RecordPlace, _command_id: str | None) -> Effect | None:
        """Return what the test says."""
        self._look()
        return self.effects.get(place)

    def _of(self, tenant: str) -> list[JobView]:
        self._look()
        return self.stored.get(tenant, [])

    def _look(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.applied is not None:
            self.applied()

    def _brief(self, view: JobView) -> JobBrief:
        return JobBrief(
            job_id=view.task_id,
            type=view.type,
            queue=view.queue,
            status=view.status,
            priority=view.priority,
            duplicate_of=view.duplicate_of,
            content_sha256=self.digests.get(view.task_id, b""),
            created_at=view.created_at,
        )


def _summary(view: JobView) -> JobSummary:
    return JobSummary(**{name: getattr(view, name) for name in JobSummary.__struct_fields__})


def _is_listed(listing: JobListing, admitted: JobFilter, view: JobView) -> bool:
    statuses = {JobListing.PENDING: JobStatus.PENDING, JobListing.FAILED: JobStatus.FAILED}
    wanted = (
        (statuses.get(listing), view.status),
        (admitted.status, view.status),
        (admitted.type, view.type),
        (admitted.queue, view.queue),
        (admitted.user_id, view.user_id),
        (admitted.reason, view.reason),
        (admitted.dedupe_key, view.dedupe_key),
    )
    return (
        all(asked in (None, found) for asked, found in wanted)
        and (admitted.tag is None or admitted.tag in view.tags)
        and (admitted.created_from is None or view.created_at >= admitted.created_from)
        and (admitted.created_to is None or view.created_at < admitted.created_to)
        and _contains(msgspec.json.decode(view.metadata or b"{}"), admitted.metadata)
    )


def _contains(document: object, part: object) -> bool:
    if not isinstance(document, Mapping) or not isinstance(part, Mapping):
        return document == part
    return all(name in document and _contains(document[name], value) for name, value in part.items())


def _event_place(view: UserEventView) -> EventPlace:
    _, partition, offset = view.wal_id.split("/")
    return EventPlace(view.received_at, int(partition), int(offset))


def _admits(admitted: UserEventFilter, view: UserEventView) -> bool:
    wanted = (
        (admitted.user_id, view.user_id),
        (admitted.type, view.type),
        (admitted.name, view.name),
        (admitted.status, view.status),
    )
    properties = msgspec.json.decode(view.properties or b"{}")
    return (
        all(asked in (None, found) for asked, found in wanted)
        and (admitted.received_from is None or view.received_at >= admitted.received_from)
        and (admitted.received_before is None or view.received_at < admitted.received_before)
        and admitted.properties.items() <= properties.items()
    )


@dataclass
class MemoryRunStore:
    """Runs of one tenant in memory; `looks` are the filters and places that were asked for."""

    tenant: str
    stored_runs: list[RunView] = field(default_factory=list)
    stored_events: dict[str, list[EventView]] = field(default_factory=dict)
    environments: dict[str, EnvironmentView] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    integrities: dict[str, IntegrityView] = field(default_factory=dict)
    effects: dict[RecordPlace, Effect] = field(default_factory=dict)
    numbering: dict[RunKey, RunState] = field(default_factory=dict)
    topic_ids: dict[str, str] = field(default_factory=dict)
    failure: Exception | None = None  # raised instead of looking
    looks: list[tuple[object, object]] = field(default_factory=list)

    async def answers(self) -> bool:
        """Return True if a look would succeed."""
        return self.failure is None

    async def runs(
        self, tenant: str, admitted: RunFilter, *, after: RunPlace | None, limit: int
    ) -> tuple[Sequence[RunView], bool]:
        """Return the runs in the order they are held in."""
        self._look(admitted, after)
        mine = [run for run in self.stored_runs if tenant == self.tenant and _is_admitted(run, admitted)]
        names = [run.run_id for run in mine]
        start = names.index(after.run_id) + 1 if after else 0
        return mine[start : start + limit], len(mine) > start + limit

    async def run(self, tenant: str, run_id: str) -> RunView | None:
        """Return one run."""
        self._look(run_id, None)
        return next((run for run in self.stored_runs if run.run_id == run_id and tenant == self.tenant), None)

    async def events(
        self, tenant: str, run_id: str, admitted: EventFilter, *, after_seq: int, limit: int
    ) -> tuple[Sequence[EventView], bool]:
        """Return the run's events after *after_seq*."""
        self._look(admitted, after_seq)
        mine = self.stored_events.get(run_id, []) if tenant == self.tenant else []
        rest = [
            event
            for event in mine
            if event.seq > after_seq and admitted.type in (None, event.type) and admitted.actor in (None, event.actor)
        ]
        return rest[:limit], len(rest) > limit

    async def environment(self, tenant: str, run_id: str) -> EnvironmentView | None:
        """Return the run's environment."""
        self._look(run_id, None)
        return self.environments.get(run_id) if tenant == self.tenant else None

    async def integrity(self, tenant: str, run_id: str, *, home_partition: int | None) -> IntegrityView | None:
        """Return whether the run is whole."""
        self._look(run_id, home_partition)
        return self.integrities.get(run_id) if tenant == self.tenant else None

    async def trace(self, tenant: str, run_id: str) -> str | None:
        """Return the run's trace record."""
        self._look(run_id, None)
        return self.traces.get(run_id) if tenant == self.tenant else None

    async def run_states(self, asked: Sequence[tuple[RunKey, Sequence[EventIdentity]]]) -> Mapping[RunKey, RunState]:
        """Return what the test says of the runs."""
        if self.failure is not None:
            raise self.failure
        return {key: self.numbering[key] for key, _ in asked if key in self.numbering}

    async def effect(self, tenant: str, place: RecordPlace, identity: RecordIdentity) -> Effect | None:
        """Return what the record at *place* came to."""
        self._look(place, identity)
        return self.effects.get(place) if tenant == self.tenant else None

    async def topic_id(self, topic: str) -> str | None:
        """Return the one that is remembered."""
        self._look(topic, None)
        return self.topic_ids.get(topic)

    def _look(self, what: object, after: object) -> None:
        if self.failure is not None:
            raise self.failure
        self.looks.append((what, after))


def _is_admitted(run: RunView, admitted: RunFilter) -> bool:
    return (
        admitted.agent in (None, run.agent_id)
        and admitted.status in (None, run.status)
        and (admitted.started_from is None or run.started_at >= admitted.started_from)
        and (admitted.started_before is None or run.started_at < admitted.started_before)
    )


@dataclass
class MemoryObjects:
    """Object storage in memory."""

    kept: dict[str, bytes] = field(default_factory=dict)
    failure: Exception | None = None  # raised instead of keeping or reading
    gate: asyncio.Event | None = None  # what every call waits for
    puts: list[str] = field(default_factory=list)  # keys, in the order in which they were asked for
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # released with each of them

    async def put(self, key: str, content: bytes) -> None:
        """Keep *content*."""
        self.puts.append(key)
        self.asked.release()
        await self._answer()
        self.kept[key] = content

    async def get(self, key: str, *, size_bytes: int) -> bytes | None:
        """Return what is kept under *key*."""
        await self._answer()
        content = self.kept.get(key)
        if content is not None and len(content) != size_bytes:
            raise Damaged(f"{len(content)} bytes, not {size_bytes}")
        return content

    async def _answer(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@dataclass
class MemoryLog:
    """A log of one partition a topic in memory; `looks` counts what was asked."""

    records: dict[RecordPlace, LogRecord] = field(default_factory=dict)
    letters: dict[RecordPlace, LogRecord] = field(default_factory=dict)  # by the place that they come from
    edges_of: Edges = field(default_factory=lambda: Edges(first=0, end=0))  # of every topic's partition 0
    complete: bool = True  # whether a search has the time it needs
    faulty: dict[int, PositionFault] = field(default_factory=dict)  # by partition, whatever the position
    transaction: OpenTransaction | None = None  # the oldest one that is open
    failure: Exception | None = None  # raised instead of looking
    looks: int = 0

    async def entry(self, place: RecordPlace) -> LogEntry | None:
        """Return the record at *place*."""
        self._count()
        exists = place.partition == 0 and place.offset < self.edges_of.end + self.edges_of.undecided
        undecided = place.offset >= self.edges_of.end
        return LogEntry(edges=self.edges_of, record=self.records.get(place), undecided=undecided) if exists else None

    async def set_aside(self, group: Group, place: RecordPlace, *, written_at: datetime | None) -> Search:
        """Return what was put aside of *place*."""
        self._count()
        letter = self.letters.get(place)
        return Search(last=letter, complete=self.complete or letter is not None)

    async def edges(self, topic: str) -> Mapping[int, Edges]:
        """Return the edges of partition 0."""
        self._count()
        return {0: self.edges_of}

    async def topic_id(self, topic: str) -> str | None:
        """Return one made of the topic's name."""
        self._count()
        return topic.replace(".", "_").ljust(22, "-")

    async def faults(self, topic: str, positions: Mapping[int, Position]) -> Mapping[int, PositionFault]:
        """Return those that the test names."""
        self._count()
        return {partition: each for partition, each in self.faulty.items() if partition in positions}

    async def open_transaction(self, topic: str, partition: int) -> OpenTransaction | None:
        """Return the one that the test names."""
        self._count()
        return self.transaction

    async def written_at(self, places: Sequence[RecordPlace]) -> Mapping[RecordPlace, datetime]:
        """Return when those of *places* that are held were written."""
        held = {place: self.records[place].written_at for place in places if place in self.records}
        return {place: moment for place, moment in held.items() if moment is not None}

    async def membership(self, group: Group) -> Membership | None:
        """Return one member."""
        return Membership(state="Stable", members=1)

    def _count(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.looks += 1


def log_record(record: OutgoingRecord, place: RecordPlace) -> LogRecord:
    """Return *record* as the log has it."""
    headers = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in record.headers]
    return LogRecord(place=place, written_at=None, key=record.key, value=record.value, headers=headers)


@dataclass
class MemoryTails:
    """The end of the one partition in memory."""

    log: Sequence[tuple[RecordPlace, OutgoingRecord]] = ()  # of a publisher: what has arrived
    complete: bool = True  # whether a read has the time it needs
    hidden_from: int | None = None  # the offset of an open transaction: what follows it cannot be read
    failure: Exception | None = None  # raised instead of reading
    reads: int = 0

    async def partitions(self) -> int:
        """Return one."""
        return 1

    async def extend(self, tails: Collection[PartitionTail], *, stored_to: Mapping[int, int]) -> frozenset[int]:
        """Hand on what the one of *tails* does not have."""
        if self.failure is not None:
            raise self.failure
        self.reads += 1
        (tail,) = tails
        tail.begin_at(stored_to.get(tail.partition, 0))
        for place, record in self.log:
            hidden = self.hidden_from is not None and place.offset >= self.hidden_from
            if place.offset >= tail.end and not hidden:
                tail.add(log_record(record, place))
        return frozenset([tail.partition] if self.complete else [])


@dataclass
class MemoryCommitted:
    """The committed offsets of a group on one topic, set by the test."""

    offsets: dict[int, int | None] = field(default_factory=dict)
    others: dict[Partition, int | None] = field(default_factory=dict)  # on its other topics
    failure: Exception | None = None  # raised instead of reading
    reads: int = 0
    topic: str = "run.events"

    def read(self) -> Mapping[Partition, Position]:
        """Return what the test has set."""
        if self.failure is not None:
            raise self.failure
        self.reads += 1
        offsets = {Partition(self.topic, each): offset for each, offset in self.offsets.items()} | self.others
        return {partition: Position(offset=offset) for partition, offset in offsets.items()}

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class MemoryPayloads:
    """Object storage, as processors read it."""

    kept: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    there: asyncio.Event | None = None  # what each fetch waits for
    fetched: int = 0

    async def fetch(self, reference: PayloadRef) -> Kept:
        """See `processors.runtime.payloads.Payloads.fetch`."""
        if self.away:
            raise Transient("object storage is away")
        if self.there is not None:
            await self.there.wait()
        self.fetched += 1
        content = self.kept.get(reference.key)
        if content is None:
            return PayloadProblem.MISSING
        return content if is_content_of(reference, content) else PayloadProblem.DAMAGED
