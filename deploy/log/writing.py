"""A few records written to the log by an operator's command, each acknowledged before it says that it is done."""

from collections.abc import Sequence

from confluent_kafka import KafkaException, Message, Producer

from deploy.errors import CommandFailed, NotReachable
from schemas.kafka.clients import producer_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.headers import Headers
from schemas.kafka.topics import LETTER_BYTES_MAX, Topic

ACKNOWLEDGED_WITHIN_S = 30.0

Content = tuple[bytes | None, bytes | None, Headers]  # key, value, headers


class Writer:
    """A writer to the log; it connects in the background."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Name the brokers."""
        config = producer_config(kafka, client_id="tidegate-command", record_bytes_max=LETTER_BYTES_MAX)
        self._producer = Producer(config | {"log_level": 0, "error_cb": lambda _error: None})

    def write(self, topic: Topic, contents: Sequence[Content]) -> None:
        """
        Append *contents* in order; on return all of them are acknowledged.

        Raises:
            NotReachable: the broker does not acknowledge; some may have been written.
            CommandFailed: it refuses one.
        """
        failures: list[str] = []

        def report(error: object, _message: Message) -> None:
            if error is not None:
                failures.append(str(error))

        try:
            for key, value, by_name in contents:
                self._producer.produce(topic.name, key=key, value=value, headers=by_name, on_delivery=report)
        except (BufferError, KafkaException) as error:
            raise CommandFailed(f"{topic.name}: {error}") from error
        if self._producer.flush(ACKNOWLEDGED_WITHIN_S) or failures:
            raise NotReachable(f"{topic.name}: {failures[0] if failures else 'Kafka does not acknowledge'}")
