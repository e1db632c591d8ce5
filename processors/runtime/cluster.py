"""What a worker asks a cluster before it starts."""

import asyncio
from collections.abc import Set as AbstractSet

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from processors.runtime.errors import Transient

ANSWER_S = 10.0


async def topic_names(bootstrap: str) -> AbstractSet[str]:
    """
    Every topic of the cluster.

    Raises:
        Transient: no broker answers.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": lambda _error: None})
    try:
        # It blocks, so on a thread.
        return (await asyncio.to_thread(admin.list_topics, timeout=ANSWER_S)).topics.keys()
    except KafkaException as error:
        raise Transient(f"Kafka does not answer: {error}") from error
