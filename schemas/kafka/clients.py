"""
Settings of the Kafka clients: what no process may choose for itself.

A producer's delivery reports can be trusted. A consumer that only looks joins no group, commits nothing and makes no
topic: it reads from places that it is given, and may ask what its group has committed.

Why murmur2_random: librdkafka hashes keys with CRC32 by default, Java and aiokafka with murmur2; with two hashes one
run would lie in two partitions and lose its order.
"""

from confluent_kafka import KafkaError, Message

from schemas.kafka.connection import KafkaSettings, confluent_options
from schemas.kafka.topics import RECORD_BYTES_MAX

DELIVERY_TIMEOUT_MS = 5 * 60 * 1000
# How long a connection that has gone half-open is believed in; librdkafka's 60 s would prolong an outage by as much.
ANSWER_TIMEOUT_MS = 10_000

MIB = 1024 * 1024
FETCH_BYTES_MAX = 16 * MIB  # above any batch of a topic of ours
# Also the bound to which the client inflates zstd; of the other codings it has none.
ANSWER_BYTES_MAX = 32 * MIB
FETCH_WAIT_MS = 10  # a fetch that waits for news holds up the next look
FOLLOW_WAIT_MS = 500  # of a consumer that stays where it is: else a hundred fetches a second find nothing
QUEUED_KIB_MAX = 16 * 1024
FULL_WAIT_MS = 10  # until it is fetched on after so much was queued; librdkafka's second would be most of a look
RECONNECT_MS_MAX = 1_000


def producer_config(
    kafka: KafkaSettings, *, client_id: str, linger_ms: float = 1.0, record_bytes_max: int = RECORD_BYTES_MAX
) -> dict[str, str | int | float | bool]:
    """Return settings of a confluent producer whose delivery reports can be trusted."""
    return {
        **confluent_options(kafka),
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.timeout.ms": DELIVERY_TIMEOUT_MS,
        "socket.timeout.ms": ANSWER_TIMEOUT_MS,
        "message.max.bytes": record_bytes_max,
        "compression.type": "lz4",
        "linger.ms": linger_ms,
        "allow.auto.create.topics": False,
    }


def looking_config(kafka: KafkaSettings, *, group_id: str, client_id: str, follows: bool = False) -> dict[str, object]:
    """
    Return settings of a confluent consumer that looks; a place that has expired is an error to it.

    One that *follows* stays with its partitions and waits for what is written.
    """
    return {
        **confluent_options(kafka),
        "group.id": group_id,
        "client.id": client_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "fetch.max.bytes": FETCH_BYTES_MAX,
        "receive.message.max.bytes": ANSWER_BYTES_MAX,
        "fetch.wait.max.ms": FOLLOW_WAIT_MS if follows else FETCH_WAIT_MS,
        "queued.max.messages.kbytes": QUEUED_KIB_MAX,
        "fetch.queue.backoff.ms": FULL_WAIT_MS,
        "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
        "log_level": 0,  # that the broker is away is said by who asks
        "error_cb": lambda _error: None,
    }


def is_unreadable(error: KafkaError) -> bool:
    """
    Return True if *error* says that a record is there that can never be read: its batch does not inflate, or to too
    much.

    The message that carries it has the record's place. The client tries it again for ever; seek past it.
    """
    return error.code() in (KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG)  # noqa: SLF001  # their public spelling


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """Return the headers of *message*; none where the name of one is not UTF-8, which any producer may write."""
    try:
        return list(message.headers() or ())
    except UnicodeDecodeError:
        return []
