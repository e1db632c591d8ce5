"""Checks that a service answers. Each asks once and takes a few seconds at most."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import KafkaError, KafkaException

from deploy.errors import NotReachable
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.reach import connection_fault

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 1024 * 1024


def kafka_error(error: KafkaException) -> KafkaError:
    """Return what is wrong, out of the exception that carries it."""
    [found] = error.args
    assert isinstance(found, KafkaError)
    return found


def kafka_answers(kafka: KafkaSettings) -> bool:
    """Return True if a broker answers."""
    return connection_fault(kafka, timeout_s=TIMEOUT_S) is None


def need_kafka(kafka: KafkaSettings) -> None:
    """Raise NotReachable, with what to do, unless a broker answers."""
    if (fault := connection_fault(kafka, timeout_s=TIMEOUT_S)) is not None:
        raise NotReachable(fault)


def postgres_answers(dsn: str) -> bool:
    """Return True if a session can be opened."""
    try:
        psycopg.connect(dsn, connect_timeout=round(TIMEOUT_S)).close()
    except psycopg.OperationalError:
        return False
    return True


def get(management: str, path: str, *, bytes_max: int = ANSWER_BYTES_MAX) -> tuple[int, bytes]:
    """
    Return the status and the body, at most *bytes_max* of it, that the process behind *management* answers.

    Raises:
        OSError, HTTPException: it does not answer.
    """
    address = urlsplit(management)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(bytes_max)
    finally:
        connection.close()


def is_ready(management: str) -> bool:
    """Return True if the process at the *management* URL answers /readyz with 200."""
    try:
        status, _ = get(management, "/readyz")
    except (OSError, HTTPException):
        return False
    return status == HTTPStatus.OK
