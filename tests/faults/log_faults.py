"""The faults of a soak in which the log itself loses or hides records: each is told by doctor while it lasts."""

import secrets
from random import Random
from time import monotonic

from confluent_kafka import Producer

from deploy.admin import lag
from schemas.runs.topics import RUN_EVENTS
from tests.faults.cut_log import cut_off, delete
from tests.faults.groups import wait_for_every_group
from tests.faults.load import Load
from tests.faults.processes import for_a_while
from tests.support.stack import RunningStack, wait_until

TOLD_WITHIN_S = 90.0
OPEN_S = (2.0, 6.0)


def last_record_cut_off(stack: RunningStack, load: Load, random: Random) -> float:
    """
    Cut the last record, which every group has handled, off a partition: what a power cut leaves.

    The gateway's producer fails for good by it, and positions outlive their log.
    """
    with load.paused():
        wait_for_every_group(stack)
        ends = {each.partition: each.end for each in lag.measure(stack.kafka) if each.topic == RUN_EVENTS.name}
        partition = random.choice(sorted(each for each, end in ends.items() if end > 1))
        struck_s = monotonic()
        with cut_off(stack, RUN_EVENTS.name, partition, before=ends[partition] - 1):
            pass
        stack.wait_ready("kafka")
        wait_told(stack, "the log ends before what was committed")
    load.wait_for(20)
    stack.command("topics", "accept", "--yes")
    return struck_s


def topic_recreated(stack: RunningStack, load: Load, _random: Random) -> float:
    """Delete run.events, whose records every group has handled, and create it again under the running stack."""
    with load.paused():
        wait_for_every_group(stack)
        struck_s = monotonic()
        delete(stack, RUN_EVENTS.name)
        stack.attempt("topics", "create")  # its groups have members: it makes the topic, and says what to do
        wait_told(stack, "deleted and created again")
    load.wait_for(20)
    stack.command("topics", "accept", "--yes")
    return struck_s


def transaction_left_open(stack: RunningStack, load: Load, random: Random) -> float:
    """Begin a transaction on run.events, as a direct producer may, and abort it a while later."""
    config = {"bootstrap.servers": stack.addresses.kafka, "transactional.id": secrets.token_hex(4), "log_level": 0}
    producer = Producer(config)
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(RUN_EVENTS.name, b"never to be seen", b"k", partition=random.randrange(8))
    producer.flush()
    load.wait_for(20)
    wait_told(stack, "hidden from every group by an open transaction")
    for_a_while(random.uniform(*OPEN_S))
    producer.abort_transaction()
    return monotonic()


def wait_told(stack: RunningStack, text: str) -> None:
    """Wait until doctor says *text*, and fails."""

    def is_told() -> bool:
        done = stack.attempt("doctor", "--json")
        return done.returncode == 1 and text in done.stdout

    wait_until(is_told, timeout_s=TOLD_WITHIN_S, what=f"doctor to say {text!r}")
