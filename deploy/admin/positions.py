"""
The position of each group in each partition that it consumes, whether the log still holds what the position stands for,
and the operator's remedy if it does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from psycopg import sql
from psycopg.types.json import Json

from deploy.admin import topics
from deploy.admin.reach import kafka_error
from deploy.admin.stored_topics import STORED_TOPICS, Row, StoredTopic
from deploy.errors import CommandFailed, NotReachable
from schemas.catalogue import groups_among, subscriptions
from schemas.kafka import lookups
from schemas.kafka.clients import looking_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.lookups import admin_client
from schemas.kafka.places import LOST_PARTITIONS, Partition
from schemas.kafka.positions import (
    NO_EPOCH,
    PartitionLog,
    Position,
    PositionFault,
    accepted_metadata,
    accepting_group,
    fault,
)
from schemas.kafka.topics import Group
from schemas.runs.topics import PERSISTENCE

TIMEOUT_S = 10.0
STORED_NAMES = tuple(stored.topic for stored in STORED_TOPICS)
NEXT_ACCEPTANCE = "SELECT coalesce(max(acceptance), 0) + 1 FROM log_acceptances"
NOTE_ACCEPTANCE = "INSERT INTO log_acceptances (acceptance, positions) VALUES (%s, %s)"
MOVE_PLACES = """
    UPDATE {} SET kafka_partition = kafka_partition - %(by)s
    WHERE kafka_partition = %(partition)s AND kafka_offset >= %(offset)s
"""
MOVE_EVERY_PLACE = "UPDATE {} SET kafka_partition = kafka_partition - %(by)s WHERE kafka_partition >= 0"
REMEMBER_TOPIC = """
    INSERT INTO log_topics (topic, topic_id) VALUES (%s, %s)
    ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtext('tidegate.accept'))"
REMEMBERED_TOPICS = "SELECT topic, topic_id FROM log_topics"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPosition:
    """One group in one partition."""

    group: Group
    place: Partition
    position: Position
    log: PartitionLog
    fault: PositionFault | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """A position that has outlived its log, and where the group goes on once the log is accepted."""

    found: GroupPosition
    fault: PositionFault
    offset: int
    rows_from: int  # of a group that stores rows: those of this place and behind it are of lost records


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptances:
    """The positions that an operator is asked to accept, and the topics that were recreated."""

    recreated: frozenset[str]  # topics that are not those whose places the tables hold
    positions: Sequence[Acceptance]

    @property
    def is_needed(self) -> bool:
        """Return True if there is anything to accept."""
        return bool(self.recreated or self.positions)

    def key(self) -> object:
        """Return a value that is equal for two lookups between which nothing changed."""
        return self.recreated, {
            (each.found.group.id, each.found.place, each.found.position, each.offset, each.rows_from)
            for each in self.positions
        }


def examine(kafka: KafkaSettings) -> list[GroupPosition]:
    """
    Return every group of the cluster in every partition that it consumes.

    Raises:
        NotReachable: Kafka does not answer.
        CommandFailed: a topic does not exist.
    """
    with _asking():
        admin = admin_client(kafka)
        counts = topics.existing(admin)
        groups = groups_among(counts)
        consumed = {topic.name for _, topic in subscriptions(groups)}
        if missing := sorted(consumed - counts.keys()):
            raise CommandFailed(f"topic {', '.join(missing)} does not exist: run `tidegate topics create`")
        ids = lookups.topic_ids(admin, consumed, timeout_s=TIMEOUT_S)
        places = [Partition(name, partition) for name in sorted(consumed) for partition in range(counts[name])]
        found = {group: _positions(kafka, group, places) for group in groups}
        # The logs are looked up last: a position that a group commits meanwhile would lie beyond an older end.
        logs = lookups.logs(admin, places, ids=ids, timeout_s=TIMEOUT_S)
        # One consumer for the digests: it only reads records, for whichever group.
        with _consumer(kafka, PERSISTENCE.id) as consumer:
            return [each for group, positions in found.items() for each in _examined(consumer, group, positions, logs)]


def _positions(kafka: KafkaSettings, group: Group, places: Sequence[Partition]) -> Mapping[Partition, Position]:
    sources = {topic.name for topic in group.sources}
    own = [place for place in places if place.topic in sources]
    with _consumer(kafka, group.id) as consumer:
        return topics.settle(partial(lookups.positions, consumer, own, timeout_s=TIMEOUT_S))


