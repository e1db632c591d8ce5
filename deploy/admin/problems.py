"""Problems of the log, the groups, the archive and the webhook endpoints, each with its remedy."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from deploy.admin.lag import PartitionLag
from deploy.errors import CommandFailed
from deploy.log.dead_letters import Selection, waiting
from schemas.archive.topics import archived_topic
from schemas.catalogue import find_group
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.positions import EXPLANATIONS, WAY_ON
from schemas.kafka.topics import Group
from schemas.kafka.transactions import TransactionsUnknown, open_transactions
from schemas.pacing.breaker import BreakerState
from schemas.runs.records import EndpointState

TIMEOUT_S = 3.0
DAY_S = 86_400


def of_positions(lags: Iterable[PartitionLag]) -> Iterator[str]:
    """Return positions that have outlived the log, that are missing, or whose records have expired."""
    for each in lags:
        place = f"{each.topic}/{each.partition}"
        if each.fault is not None:
            yield f"{each.group} is stopped at {place}, offset {each.committed}: {EXPLANATIONS[each.fault]}; {WAY_ON}"
        if each.committed is None:
            yield f"{each.group} has no offset for {place}: run `tidegate topics create`"
        if each.expired:
            yield (
                f"{each.expired} records of {place} expired before {each.group} handled them, so it is stopped: reset "
                "its offset with Kafka's tools once you know what is lost"
            )


def of_archive(lags: Iterable[PartitionLag]) -> Iterator[str]:
    """Return partitions whose archive is behind by more than half of the time for which the log keeps records."""
    for each in lags:
        group = find_group(each.group)
        if group is None or archived_topic(group) != each.topic or group.source.retention_ms is None:
            continue
        kept_s = group.source.retention_ms / 1000
        if each.seconds is not None and each.seconds > kept_s / 2:
            yield (
                f"{each.group} is {each.seconds / DAY_S:.1f} days behind in {each.topic}/{each.partition}, and the log "
                f"keeps records for {kept_s / DAY_S:.0f}: see `tidegate logs {each.group}`"
            )


def of_transactions(kafka: KafkaSettings, lags: Iterable[PartitionLag]) -> Iterator[str]:
    """Open transactions of direct producers, which hide every record behind their first one from all groups."""
    hidden = {(each.topic, each.partition): each.undecided for each in lags if each.undecided}
    for (topic, partition), count in hidden.items():
        who = _who(kafka, topic, partition)
        yield (
            f"{count} records of {topic}/{partition} are hidden from every group by an open transaction{who}: let its "
            "producer commit or abort it, or wait until it times out"
        )


def _who(kafka: KafkaSettings, topic: str, partition: int) -> str:
    try:
        found = asyncio.run(open_transactions(kafka, Partition(topic, partition), timeout_s=TIMEOUT_S))
    except TransactionsUnknown:
        return ""
    if not found:
        return ""
    return f" of producer {found[0].producer_id}, last written at {found[0].last_written_at:%Y-%m-%d %H:%M:%S} UTC"


def of_dead_letters(kafka: KafkaSettings, groups: Iterable[Group]) -> Iterator[str]:
    """Return dead letters that nobody has settled. Raises NotReachable, CommandFailed."""
    for group in groups:
        if count := sum(1 for _ in waiting(kafka, group, Selection())):
            yield f"{count} dead letters of {group.name} wait: see `tidegate dlq list --group {group.name}`"


def of_endpoints(states: Mapping[str, EndpointState]) -> Iterator[str]:
    """Return webhook endpoints that are not sent to."""
    for name, state in sorted(states.items()):
        reason = f" ({state.reason})" if state.reason else ""
        if state.breaker is BreakerState.DISABLED:
            yield f"endpoint {name} is disabled{reason}: run `tidegate endpoints enable {name}` once it takes events"
        elif state.breaker is not BreakerState.CLOSED:
            yield f"the circuit breaker of endpoint {name} is {state.breaker.value}{reason}: its events wait"


def demand_none(problems: Iterable[str], otherwise: str) -> str:
    """Return *otherwise*; raises Failed with all of *problems* if there is any."""
    if found := list(problems):
        raise CommandFailed("; ".join(found))
    return otherwise
