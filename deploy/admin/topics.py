"""
The topics and the groups' first offsets, as `schemas.catalogue` has them.

Why first offsets: a group without one stops instead of guessing where to begin (a guess skips records or repeats
them). So what makes a topic also says where each known group begins: at the oldest record there is, or for an endpoint
of the evaluation engine behind the newest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec, TopicMetadata

from deploy.admin.reach import kafka_error
from deploy.errors import CommandFailed, NotReachable
from schemas.archive.settings import ArchivedTopicsSettings, archive_groups
from schemas.catalogue import GROUPS, all_topics, groups_among
from schemas.events import types_file
from schemas.events.topics import PROCESSING
from schemas.events.types_file import EventTypesSettings
from schemas.kafka.connection import KafkaSettings, confluent_options
from schemas.kafka.lookups import admin_client
from schemas.kafka.topics import Group, Start, Topic
from schemas.process.settings import load
from schemas.runs.topics import RUN_EVENTS

Answer = TypeVar("Answer")

PARTITIONS = 8
BROKERS_DEFAULT = -1  # in Kafka's protocol, for the copies of a partition
NOBODY = -1  # and for its leader
TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 5.0
RETRY_S = 0.1
# A group's coordinator answers so until it has read its log (on a new cluster that is made by the first question), and
# where a commit meets a member: one that ended without a word is counted until its session is over.
PASSES = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError._WAIT_COORD,  # noqa: SLF001  the library's own name of its codes
        KafkaError._TIMED_OUT,  # noqa: SLF001
    }
)


def create(
    kafka: KafkaSettings,
    groups: Iterable[Group] = GROUPS,
    *,
    partitions: int = PARTITIONS,
    replication: int | None = None,
) -> list[str]:
    """
    Create the topics that a deployment with *groups* lacks; return their names.

    A topic that is there is left as it is: the partitions of a live topic never change. Without *replication* a new
    topic has as many copies as the run events have, or as the brokers' default says.

    Raises:
        NotReachable: no broker answers, or none tells of the new topics in time.
        CommandFailed: the broker refuses one; says why.
    """
    admin = admin_client(kafka)
    found = _topics(admin)
    missing = [topic for topic in all_topics(groups) if topic.name not in found]
    if not missing:
        return []
    copies = replication or _copies(found.get(RUN_EVENTS.name))
    requested = admin.create_topics(
        [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions or partitions,
                replication_factor=copies,
                config=topic.broker_config(),
            )
            for topic in missing
        ],
        operation_timeout=TIMEOUT_S,
    )
    for name, created in requested.items():
        try:
            created.result(TIMEOUT_S)
        except KafkaException as error:
            if kafka_error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another one created it meanwhile
                raise CommandFailed(f"topic {name} cannot be created: {kafka_error(error).str()}") from error
    _wait_known(admin, requested)
    return [topic.name for topic in missing]


def _wait_known(admin: AdminClient, names: Iterable[str]) -> None:
    # The controller knows a topic before the brokers tell of it, and who asks them then takes it for missing.
    deadline_s = monotonic() + TIMEOUT_S
    while unknown := _without_leaders(_topics(admin), names):
        if monotonic() > deadline_s:
            raise NotReachable(f"Kafka made {', '.join(unknown)} and does not list it within {TIMEOUT_S:g} s")
        sleep(RETRY_S)


def existing(admin: AdminClient) -> dict[str, int]:
    """
    Return the topics of the cluster, each with its number of partitions.

    Raises:
        NotReachable: no broker answers.
    """
    return {name: len(topic.partitions) for name, topic in _topics(admin).items()}


def _topics(admin: AdminClient) -> Mapping[str, TopicMetadata]:
    try:
        return admin.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise NotReachable(f"Kafka does not answer: {kafka_error(error).str()}") from error


def _without_leaders(told: Mapping[str, TopicMetadata], names: Iterable[str]) -> list[str]:
    leaders = {name: [each.leader for each in topic.partitions.values()] for name, topic in told.items()}
    return [name for name in names if min(leaders.get(name, ()), default=NOBODY) == NOBODY]


def _copies(topic: TopicMetadata | None) -> int:
    return len(topic.partitions[0].replicas) if topic else BROKERS_DEFAULT


def optional_groups(environ: Mapping[str, str]) -> tuple[Group, ...]:
    """
    Return the optional groups that a deployment with these settings has, and those of archived topics.

    Raises:
        SettingsInvalid: the file of event types cannot be used, or a topic cannot be archived.
    """
    processing = (PROCESSING,) if types_file.read(load(EventTypesSettings, environ)).functions else ()
    return (*processing, *archive_groups(load(ArchivedTopicsSettings, environ)))


def groups_of(kafka: KafkaSettings) -> tuple[Group, ...]:
    """
    Return the groups that the cluster has topics for.

    Raises:
        NotReachable: no broker answers.
    """
    return groups_among(existing(admin_client(kafka)))


def commit_first_offsets(kafka: KafkaSettings, groups: Iterable[Group]) -> dict[str, int]:
    """
    Commit where each of *groups*, and of the cluster's, begins where it has no offset; return in how many partitions.

    Raises:
        CommandFailed: a topic of theirs does not exist.
        NotReachable: no broker answers, or a group that lacks an offset has members.
    """
    done = {}
    for group in groups_among({*existing(admin_client(kafka)), *(topic.name for topic in all_topics(groups))}):
        first = []
        for topic in group.sources:
            lacking = [place for place in committed(kafka, group, topic) if place.offset < 0]
            begins_new = group.start is Start.NEWEST and topic in (group.source, *group.beside)
            spec = OffsetSpec.latest() if begins_new else OffsetSpec.earliest()
            begin = offsets(admin_client(kafka), lacking, spec) if lacking else {}
            first += [TopicPartition(topic.name, partition, offset) for partition, offset in begin.items()]
        if first:
            commit(kafka, group, first)
            done[group.name] = len(first)
    return done


def commit(kafka: KafkaSettings, group: Group, places: list[TopicPartition]) -> None:
    """
    Commit *places* for *group*, which must have no members.

    Raises:
        NotReachable: no broker answers, or the group has members.
    """
    with group_consumer(kafka, group) as consumer:
        settle(partial(consumer.commit, offsets=places, asynchronous=False))


def partitions_of(kafka: KafkaSettings, topic: Topic) -> list[TopicPartition]:
    """
    Return every partition of *topic*.

    Raises:
        CommandFailed: it does not exist.
        NotReachable: no broker answers.
    """
    count = existing(admin_client(kafka)).get(topic.name, 0)
    if not count:
        raise CommandFailed(f"topic {topic.name} does not exist: run `tidegate topics create`")
    return [TopicPartition(topic.name, partition) for partition in range(count)]


def committed(kafka: KafkaSettings, group: Group, topic: Topic) -> list[TopicPartition]:
    """
    Return what *group* has committed for each partition of *topic*; a negative offset says nothing.

    Raises:
        CommandFailed: the topic does not exist.
        NotReachable: no broker answers.
    """
    places = partitions_of(kafka, topic)
    with group_consumer(kafka, group) as consumer:
        return settle(partial(consumer.committed, places, timeout=REQUEST_TIMEOUT_S))


@contextmanager
def group_consumer(kafka: KafkaSettings, group: Group) -> Iterator[Consumer]:
    """
    Yield a consumer that speaks for *group* without joining it.

    Why a consumer: librdkafka's admin calls on groups crash the process now and then while the group's
    coordinator starts (2.16), which is when `tidegate up` asks.
    """
    consumer = Consumer(
        {
            **confluent_options(kafka),
            "group.id": group.id,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # of a place that has expired: the oldest record that is left
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def offsets(admin: AdminClient, places: Iterable[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
    """Return the offset that *spec* stands for in each of *places*, all of one topic, by partition."""
    # A TopicPartition with an offset cannot be a key of the request.
    asked = {TopicPartition(place.topic, place.partition): spec for place in places}
    answers: Mapping[TopicPartition, Any] = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
    try:
        return {place.partition: answer.result(TIMEOUT_S).offset for place, answer in answers.items()}
    except KafkaException as error:
        raise NotReachable(f"Kafka does not answer: {kafka_error(error).str()}") from error


def settle(ask: Callable[[], Answer]) -> Answer:
    """
    Ask until what is in the way has passed.

    Raises:
        NotReachable: it does not answer in time.
    """
    deadline_s = monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if kafka_error(error).code() not in PASSES or monotonic() > deadline_s:
                raise NotReachable(f"Kafka does not answer: {kafka_error(error).str()}") from error
            sleep(RETRY_S)
