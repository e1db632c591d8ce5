"""Checks before the gateway serves. Only Kafka is needed: reads can wait for Postgres."""

import structlog
from confluent_kafka import KafkaException

from gateway.errors import StoreUnavailable
from gateway.objects.backend import ObstoreStorage
from gateway.postgres.pool import PostgresReads, TablesNotMigrated
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.events.topics import USER_EVENTS
from schemas.jobs.topics import JOB_COMMANDS
from schemas.kafka import lookups
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.reach import connection_fault
from schemas.process.settings import SettingsInvalid
from schemas.runs.topics import RUN_EVENTS

KAFKA_WAIT_S = 10.0
TOPICS = (RUN_EVENTS.name, USER_EVENTS.name, JOB_COMMANDS.name, DOCUMENT_COMMANDS.name)  # that requests write to

log = structlog.get_logger()


class CannotStart(Exception):
    """Something that the gateway needs is not there. Do not start; the text says what to do."""


def check_topics(kafka: KafkaSettings) -> None:
    """
    See that the topics are there. Blocks for up to `KAFKA_WAIT_S`.

    Raises:
        CannotStart: they are not, or no broker answers.
    """
    if (fault := connection_fault(kafka, timeout_s=KAFKA_WAIT_S)) is not None:
        raise CannotStart(fault)
    try:
        present = lookups.admin_client(kafka).list_topics(timeout=KAFKA_WAIT_S).topics
    except KafkaException as error:
        raise CannotStart(f"Kafka at {kafka} no longer answers: {error}") from error
    if missing := [name for name in TOPICS if name not in present]:
        raise CannotStart(f"the topic {missing[0]} is not there: run `tidegate topics create`")


def open_objects(location: str) -> ObstoreStorage:
    """
    Open object storage; whether a bucket answers shows with the first large payload.

    Raises:
        CannotStart: nothing can be kept there.
    """
    try:
        return ObstoreStorage(location)
    except SettingsInvalid as error:
        raise CannotStart(str(error)) from error


async def check_tables(reads: PostgresReads) -> None:
    """
    See that the tables are migrated, or leave that to the first read while Postgres is away.

    Raises:
        CannotStart: they are not.
    """
    try:
        await reads.check_tables()
    except TablesNotMigrated as error:
        raise CannotStart(str(error)) from error
    except StoreUnavailable as error:
        log.warning("started without Postgres", error=str(error.__cause__))
