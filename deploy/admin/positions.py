"""
Where each group is in each partition that it consumes, whether the log still holds what its position stands for, and
what an operator does where it does not.
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
from deploy.admin.reach import admin_client, kafka_error
from deploy.errors import Failed, NotReachable
from schemas import lookups
from schemas.consumer import looking_config
from schemas.lookups import Place
from schemas.positions import LOST_PARTITIONS, Fault, PartitionLog, Position, accepted_metadata, accepting_group, fault
from schemas.topics import PERSISTENCE, RUN_EVENTS, Group, groups_among, subscriptions

TIMEOUT_S = 10.0
TABLES_WITH_PLACES = ("trace_events", "duplicate_events", "rejected_events", "environment_snapshots", "trace_records")
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
REMEMBERED_TOPIC = "SELECT topic_id FROM log_topics WHERE topic = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPosition:
    """One group in one partition."""

    group: Group
    place: Place
    position: Position
    log: PartitionLog
    fault: Fault | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """A position that has outlived its log, and where the group goes on once the log is accepted."""

    found: GroupPosition
    fault: Fault
    offset: int


def examine(bootstrap: str) -> list[GroupPosition]:
    """
    Every group of the cluster in every partition that it consumes.

    Raises:
        NotReachable: Kafka does not answer.
        Failed: a topic does not exist.
    """
    with _asking():
        admin = admin_client(bootstrap)
        counts = topics.existing(admin)
        groups = groups_among(counts)
        consumed = {topic.name for _, topic in subscriptions(groups)}
        if missing := sorted(consumed - counts.keys()):
            raise Failed(f"topic {', '.join(missing)} does not exist: run `tidegate topics create`")
        ids = lookups.topic_ids(admin, consumed, timeout_s=TIMEOUT_S)
        places = [(name, partition) for name in sorted(consumed) for partition in range(counts[name])]
        logs = lookups.logs(admin, places, ids=ids, timeout_s=TIMEOUT_S)
        return [each for group in groups for each in _positions(bootstrap, group, logs)]


def _positions(bootstrap: str, group: Group, logs: Mapping[Place, PartitionLog]) -> Iterator[GroupPosition]:
    sources = {topic.name for topic in group.sources}
    with _consumer(bootstrap, group.id) as consumer:
        own = [place for place in logs if place[0] in sources]
        found = topics.settle(partial(lookups.positions, consumer, own, timeout_s=TIMEOUT_S))
        for place, position in found.items():
            digest_at = partial(lookups.digest_at, consumer, place, timeout_s=TIMEOUT_S)
            yield GroupPosition(
                group=group,
                place=place,
                position=position,
                log=logs[place],
                fault=fault(position, logs[place], digest_at),
            )


def acceptances(bootstrap: str, *, recreated: bool) -> list[Acceptance]:
    """
    What `accept` would do; nothing where every position stands for what its group has handled.

    Where run.events was *recreated*, the groups without a position, which Kafka has deleted with the topic, begin
    where the new topic does.

    Raises:
        NotReachable, Failed: see `examine`.
    """
    found: list[Acceptance] = []
    for each in examine(bootstrap):
        if each.fault is not None:
            found.append(Acceptance(found=each, fault=each.fault, offset=_divergence(bootstrap, each)))
        elif recreated and each.position.offset is None:
            found.append(Acceptance(found=each, fault=Fault.RECREATED, offset=each.log.first))
    return found


def _divergence(bootstrap: str, each: GroupPosition) -> int:
    """The first offset whose record the group has not handled."""
    mark = each.position.mark
    if each.fault is Fault.RECREATED or mark is None:
        return each.log.first if each.fault is Fault.RECREATED else each.log.end
    with _asking(), _consumer(bootstrap, each.group.id) as consumer:
        return lookups.first_after_epoch(consumer, each.place, each.log, mark.epoch, timeout_s=TIMEOUT_S)


def was_recreated(bootstrap: str, postgres: str) -> bool:
    """
    True if run.events is not the topic whose places the tables hold.

    Raises:
        NotReachable: Kafka or Postgres does not answer.
    """
    with _asking():
        now = lookups.topic_ids(admin_client(bootstrap), [RUN_EVENTS.name], timeout_s=TIMEOUT_S).get(RUN_EVENTS.name)
    try:
        with psycopg.connect(postgres, connect_timeout=round(TIMEOUT_S)) as session:
            row = session.execute(REMEMBERED_TOPIC, [RUN_EVENTS.name]).fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise Failed("the tables are not migrated: run `tidegate migrate`") from error
    except psycopg.OperationalError as error:
        raise NotReachable(f"Postgres does not answer: {str(error).splitlines()[0]}") from error
    return row is not None and row[0] != now


def accept(bootstrap: str, postgres: str, accepted: Sequence[Acceptance], *, recreated: bool) -> None:
    """
    Let each group go on where *accepted* says; rows whose place the log has lost stay, with a place of their own.

    Where run.events was *recreated*, no row keeps its place. Rows are moved first: a worker that goes on must not meet
    them. Doing it again after a failure does no harm.

    Raises:
        NotReachable: Kafka or Postgres does not answer.
    """
    _move_places(bootstrap, postgres, accepted, recreated=recreated)
    groups = {each.found.group.id for each in accepted}
    for group_id in sorted(groups):
        orders = [
            TopicPartition(*each.found.place, each.offset, metadata=accepted_metadata(each.found.position))
            for each in accepted
            if each.found.group.id == group_id
        ]
        with _asking(), _consumer(bootstrap, accepting_group(group_id)) as consumer:
            topics.settle(partial(consumer.commit, offsets=orders, asynchronous=False))


def _move_places(bootstrap: str, postgres: str, accepted: Sequence[Acceptance], *, recreated: bool) -> None:
    with _asking():
        ids = lookups.topic_ids(admin_client(bootstrap), [RUN_EVENTS.name], timeout_s=TIMEOUT_S)
    lost = [
        (MOVE_PLACES, {"partition": each.found.place[1], "offset": each.offset})
        for each in accepted
        if each.found.group == PERSISTENCE and each.found.place[0] == RUN_EVENTS.name
    ]
    statements = [(MOVE_EVERY_PLACE, {})] if recreated else lost
    try:
        with psycopg.connect(postgres, connect_timeout=round(TIMEOUT_S)) as session:
            row = session.execute(NEXT_ACCEPTANCE).fetchone()
            acceptance = row[0] if row else 1
            for statement, parameters in statements:
                for name in TABLES_WITH_PLACES:
                    session.execute(
                        sql.SQL(statement).format(sql.Identifier(name)),
                        {"by": acceptance * LOST_PARTITIONS, **parameters},
                    )
            session.execute(NOTE_ACCEPTANCE, (acceptance, Json([_noted(each) for each in accepted])))
            session.execute(REMEMBER_TOPIC, (RUN_EVENTS.name, ids[RUN_EVENTS.name]))
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
def _consumer(bootstrap: str, group_id: str) -> Iterator[Consumer]:
    consumer = Consumer(looking_config(bootstrap, group_id=group_id, client_id="tidegate-command"))
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
