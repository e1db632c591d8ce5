"""A confluent producer with the one thread that polls it. Its methods block: call them on a thread."""

import threading
import time
from collections.abc import Callable, Sized
from contextlib import suppress

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

POLL_TIMEOUT_S = 0.1
FLUSH_TIMEOUT_S = 10.0
DISCARD_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 2.0
PROBE_EVERY_S = 0.25

log = structlog.get_logger()


class PolledProducer:
    """
    A poller of *producer* until it is closed; it calls *wake* after each poll that left something in *reports*.

    Nothing that a poll raises ends the thread. A fatal error, after which librdkafka takes no more records, is raised
    by `poll` and not given to `error_cb`: it goes to *fatal*, once, on the poll thread.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        topic: str,
        reports: Sized,
        wake: Callable[[], None],
        fatal: Callable[[KafkaError], None],
    ) -> None:
        """Start polling; *topic* is the one whose metadata `answers` asks for."""
        self.producer = producer
        self._topic = topic
        self._reports = reports
        self._wake = wake
        self._fatal = fatal
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._thread.start()

    def answers(self) -> bool:
        """Return True if a broker answers; if none does, take at least `PROBE_EVERY_S`."""
        started_s = time.monotonic()
        try:
            self.producer.list_topics(self._topic, timeout=PROBE_TIMEOUT_S)
        except KafkaException:
            self._closing.wait(max(0.0, started_s + PROBE_EVERY_S - time.monotonic()))
            return False
        return True

    def close(self) -> int:
        """Wait for what is in flight, at most `FLUSH_TIMEOUT_S`, then stop; return how many records had no report."""
        self._flush(FLUSH_TIMEOUT_S)
        self._stop()
        return len(self.producer)

    def discard(self) -> None:
        """Fail what is in flight, and stop."""
        with suppress(KafkaException):
            self.producer.purge()
        self._flush(DISCARD_TIMEOUT_S)
        self._stop()
        self._wake()  # the reports of what was purged may have come here, not on the poll thread

    def _flush(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                self.producer.flush(left_s)
            except Exception as error:  # noqa: BLE001  # raised out of one callback; the others have yet to be called
                log.warning("producer failed while flushing", error=str(error))
            else:
                return

    def _stop(self) -> None:
        self._closing.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._closing.is_set():
            try:
                self.producer.poll(POLL_TIMEOUT_S)
                if self._reports:
                    self._wake()
            except Exception as error:  # noqa: BLE001  # whatever it is: without this thread nothing is acknowledged
                self._note(error)
                self._closing.wait(POLL_TIMEOUT_S)  # one that fails at each poll must not take the processor

    def _note(self, error: Exception) -> None:
        cause = error.args[0] if isinstance(error, KafkaException) and error.args else None
        if isinstance(cause, KafkaError) and cause.fatal():
            self._fatal(cause)
        else:
            log.error("producer failed while polling", error=str(error), exc_info=error)
