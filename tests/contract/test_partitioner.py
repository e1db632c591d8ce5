"""Two clients and our own code, one partition a key: else a run would lie in two partitions and lose its order."""

import random

from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.kafka.clients import producer_config
from schemas.kafka.partitioner import partition_of
from tests.support.stack import RunningStack

KEYS = 1000
PARTITIONS = 12


def test_a_thousand_keys_map_alike_everywhere(stack: RunningStack) -> None:
    topic = f"test.partitioner.{random.randrange(10**9)}"
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    keys = [f"run-{random.getrandbits(64):x}".encode() for _ in range(KEYS // 2)]
    keys += [random.randbytes(random.randrange(1, 129)) for _ in range(KEYS // 2)]  # every tail of a block, high bits
    placed: dict[bytes, int] = {}

    def report(error: object, message: Message) -> None:
        assert error is None
        placed[message.key() or b""] = message.partition()  # type: ignore[assignment,index]

    producer = Producer(producer_config(stack.kafka, client_id="test"))
    for key in keys:
        producer.produce(topic, key=key, value=b"", on_delivery=report)
    assert producer.flush(30) == 0
    admin.delete_topics([topic])
    partitions = list(range(PARTITIONS))
    expected = {key: DefaultPartitioner()(key, partitions, partitions) for key in keys}
    assert placed == expected == {key: partition_of(key, PARTITIONS) for key in keys}
