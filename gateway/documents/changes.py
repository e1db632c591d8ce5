"""Commands that delete, change jobs or change collections: published, and waited for until intake has applied them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

from gateway.documents.command_records import command_record
from gateway.documents.shares import shares_of
from gateway.documents.store import DocumentStore
from gateway.errors import HttpError, LogUnavailable, StateForbids, StoreUnavailable
from gateway.http.waiting import has_passed
from gateway.kafka.bursts import publish_all
from gateway.kafka.followers import GroupFollower
from gateway.kafka.publisher import Publisher
from gateway.kafka.reader import Log
from gateway.kafka.records import Stamp
from schemas.documents.records import Command, record_id
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.kafka.places import RecordPlace

WAIT_S = 2.0


def new_id() -> str:
    """Return a random id for a command."""
    return str(uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChanges:
    """The commands of this gateway; their group is `documents.intake`."""

    publisher: Publisher
    store: DocumentStore
    log: Log
    follower: Callable[[], GroupFollower]
    clock_s: Callable[[], float] = monotonic

    async def apply(self, commands: Sequence[Command], stamp: Stamp) -> tuple[Sequence[RecordPlace], bool]:
        """
        Publish commands; return their places, and True if intake has applied all of them within `WAIT_S`.

        Raises:
            StateForbids: intake has refused one.
            HttpError: one is not known to be in the log; see `Publisher.publish`. The others may be.
        """
        places = await self.publish(commands, stamp)
        if not await self._has_passed(places):
            return places, False
        try:
            for command, place in zip(commands, places, strict=True):
                effect = await self.store.effect(command.tenant, place, record_id(command))
                if effect is not None and effect.outcome == "rejected":
                    raise StateForbids(effect.detail or "refused")
        except StoreUnavailable:
            return places, False
        return places, True

    async def publish(self, commands: Sequence[Command], stamp: Stamp) -> Sequence[RecordPlace]:
        """
        Publish commands; return their places.

        Raises:
            HttpError: one is not known to be in the log; see `Publisher.publish`. The others may be.
        """
        outcomes = await publish_all(self.publisher, [command_record(command, stamp) for command in commands])
        places: list[RecordPlace] = []
        for outcome in outcomes:
            if isinstance(outcome, HttpError):
                raise outcome
            places.append(outcome)
        return places

    async def shares(self, tenant: str, collection: str) -> Sequence[int]:
        """
        Return the shares of a command for a whole collection, one for each partition.

        Raises:
            QueueFull, LogUnavailable: see `Log`.
        """
        edges = await self.log.edges(DOCUMENT_COMMANDS.name)
        if not edges:
            raise LogUnavailable(f"Kafka has no topic {DOCUMENT_COMMANDS.name}")
        return shares_of(tenant, collection, len(edges))

    async def has_come_to_all(self) -> bool:
        """
        Return True if intake has committed past all that was in the log when this was asked, within `WAIT_S`: what is
        not stored then is not there.

        Raises:
            QueueFull, LogUnavailable: see `Log`.
        """
        edges = await self.log.edges(DOCUMENT_COMMANDS.name)
        # What an open transaction holds back is there too, and intake comes to it later.
        ends = {partition: edge.end + edge.undecided for partition, edge in edges.items()}
        places = [RecordPlace(DOCUMENT_COMMANDS.name, partition, end - 1) for partition, end in ends.items() if end]
        return bool(edges) and await self._has_passed(places)

    async def _has_passed(self, places: Sequence[RecordPlace]) -> bool:
        until_s = self.clock_s() + WAIT_S
        for place in places:
            left_s = max(0.0, until_s - self.clock_s())
            if not await has_passed(self.follower(), place, log=self.log, timeout_s=left_s):
                return False
        return True
