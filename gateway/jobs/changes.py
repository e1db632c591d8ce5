"""Commands that change jobs, queues and schedules: published, and waited for until intake has applied them."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from gateway.errors import StateForbids, StoreUnavailable
from gateway.http.waiting import has_passed
from gateway.jobs.command_records import command_record
from gateway.jobs.store import JobStore
from gateway.kafka.followers import GroupFollower
from gateway.kafka.publisher import Publisher
from gateway.kafka.reader import Log
from gateway.kafka.records import Stamp
from schemas.jobs.records import Command, record_id
from schemas.jobs.topics import JOB_COMMANDS
from schemas.kafka.partitioner import partition_of
from schemas.kafka.places import RecordPlace

WAIT_S = 2.0


def new_id() -> str:
    """Return a random id for a command, a schedule or an operation."""
    return str(uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The commands of this gateway; their group is `jobs.intake`."""

    publisher: Publisher
    store: JobStore
    log: Log
    follower: Callable[[], GroupFollower]

    async def apply(self, command: Command, stamp: Stamp) -> tuple[RecordPlace, bool]:
        """
        Publish a command; return its place, and True if intake has applied it within `WAIT_S`.

        Raises:
            StateForbids: intake has refused it.
            HttpError: it is not known to be in the log; see `Publisher.publish`.
        """
        place = await self.publisher.publish(command_record(command, stamp))
        if not await has_passed(self.follower(), place, log=self.log, timeout_s=WAIT_S):
            return place, False
        try:
            effect = await self.store.effect(command.tenant, place, record_id(command))
        except StoreUnavailable:
            return place, False
        if effect is not None and effect.outcome == "rejected":
            raise StateForbids(effect.detail or "refused")
        return place, True

    async def has_come_to(self, key: str) -> bool:
        """
        Return True if intake has committed past all that was in the log under *key* when this was asked, within
        `WAIT_S`: what is not stored then is not there.

        Raises:
            QueueFull, LogUnavailable: see `Log`.
        """
        edges = await self.log.edges(JOB_COMMANDS.name)
        if not edges:
            return False
        partition = partition_of(key.encode(), len(edges))
        edge = edges[partition]
        # What an open transaction holds back is there too, and intake comes to it later.
        end = edge.end + edge.undecided
        if end == 0:
            return True
        place = RecordPlace(JOB_COMMANDS.name, partition, end - 1)
        return await has_passed(self.follower(), place, log=self.log, timeout_s=WAIT_S)
