"""What a person may do to the group's offsets, or by mistake does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.admin import lag
from deploy.admin import topics as admin_topics
from tests.faults.checker import GROUP
from tests.faults.records import WITHIN_S
from tests.support.stack import RunningStack, wait_until


@contextmanager
def resetting(stack: RunningStack, offsets: Mapping[int, int]) -> Iterator[None]:
    """Commit *offsets* in the end, as a person does who has seen what the log still holds."""
    kafka = stack.kafka
    sent_back = admin_topics.committed(kafka, GROUP, GROUP.redrive)
    try:
        yield
    finally:
        places = [TopicPartition(GROUP.source.name, partition, offset) for partition, offset in offsets.items()]
        admin_topics.commit(kafka, GROUP, places + sent_back)


def forget_offsets(stack: RunningStack) -> None:
    """Delete the group, which must have no members."""
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    admin.delete_consumer_groups([GROUP.id])[GROUP.id].result(WITHIN_S)


def wait_for_every_group(stack: RunningStack, *, but: str = "") -> None:
    """Wait until every group of the cluster, *but* one by its name, has come to the end of its source."""
    behind: list[lag.PartitionLag] = []

    def is_there() -> bool:
        lags = [each for each in lag.measure(stack.kafka) if each.topic == GROUP.source.name]
        behind[:] = [each for each in lags if each.group != but and each.records != 0]
        return not behind

    try:
        wait_until(is_there, timeout_s=WITHIN_S, what="every group to have come to the end")
    except AssertionError as error:
        raise AssertionError(f"{error}; behind: {behind}") from None
