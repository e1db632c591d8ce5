"""The settings of a consumer that only looks: it joins no group and commits nothing."""

from typing import Any

from confluent_kafka import Consumer

REQUEST_S = 2.0
FETCH_WAIT_MS = 10  # a fetch that waits for news holds up the next look
QUEUED_KIB_MAX = 16 * 1024


def looking_consumer(bootstrap: str, *, group_id: str) -> Consumer:
    """A consumer that may ask what *group_id* has committed, and may read from places it is given."""
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": group_id,
        "client.id": "tidegate-gateway",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "queued.max.messages.kbytes": QUEUED_KIB_MAX,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 0,  # that the broker is away is said by the publisher
        "error_cb": lambda _error: None,
    }
    return Consumer(config)
