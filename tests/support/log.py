"""What is in a stack's log."""

from collections.abc import Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.kafka.clients import is_unreadable
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Topic
from tests.support.stack import RunningStack

WITHIN_S = 30.0


def ends(stack: RunningStack, topic: Topic) -> Mapping[int, int]:
    """Return where *topic* ends, by partition."""
    consumer = _consumer(stack)
    try:
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic.name, partition), timeout=WITHIN_S)[1]
            for partition in sorted(consumer.list_topics(topic.name, timeout=WITHIN_S).topics[topic.name].partitions)
        }
    finally:
        consumer.close()


def read_topic(stack: RunningStack, topic: Topic, starts: Mapping[int, int] | None = None) -> list[Message]:
    """Return every record of *topic* that can be read, from *starts* on, by partition, or from its beginning."""
    consumer = _consumer(stack)
    records: list[Message] = []
    for partition in consumer.list_topics(topic.name, timeout=WITHIN_S).topics[topic.name].partitions:
        start = OFFSET_BEGINNING if starts is None else starts[partition]
        consumer.assign([TopicPartition(topic.name, partition, start)])
        records += _to_the_end(consumer)
    consumer.close()
    return records


def read_record(stack: RunningStack, place: RecordPlace) -> Message:
    """Return the record at *place*."""
    consumer = _consumer(stack)
    consumer.assign([TopicPartition(place.topic, place.partition, place.offset)])
    message = consumer.poll(WITHIN_S)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message


def _consumer(stack: RunningStack) -> Consumer:
    return Consumer({"bootstrap.servers": stack.addresses.kafka, "group.id": "test", "enable.partition.eof": True})


def _to_the_end(consumer: Consumer) -> Iterator[Message]:
    """Yield the records of the one partition that is assigned; a read that stops halfway fails the test."""
    while (message := consumer.poll(WITHIN_S)) is not None:
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:  # it has no other name
            return
        elif is_unreadable(error):  # a test has written it on purpose
            consumer.seek(TopicPartition(message.topic(), message.partition(), message.offset() + 1))
        else:
            raise KafkaException(error)
    raise AssertionError(f"the log was not read to its end: nothing came for {WITHIN_S:.0f} s")