def _examined(
    consumer: Consumer, group: Group, positions: Mapping[Partition, Position], logs: Mapping[Partition, PartitionLog]
) -> Iterator[GroupPosition]:
    for place, position in positions.items():
        digest_at = partial(lookups.digest_at, consumer, place, timeout_s=TIMEOUT_S)
        yield GroupPosition(
            group=group,
            place=place,
            position=position,
            log=logs[place],
            fault=fault(position, logs[place], digest_at),
        )


def acceptances(kafka: KafkaSettings, postgres: str) -> Acceptances:
    """
    Return what `accept` would do: nothing if every position stands for what its group has handled.

    Where a topic was recreated, the groups without a position, which Kafka has deleted with the topic, begin where the
    new topic does. Rows beyond the position of the group that stores them may be of records that the log has lost, too:
    Postgres kept what had not been committed yet.

    Raises:
        NotReachable, CommandFailed: see `examine`.
    """
    recreated = recreated_topics(kafka, postgres)
    storing = {(stored.group, stored.topic): stored for stored in STORED_TOPICS}
    found: list[Acceptance] = []
    for each in examine(kafka):
        offset, is_new = each.position.offset, each.place.topic in recreated
        if each.fault is not None:
            start = _divergence(kafka, each)
            found.append(Acceptance(found=each, fault=each.fault, offset=start, rows_from=start))
        elif is_new and offset is None:
            found.append(Acceptance(found=each, fault=PositionFault.RECREATED, offset=each.log.first, rows_from=0))
        elif not is_new and offset is not None and (stored := storing.get((each.group, each.place.topic))) is not None:
            lost = _first_lost_row(kafka, postgres, each, offset, stored)
            if lost is not None:
                found.append(Acceptance(found=each, fault=PositionFault.REWRITTEN, offset=offset, rows_from=lost))
    return Acceptances(recreated=recreated, positions=found)


def _divergence(kafka: KafkaSettings, each: GroupPosition) -> int:
    """Return the first offset whose record the group has not handled."""
    if each.fault is PositionFault.RECREATED:
        return each.log.first
    mark = each.position.mark
    # Without a mark: what the leader of now has appended, since a log is cut off by a change of leader.
    epoch = each.log.epoch - 1 if mark is None or mark.epoch == NO_EPOCH else mark.epoch
    with _asking(), _consumer(kafka, each.group.id) as consumer:
        return lookups.first_after_epoch(consumer, each.place, each.log, epoch, timeout_s=TIMEOUT_S)


def _first_lost_row(
    kafka: KafkaSettings, postgres: str, each: GroupPosition, offset: int, stored: StoredTopic
) -> int | None:
    """Return the first offset, from *offset* on, whose stored row is of another record than the log has there."""
    with _session(postgres) as session:
        rows = session.execute(stored.rows_from, (each.place.partition, offset)).fetchall()
    with _asking(), _consumer(kafka, each.group.id) as consumer:
        # Looked up after the rows: those that are stored meanwhile would lie beyond an older end.
        ids = {each.place.topic: each.log.topic}
        log = lookups.logs(admin_client(kafka), [each.place], ids=ids, timeout_s=TIMEOUT_S)[each.place]
        # A log is cut off behind some record: what is before it is as it was, what is behind it is not.
        low, high = 0, len(rows)
        while low < high:
            middle = (low + high) // 2
            if _is_stored_from(consumer, each.place, log, rows[middle], stored):
                low = middle + 1
            else:
                high = middle
    return None if low == len(rows) else int(rows[low][0])


def _is_stored_from(consumer: Consumer, place: Partition, log: PartitionLog, row: Row, stored: StoredTopic) -> bool:
    offset = row[0]
    if not log.first <= offset < log.end:
        return bool(offset < log.first)  # expired
    message = lookups.record_at(consumer, place, offset, timeout_s=TIMEOUT_S)
    return message is not None and message.offset() == offset and stored.is_of(message.value(), row)


def recreated_topics(kafka: KafkaSettings, postgres: str) -> frozenset[str]:
    """
    Return the topics that are not those whose places the tables hold.

    Raises:
        NotReachable: Kafka or Postgres does not answer.
    """
    now = _topic_ids(kafka)
    try:
        with _session(postgres) as session:
            remembered = dict(session.execute(REMEMBERED_TOPICS).fetchall())
    except psycopg.errors.UndefinedTable as error:
        raise CommandFailed("the tables are not migrated: run `tidegate migrate`") from error
    return frozenset(name for name in STORED_NAMES if name in remembered and remembered[name] != now.get(name))


