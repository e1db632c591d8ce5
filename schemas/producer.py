"""
How every writer of ours produces: what no process may choose for itself.

Why murmur2_random: librdkafka hashes keys with CRC32 by default, Java and aiokafka with murmur2; with two
hashes one run would lie in two partitions and lose its order.
"""

from schemas.topics import RECORD_BYTES_MAX

DELIVERY_TIMEOUT_MS = 5 * 60 * 1000
# How long a connection that has gone half-open is believed in; librdkafka's 60 s would prolong an outage by as much.
ANSWER_TIMEOUT_MS = 10_000


def producer_config(
    bootstrap: str, *, client_id: str, linger_ms: float = 1.0, record_bytes_max: int = RECORD_BYTES_MAX
) -> dict[str, str | int | float | bool]:
    """Settings of a confluent producer whose delivery reports can be trusted."""
    return {
        "bootstrap.servers": bootstrap,
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
