"""Lookups in Kafka: topic ids, offsets, committed positions, single records. All block and raise KafkaException."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from time import monotonic, sleep
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.kafka.clients import is_unreadable
from schemas.kafka.connection import KafkaSettings, confluent_options
from schemas.kafka.cursors import topic_id
from schemas.kafka.places import Partition
from schemas.kafka.positions import PartitionLog, Position, digest

UNKNOWN_EPOCH = -1
# How long the first attempt at a request waits for a broker; each further attempt waits twice as long.
FIRST_ATTEMPT_S = 1.0
LAST_ATTEMPT_S = 0.1  # at least, however late it is
PAUSE_S = 0.1  # before a request that was answered with an error is repeated

Answers = Mapping[Any, Future[Any]]

# Errors of a request whose client has outdated metadata; the client's codes, publicly spelt.
_OUTDATED = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._NOENT,  # noqa: SLF001  # it knows no leader of a partition
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)

# What a consumer reports where a partition has no record at or after an offset; the client's codes, publicly spelt.
_NO_RECORD = frozenset(
    {KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001
)


def admin_client(kafka: KafkaSettings) -> AdminClient:
    """Return a client of the admin API that leaves it to its caller to say what is wrong."""
    return AdminClient({**confluent_options(kafka), "log_level": 0, "error_cb": lambda _error: None})


def topic_ids(admin: AdminClient, names: Iterable[str], *, timeout_s: float) -> Mapping[str, str]:
    """Return Kafka's id of each of the topics that exist, as cursors and marks spell it."""
    asked = TopicCollection(list(names))
    answers = _answers(
        admin, lambda within_s: admin.describe_topics(asked, request_timeout=within_s), timeout_s=timeout_s
    )
    found: dict[str, str] = {}
    for name, answer in answers.items():
        try:
            found[name] = topic_id(str(answer.result().topic_id))
        except KafkaException as error:
            if error_code(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return found


def positions(consumer: Consumer, places: Iterable[Partition], *, timeout_s: float) -> Mapping[Partition, Position]:
    """Return the positions in *places* committed by *consumer*'s group, which it has not joined."""
    asked = [TopicPartition(topic, partition) for topic, partition in places]
    answered = consumer.committed(asked, timeout=timeout_s) if asked else []
    found: dict[Partition, Position] = {}
    for each in answered:
        if each.error is not None:
            raise KafkaException(each.error)
        offset = each.offset if each.offset >= 0 else None
        found[Partition(each.topic, each.partition)] = Position(offset=offset, metadata=each.metadata or "")
    return found


def logs(
    admin: AdminClient, places: Iterable[Partition], *, ids: Mapping[str, str], timeout_s: float
) -> Mapping[Partition, PartitionLog]:
    """Return the extent of the log in each of *places*; *ids* are the ids of their topics."""
    asked = list(places)
    firsts = offsets(admin, asked, OffsetSpec.earliest(), timeout_s=timeout_s)
    ends = offsets(admin, asked, OffsetSpec.latest(), timeout_s=timeout_s)
    stable = offsets(admin, asked, OffsetSpec.latest(), isolation=IsolationLevel.READ_COMMITTED, timeout_s=timeout_s)
    return {
        place: PartitionLog(
            topic=ids[place.topic],
            first=firsts[place].offset,
            stable_end=stable[place].offset,
            end=ends[place].offset,
            epoch=UNKNOWN_EPOCH if (epoch := ends[place].leader_epoch) is None else epoch,
        )
        for place in asked
    }


def offsets(
    admin: AdminClient,
    places: Sequence[Partition],
    spec: OffsetSpec,
    *,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    timeout_s: float,
) -> Mapping[Partition, Any]:
    """Resolve *spec* in each of *places* to an object with `offset` and `leader_epoch`."""
    if not places:
        return {}
    asked = {TopicPartition(*place): spec for place in places}
    answers = _answers(
        admin,
        lambda within_s: admin.list_offsets(asked, isolation_level=isolation, request_timeout=within_s),
        timeout_s=timeout_s,
    )
    return {Partition(place.topic, place.partition): answer.result() for place, answer in answers.items()}


def record_at(consumer: Consumer, partition: Partition, offset: int, *, timeout_s: float) -> Message | None:
    """
    Return the record at *offset*, or the first one after it; None where the log has none. *consumer* must report ends.
    """
    consumer.assign([TopicPartition(*partition, offset)])
    try:
        deadline_s = monotonic() + timeout_s
        while (message := consumer.poll(max(0.0, deadline_s - monotonic()))) is not None:
            error = message.error()
            if error is None:
                return message
            if error.code() in _NO_RECORD:
                return None
            raise KafkaException(error)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing was read within {timeout_s:g} s"))  # noqa: SLF001
    finally:
        consumer.unassign()


def digest_at(consumer: Consumer, partition: Partition, offset: int, *, timeout_s: float) -> str | None:
    """Return the digest of the record at *offset*; None where the log has none there."""
    try:
        message = record_at(consumer, partition, offset, timeout_s=timeout_s)
    except KafkaException as error:
        if _is_unreadable(error):  # no mark is of such a record
            return None
        raise
    if message is None or message.offset() != offset:
        return None
    _, timestamp_ms = message.timestamp()
    return digest(timestamp_ms, message.key(), message.value())


def first_after_epoch(
    consumer: Consumer, partition: Partition, log: PartitionLog, epoch: int, *, timeout_s: float
) -> int:
    """Return the first offset whose record was appended by a leader later than *epoch*; the log's end if none was."""
    low, high = log.first, log.end
    while low < high:
        middle = (low + high) // 2
        message = _readable_at(consumer, partition, middle, high, timeout_s=timeout_s)
        if message is None or (message.leader_epoch() or UNKNOWN_EPOCH) > epoch:
            high = middle
        else:
            low = (message.offset() or middle) + 1
    return low


def _readable_at(consumer: Consumer, partition: Partition, start: int, end: int, *, timeout_s: float) -> Message | None:
    """Return the first record at or after *start* and below *end* that the client can read; None if there is none."""
    for offset in range(start, end):
        try:
            return record_at(consumer, partition, offset, timeout_s=timeout_s)
        except KafkaException as error:
            if not _is_unreadable(error):
                raise
    return None


def _answers(admin: AdminClient, ask: Callable[[float], Answers], *, timeout_s: float) -> Answers:
    """
    Return the answers to *ask*, each of them done, within *timeout_s*.

    After an attempt that failed because of outdated metadata, read the metadata again. By itself the client would not:
    for minutes after a broker has restarted, it would send each request to the broker that it knows as leader or
    controller, dead or not, and with an outdated leader epoch.
    """
    deadline_s, within_s = monotonic() + timeout_s, FIRST_ATTEMPT_S
    while True:
        answers = ask(min(within_s, max(LAST_ATTEMPT_S, deadline_s - monotonic())))
        codes = {_failure(answer) for answer in answers.values()}
        if not codes & _OUTDATED or monotonic() >= deadline_s:
            return answers
        if KafkaError._TIMED_OUT not in codes:  # noqa: SLF001  # its public spelling
            sleep(PAUSE_S)  # answered at once, and perhaps in the middle of an election
        admin.list_topics(timeout=max(LAST_ATTEMPT_S, deadline_s - monotonic()))
        within_s *= 2


def _failure(answer: Future[Any]) -> int | None:
    error = answer.exception()
    return error_code(error) if isinstance(error, KafkaException) else None


def error_code(error: KafkaException) -> int | None:
    """Return the code of what is wrong; None where the exception carries none."""
    cause = error.args[0] if error.args else None
    return cause.code() if isinstance(cause, KafkaError) else None


def _is_unreadable(error: KafkaException) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(cause, KafkaError) and is_unreadable(cause)