def _topic_ids(kafka: KafkaSettings) -> Mapping[str, str]:
    with _asking():
        return lookups.topic_ids(admin_client(kafka), STORED_NAMES, timeout_s=TIMEOUT_S)


def accept(kafka: KafkaSettings, postgres: str, shown: Acceptances) -> None:
    """
    Move each group to the position in *shown*; rows whose position the log has lost stay, under a place of their own.

    Where a topic was recreated, no row keeps its place in it. Rows are moved first: a worker that goes on must not meet
    them; the topic is remembered last. Doing it again after a failure does no harm.

    Raises:
        NotReachable: Kafka or Postgres does not answer.
        CommandFailed: something has changed since it was shown; nothing was done.
    """
    with _session(postgres) as lock:
        lock.execute(LOCK)  # until the session ends: of two that are asked at once, the second finds nothing left
        now = acceptances(kafka, postgres)
        if now.key() != shown.key():
            raise CommandFailed(
                "the positions have changed meanwhile, nothing was done: run `tidegate topics accept` again"
            )
        with _session(postgres) as session:
            _move_places(session, now)
        _order(kafka, now.positions)
        ids = _topic_ids(kafka)
        with _session(postgres) as session:
            for name in now.recreated & ids.keys():
                session.execute(REMEMBER_TOPIC, (name, ids[name]))


def _move_places(session: psycopg.Connection, accepted: Acceptances) -> None:
    row = session.execute(NEXT_ACCEPTANCE).fetchone()
    acceptance = row[0] if row else 1
    for stored in STORED_TOPICS:
        lost = [
            (MOVE_PLACES, {"partition": each.found.place.partition, "offset": each.rows_from})
            for each in accepted.positions
            if (each.found.group, each.found.place.topic) == (stored.group, stored.topic)
        ]
        for statement, parameters in [(MOVE_EVERY_PLACE, {})] if stored.topic in accepted.recreated else lost:
            for name in stored.tables:
                session.execute(
                    sql.SQL(statement).format(sql.Identifier(name)), {"by": acceptance * LOST_PARTITIONS, **parameters}
                )
        _renumber(session, stored, accepted)
    session.execute(NOTE_ACCEPTANCE, (acceptance, Json([_noted(each) for each in accepted.positions])))


def _renumber(session: psycopg.Connection, stored: StoredTopic, accepted: Acceptances) -> None:
    partitions: set[int | None] = {
        each.found.place.partition
        for each in accepted.positions
        if (each.found.group, each.found.place.topic) == (stored.group, stored.topic)
    }
    if stored.topic in accepted.recreated:
        partitions = {None}
    for partition in partitions:
        for statement in stored.renumber:
            session.execute(statement, {"partition": partition})


def _order(kafka: KafkaSettings, accepted: Sequence[Acceptance]) -> None:
    for group_id in sorted({each.found.group.id for each in accepted}):
        orders = [
            TopicPartition(
                *each.found.place, each.offset, metadata=accepted_metadata(each.found.position, each.found.log.topic)
            )
            for each in accepted
            if each.found.group.id == group_id
        ]
        with _asking(), _consumer(kafka, accepting_group(group_id)) as consumer:
            topics.settle(partial(consumer.commit, offsets=orders, asynchronous=False))


@contextmanager
def _session(postgres: str) -> Iterator[psycopg.Connection]:
    """Yield a session whose transaction is committed at its end."""
    try:
        with psycopg.connect(postgres, connect_timeout=round(TIMEOUT_S)) as session:
            yield session
    except psycopg.OperationalError as error:
        raise NotReachable(f"Postgres does not answer: {str(error).splitlines()[0]}") from error


def _noted(each: Acceptance) -> Mapping[str, object]:
    topic, partition = each.found.place
    return {
        "group": each.found.group.name,
        "topic": topic,
        "partition": partition,
        "fault": each.fault.value,
        "from": each.found.position.offset,
        "to": each.offset,
    }


@contextmanager
def _consumer(kafka: KafkaSettings, group_id: str) -> Iterator[Consumer]:
    consumer = Consumer(looking_config(kafka, group_id=group_id, client_id="tidegate-command"))
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise NotReachable(f"Kafka does not answer: {kafka_error(error).str()}") from error
