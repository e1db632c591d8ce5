"""Records that a test writes to the log itself, past the gateway."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from secrets import token_hex

from confluent_kafka import Message, Producer

from gateway.kafka.records import Stamp
from gateway.runs.sealing import seal
from schemas.access.credentials import CredentialsFile
from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.runs.records import RunRecord
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS, RUN_TRACES
from tests.support.builders import event, run_event, signed
from tests.support.log import WITHIN_S, read_topic
from tests.support.stack import RunningStack

POISON = b"\x00\x00\x00\x00\x01no avro"


def new_run() -> str:
    """Return a run id that no other test uses."""
    return f"fault-{token_hex(8)}"


def good(stack: RunningStack, run_id: str, seq: int) -> bytes:
    """Return the record of a signed event."""
    return CODEC.encode(run_event(signed(event(seq, run_id=run_id), secret=stack.addresses.agent_secret)))


def produce(stack: RunningStack, run_id: str, values: Iterable[bytes], *, partition: int) -> None:
    """Append *values* to one partition of run.events, in order, in one go."""
    producer = Producer(producer_config(stack.kafka, client_id="fault", linger_ms=50))
    for value in values:
        producer.produce(RUN_EVENTS.name, key=run_id.encode(), value=value, partition=partition)
    assert producer.flush(WITHIN_S) == 0


def write_as_a_gateway(stack: RunningStack, *records: tuple[RunRecord, int | str]) -> list[str]:
    """Append records, each with its part of the run, as a gateway does that knows nothing of them; their wal_ids."""
    credentials = CredentialsFile(stack.folder / "credentials.toml").current(now_s=0)
    stamp = Stamp(
        received_at=datetime.now(UTC),
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        mac_secret=credentials.gateway.mac_secrets[0],
    )
    producer = Producer(producer_config(stack.kafka, client_id="fault"))
    wal_ids: list[str] = []

    def reported(error: object, message: Message) -> None:
        assert error is None
        wal_ids.append(f"{message.topic()}/{message.partition()}/{message.offset()}")

    for record, part in records:
        outgoing = seal(record, part=part, stamp=stamp)
        producer.produce(outgoing.topic, outgoing.value, outgoing.key, headers=outgoing.headers, on_delivery=reported)
    assert producer.flush(WITHIN_S) == 0
    return wal_ids


def dead_letters(stack: RunningStack, run_id: str) -> list[Message]:
    """Return the persistence group's dead letters of one run, in their order."""
    return [letter for letter in read_topic(stack, PERSISTENCE.dead_letters) if letter.key() == run_id.encode()]


def traces_of(stack: RunningStack, run_id: str) -> list[Message]:
    """Return the trace records of one run that are on run.traces."""
    return [each for each in read_topic(stack, RUN_TRACES) if (each.key() or b"").endswith(run_id.encode())]


@contextmanager
def nothing_dead_lettered(stack: RunningStack) -> Iterator[None]:
    """Demand that persistence dead-letters nothing meanwhile."""
    before = len(read_topic(stack, PERSISTENCE.dead_letters))
    yield
    assert len(read_topic(stack, PERSISTENCE.dead_letters)) == before


def original_place(letter: Message) -> tuple[int, int]:
    """Partition and offset of the record that a dead letter was."""
    by_name = dict(letter.headers() or [])
    return int(by_name[headers.ORIGINAL_PARTITION]), int(by_name[headers.ORIGINAL_OFFSET])
