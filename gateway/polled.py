"""A confluent producer with the one thread that polls it. Its methods block: call them on a thread."""

import threading
import time
from collections.abc import Callable, Sized

from confluent_kafka import KafkaException, Producer

from schemas.topics import RUN_EVENTS

POLL_TIMEOUT_S = 0.1
FLUSH_TIMEOUT_S = 10.0
DISCARD_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 2.0
PROBE_EVERY_S = 0.25


class PolledProducer:
    """Polls *producer* until it is closed; calls *wake* after each poll that left something in *reports*."""

    def __init__(self, producer: Producer, *, reports: Sized, wake: Callable[[], None]) -> None:
        """Start polling."""
        self.producer = producer
        self._reports = reports
        self._wake = wake
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._thread.start()

    def answers(self) -> bool:
        """Say whether a broker answers; where none does, take `PROBE_EVERY_S` at least."""
        started_s = time.monotonic()
        try:
            self.producer.list_topics(RUN_EVENTS.name, timeout=PROBE_TIMEOUT_S)
        except KafkaException:
            self._closing.wait(max(0.0, started_s + PROBE_EVERY_S - time.monotonic()))
            return False
        return True

    def close(self) -> int:
        """Wait for what is in flight, at most `FLUSH_TIMEOUT_S`, then stop; return how many records had no report."""
        unreported = self.producer.flush(FLUSH_TIMEOUT_S)
        self._stop()
        return unreported

    def discard(self) -> None:
        """Fail what is in flight, and stop."""
        self.producer.purge()
        self.producer.flush(DISCARD_TIMEOUT_S)
        self._stop()

    def _stop(self) -> None:
        self._closing.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._closing.is_set():
            self.producer.poll(POLL_TIMEOUT_S)
            if self._reports:
                self._wake()
