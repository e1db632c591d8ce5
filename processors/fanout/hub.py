"""
Every record of the log, in its order, to the sockets that want it.

For each partition the hub has a position: the next offset to broadcast. Sockets that are live there have that same
place; the others are behind, each at a place of its own, until `CatchUp` has brought them to the position. All of it
runs between two awaits, so that a position and who has come to it cannot disagree. Consuming begins at the position
again after a rebalance (`Worker`'s *starts*).

A socket on one run or one job follows its partition, so a program that writes with another partitioner is not seen.
"""

from collections.abc import Callable, Sequence

from processors.fanout.messages import Key, Kind, Message, StreamRecord, plain
from processors.fanout.places import Places
from processors.fanout.streams.table import SOURCES, STREAMS
from processors.fanout.subscriber import Subscriber
from processors.fanout.tails import Tail
from processors.fanout.tallies import Tallies
from processors.runtime.batch import RawRecord
from schemas.kafka.cursors import Cursor
from schemas.kafka.places import Partition
from schemas.process import telemetry


class Hub:
    """The subscribers, and what each was sent last."""

    def __init__(
        self,
        places: Places,
        *,
        tallies: Tallies,
        instruments: telemetry.Telemetry,
        clock_ms: Callable[[], float],
    ) -> None:
        """Begin at *places*; *tallies* count for the dashboards."""
        self.places = places
        self._tallies = tallies
        self._clock_ms = clock_ms
        self._subscribers: dict[Key, dict[Subscriber, None]] = {}
        self._resolving: set[Subscriber] = set()
        # How many sockets want the records of a key, by topic; None: all of the topic.
        self._keys: dict[str, dict[bytes | None, int]] = {topic: {} for topic in SOURCES}
        self._waiting: dict[Partition, dict[Subscriber, None]] = {partition: {} for partition in places.partitions()}
        self._tails: dict[Partition, list[Tail]] = {partition: [] for partition in places.partitions()}
        self.wake: Callable[[Partition], None] = lambda _partition: None  # somebody waits for the log to be read
        self._age = instruments[telemetry.FANOUT_AGE]
        self._sent = {kind: instruments[telemetry.FANOUT_MESSAGES].labels(kind) for kind in Kind}
        self._resets = instruments[telemetry.FANOUT_RESETS]
        self._flush: dict[Subscriber, None] = {}

    # Subscribers

    def join(self, subscriber: Subscriber, cursor: Cursor | None) -> None:
        """
        Send *subscriber* the records from now on, or from *cursor* on.

        Raises:
            CursorInvalid: see `Places.behind`; nothing is told.
        """
        behind = {} if cursor is None else self.places.behind(subscriber.covers, cursor)
        subscriber.behind.update(behind or {})
        self._subscribers.setdefault(subscriber.key, {})[subscriber] = None
        if subscriber.resolves:
            self._resolving.add(subscriber)
        self._want(subscriber, 1)
        subscriber.outbox.put(plain("hello", cursor=self.cursor(subscriber)))
        if behind is None:
            self.reset(subscriber, "recreated")
        for partition in subscriber.behind:
            self._waiting[partition][subscriber] = None
            self.wake(partition)
        subscriber.outbox.flush()

    def leave(self, subscriber: Subscriber) -> None:
        """Send nothing more to *subscriber*."""
        fellows = self._subscribers.get(subscriber.key, {})
        if fellows.pop(subscriber, self) is self:
            return
        if not fellows:
            del self._subscribers[subscriber.key]
        self._resolving.discard(subscriber)
        self._want(subscriber, -1)
        for partition in subscriber.behind:
            self._waiting[partition].pop(subscriber, None)
        subscriber.behind.clear()
        self._flush.pop(subscriber, None)

    def reset(self, subscriber: Subscriber, reason: str) -> None:
        """Tell *subscriber* that the log no longer has the records it asked for, and go on live."""
        for partition in subscriber.behind:
            self._waiting[partition].pop(subscriber, None)
        subscriber.behind.clear()
        self._resets.labels(reason).inc()
        subscriber.outbox.put(plain("reset", reason=reason, cursor=self.cursor(subscriber)))
        subscriber.outbox.flush()

    def unsent_of_resolving(self) -> int:
        """Return how many bytes wait for the clients that ask for payloads in object storage."""
        return sum(subscriber.outbox.unsent_bytes() for subscriber in self._resolving)

    def cursor(self, subscriber: Subscriber) -> str:
        """Return where *subscriber* is, of all that it covers."""
        return self.places.cursor(subscriber.covers, subscriber.behind)

    def _want(self, subscriber: Subscriber, more: int) -> None:
        stream, tenant, name = subscriber.key
        for topic, key in STREAMS[stream].record_keys(tenant, name).items():
            wanted = self._keys[topic].get(key, 0) + more
            self._keys[topic][key] = wanted
            if not wanted:
                del self._keys[topic][key]

    # Telling

    def wanted(self, partition: Partition, records: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Return those of *records* that some socket may want, so that the others need not be decoded."""
        keys = self._keys[partition.topic]
        if None in keys or self._tallies.counts(partition.topic):
            return records
        return [record for record in records if record.key in keys] if keys else ()

    def widest(self) -> int:
        """Return how many sockets one record may go to."""
        return max(map(len, self._subscribers.values()), default=0)

    def broadcast(self, record: StreamRecord) -> None:
        """Send the record at the position to the live subscribers, and advance; `flush` must follow."""
        partition = record.partition
        self.places.advance(partition, record.offset + 1)
        self._tallies.note(record)
        for tail in self._tails[partition]:
            tail.add(record)
        sent = 0
        refers = record.reference is not None
        for key in record.keys:
            subscribers = self._subscribers.get(key)
            if not subscribers:
                continue
            shared: Message | None = None
            for subscriber in subscribers:
                if refers and subscriber.resolves and record.partition not in subscriber.behind:
                    # Nothing may be awaited here: it is fetched on the way from the log.
                    self._fall_behind(subscriber, record.partition, record.offset)
                elif subscriber.behind:
                    sent += self._hand_to_one_behind(subscriber, record)
                elif subscriber.takes(record):
                    if shared is None:
                        shared = record.message(self.places.cursor(subscriber.covers, {}))
                    subscriber.outbox.put(shared)
                    self._flush[subscriber] = None
                    sent += 1
        if sent:
            self._sent[record.kind].inc(sent)
            self._age.observe(max(0.0, (self._clock_ms() - record.timestamp_ms) / 1000))

    def flush(self) -> None:
        """Write what was handed out."""
        written, self._flush = self._flush, {}
        for subscriber in written:
            subscriber.outbox.flush()

    def _hand_to_one_behind(self, subscriber: Subscriber, record: StreamRecord) -> bool:
        if record.partition in subscriber.behind:
            return False
        after = SOURCES[record.partition.topic].after
        if after is not None and subscriber.is_behind_on(after):
            # Let it be found again once what comes before it is there.
            self._fall_behind(subscriber, record.partition, record.offset)
            return False
        return self.send_catch_up(subscriber, record, {})

    def _fall_behind(self, subscriber: Subscriber, partition: Partition, offset: int) -> None:
        subscriber.behind[partition] = offset
        self._waiting[partition][subscriber] = None
        self.wake(partition)

    # Catching up

    def waiting(self, partition: Partition) -> Sequence[Subscriber]:
        """Return the subscribers that are behind on *partition*, least recently served first."""
        return list(self._waiting[partition])

    def follow(self, partition: Partition) -> Tail:
        """Keep what is sent of *partition* from its position on, until `unfollow`."""
        tail = Tail(self.places.position(partition))
        self._tails[partition].append(tail)
        return tail

    def unfollow(self, partition: Partition, tail: Tail) -> None:
        """Keep no more."""
        self._tails[partition].remove(tail)

    def send_catch_up(self, subscriber: Subscriber, record: StreamRecord, message_cache: dict[object, Message]) -> bool:
        """
        Send the next record to *subscriber*, which is behind somewhere; False if it must not see it.

        *made* are the messages that are alike for others at the same places.
        """
        if record.partition in subscriber.behind:
            subscriber.behind[record.partition] = record.offset + 1
        if not subscriber.takes(record):
            return False
        stream = subscriber.key[0]  # with the record it says what is covered
        places = (
            stream,
            record.kept is None,
            record.partition,
            *(subscriber.behind.get(each, self.places.position(each)) for each in subscriber.covers),
        )
        message = message_cache.get(places)
        if message is None:
            message = message_cache[places] = record.message(self.cursor(subscriber))
        subscriber.outbox.put(message)
        self._flush[subscriber] = None
        return True

    def advance(self, subscriber: Subscriber, partition: Partition, offset: int) -> bool:
        """Note that *subscriber* was sent everything before *offset*; True if that makes it live there."""
        waiting = self._waiting[partition]
        if subscriber not in waiting:
            return True
        del waiting[subscriber]
        if offset == self.places.position(partition):
            del subscriber.behind[partition]
            for other in subscriber.behind:  # a trace record may have waited for this
                self.wake(other)
            return True
        subscriber.behind[partition] = offset
        waiting[subscriber] = None  # behind those that were not served
        return False
