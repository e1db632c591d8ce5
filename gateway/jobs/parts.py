"""The dependencies of the handlers of jobs."""

from dataclasses import dataclass

from gateway.http.feature import Shared
from gateway.http.waiting import Waiting
from gateway.jobs.changes import Changes
from gateway.jobs.intake import JobIntake
from gateway.jobs.known_queues import KnownQueues
from gateway.jobs.parsing.types import types_of
from gateway.jobs.settings import JobSettings
from gateway.jobs.store import JobStore
from gateway.kafka.backlog import Backlog
from gateway.kafka.followers import GroupFollower
from gateway.limits.throttle import Throttle
from schemas.jobs.topics import INTAKE
from schemas.jobs.types import TaskTypes


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParts:
    """The dependencies of the handlers of jobs."""

    shared: Shared
    store: JobStore
    intake: JobIntake
    changes: Changes
    queues: KnownQueues
    waiting: Waiting
    declared: str | None  # the setting that names task types of the installation

    @property
    def types(self) -> TaskTypes:
        """Return the task types."""
        return types_of(self.declared)

    @property
    def follower(self) -> GroupFollower:
        """Return the follower of the group that stores jobs."""
        return self.shared.followers[INTAKE.name]


def job_parts(
    shared: Shared,
    *,
    store: JobStore,
    throttle: Throttle,
    waiting: Waiting,
    settings: JobSettings,
) -> JobParts:
    """Return the dependencies of the handlers, made of what the gateway has."""

    def follower() -> GroupFollower:
        return shared.followers[INTAKE.name]

    return JobParts(
        shared=shared,
        store=store,
        intake=JobIntake(
            publisher=shared.publisher,
            throttle=throttle,
            store=store,
            backlog=Backlog(store.unfinished, follower, nouns="jobs", unfinished_max=settings.unfinished_max),
        ),
        changes=Changes(publisher=shared.publisher, store=store, log=shared.log, follower=follower),
        queues=KnownQueues(store),
        waiting=waiting,
        declared=settings.types.declared,
    )
